// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The vocabularies of SentencePiece's BPE models, tokenizer.ggml.model = "llama": pieces are text
// with U+2581 for a space, and a score decides which neighbours join first. (Sennrich et al., arXiv
// 1508.07909; SentencePiece, arXiv 1808.06226.) Merges are found for byte-pair merging (bpe.h) from
// the pieces themselves: every way to cut a piece into two others is one.
#ifndef HIPATTN_EXAMPLES_RUN_PIECES_H_
#define HIPATTN_EXAMPLES_RUN_PIECES_H_

#include "bpe.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace hipattn_run {

// The text that a piece stands for.
std::string TextOfPiece(std::string_view piece);

// The byte that a piece of type BYTE stands for, as "<0x0A>".
std::optional<uint8_t> ByteOfPiece(std::string_view piece);

// Adds the merges that give `text`, which is `token`; find(part) is the token of a text, or
// nothing.
void AddMergesOf(std::string_view text,
                 int32_t token,
                 float score,
                 const std::function<std::optional<int32_t>(std::string_view)>& find,
                 MergeTable* merges);

}  // namespace hipattn_run

#endif  // HIPATTN_EXAMPLES_RUN_PIECES_H_
