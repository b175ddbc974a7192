#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The hipattn authors
"""Compares hipattn-run with transformers: prompt tokens and greedy answers on the same GGUF file, dequantised.

    pip install torch transformers gguf accelerate
    tests/run/check_against_transformers.py --program build/examples/run/hipattn-run --model MODEL.gguf

Prints one line per prompt and exits with 1 if anything differs. With --write FILE, what transformers gave is recorded
for tests/run/expectations_test.cc, which needs no Python.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

VERSES = """Ge1:1 In the beginning God created the heaven and the earth.
Ge1:2 And the earth was without form, and void; and darkness was upon the face of the deep. And the Spirit of God moved upon the face of the waters.
Ge1:3 And God said, Let there be light: and there was light.
Ge1:4 And God saw the light, that it was good: and God divided the light from the darkness.
Ge1:5 And God called the light Day, and the darkness he called Night. And the evening and the morning were the first day.
"""

# (name, text, raw: no chat template)
PROMPTS = [
    ("capital", "What is the capital of France?", False),
    ("list", "Name three fruits and say what colour they are.", False),
    ("code", "Write a Python function that adds two numbers.\n\n```python\n", False),
    ("numbers", "Continue: 1, 2, 3, 5, 8, 13, 21, 2024, 31415", False),
    ("accents", "Traduis en fran\u00e7ais: \u201cGood morning, caf\u00e9 na\u00efve\u201d \u2013 \u00fcber \u4f60\u597d \U0001f600", False),
    ("spaces", "A  line with   spaces\n\n\n  and\ttabs   \n", False),
    ("verses", VERSES + "\nWho divided the light from the darkness?", False),
    ("raw", "Once upon a time there was a small village by the sea, and", True),
    ("raw_verses", VERSES, True),
    ("long", "Repeat the last word. " + "The quick brown fox jumps over the lazy dog. " * 40, False),
]


def transformers_answers(model_path, max_new_tokens):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = pathlib.Path(model_path)
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    for name, text, raw in PROMPTS:
        if not raw:
            text_in = tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True)
        else:
            text_in = text
        inputs = tokenizer(text_in, return_tensors="pt", add_special_tokens=False)
        tokens = inputs.input_ids[0].tolist()
        output = model.generate(
            input_ids=inputs.input_ids, attention_mask=inputs.attention_mask, max_new_tokens=max_new_tokens,
            do_sample=False, output_logits=True, return_dict_in_generate=True)
        new = output.sequences[0, len(tokens):].tolist()
        # How close the second choice ever came: below about 0.01 the order is a matter of rounding.
        gap = min(float((top[0, 0] - top[0, 1])) for top in (l.topk(2).values for l in output.logits))
        end = tokenizer.eos_token_id
        if new and new[-1] == end:
            new.pop()
        yield {"name": name, "raw": raw, "prompt": text, "prompt_tokens": tokens, "new_tokens": new,
               "smallest_gap": round(gap, 4)}


def run(program, model, case, *arguments):
    command = [program, "--model", model, "--prompt", case["prompt"], *arguments]
    if case["raw"]:
        command.append("--raw")
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def check(program, model, case, max_new_tokens, kv_dtype):
    tokens = [int(line) for line in run(program, model, case, "--dump-tokens").split()]
    if tokens != case["prompt_tokens"]:
        return "prompt tokens differ"
    with tempfile.TemporaryDirectory() as folder:
        result = pathlib.Path(folder) / "result.json"
        run(program, model, case, "--attention", "dense", "--kv-dtype", kv_dtype, "--json", str(result),
            "--max-new-tokens", str(max_new_tokens))
        got = json.loads(result.read_text())["token_ids"]
    same = next((i for i, (a, b) in enumerate(zip(got, case["new_tokens"])) if a != b), None)
    if got == case["new_tokens"]:
        return None
    return f"answers differ from token {same if same is not None else min(len(got), len(case['new_tokens']))} on"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--max-new-tokens", type=int, default=48)
    parser.add_argument("--kv-dtype", default="f32")
    parser.add_argument("--write", metavar="FILE", help="record what transformers gave")
    options = parser.parse_args()

    cases = []
    failures = 0
    for case in transformers_answers(options.model, options.max_new_tokens):
        cases.append(case)
        problem = check(options.program, options.model, case, options.max_new_tokens, options.kv_dtype)
        failures += problem is not None
        print(f"{case['name']:12} {len(case['prompt_tokens']):5} + {len(case['new_tokens']):3} tokens, "
              f"smallest gap {case['smallest_gap']:.4f}: {problem or 'equal'}", flush=True)
    if options.write:
        recorded = {"model": pathlib.Path(options.model).name, "max_new_tokens": options.max_new_tokens, "cases": cases}
        text = json.dumps(recorded, indent=1, ensure_ascii=True)
        pathlib.Path(options.write).write_text(text + "\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
