#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The hipattn authors
"""Records what SentencePiece makes of some texts, for tests/run/pieces_test.cc, which needs no Python.

    pip install sentencepiece
    tests/run/record_sentencepiece.py --text TEXT --write tests/run/expectations/sentencepiece_bpe.json

Trains a small BPE model with byte fallback on the first 200 KB of the text, as the models of the Llama family were made:
identity normalisation, a space before the text, white space kept.
"""
import argparse
import io
import json
import pathlib

import sentencepiece

CASES = ("", " ", "a", "the", " the", "In the beginning God created the heaven and the earth.",
         "two  spaces   and\ttabs\n\nlines", "unto unto unto", "caf\u00e9 \u4e2d\u6587 \U0001f600 na\u00efve",
         "12 345 6789", "zzzzzzzzzzqqqqqqqq", "xylophone's <s> </s> <unk> ok", "  leading and trailing  ",
         "And God said, Let there be light: and there was light.", "thththththeheheheinininin")


def piece_type(model, i):
    if model.IsUnknown(i):
        return 2
    if model.IsControl(i):
        return 3
    return 6 if model.IsByte(i) else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", required=True, type=pathlib.Path)
    parser.add_argument("--write", required=True, type=pathlib.Path)
    options = parser.parse_args()
    lines = options.text.read_text(encoding="utf-8")[:200_000].splitlines()
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=trained, vocab_size=700, model_type="bpe", byte_fallback=True,
        normalization_rule_name="identity", add_dummy_prefix=True, remove_extra_whitespaces=False,
        split_digits=True, num_threads=1, minloglevel=2)
    model = sentencepiece.SentencePieceProcessor(model_proto=trained.getvalue())
    size = model.GetPieceSize()
    # Special tokens in the text are hipattn-run's to find; SentencePiece sees what lies between them.
    cases = [{"text": text, "tokens": model.Encode(text)} for text in CASES if "<s>" not in text]
    recorded = {"pieces": [model.IdToPiece(i) for i in range(size)], "scores": [model.GetScore(i) for i in range(size)],
                "types": [piece_type(model, i) for i in range(size)], "cases": cases}
    options.write.write_text(json.dumps(recorded, ensure_ascii=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
