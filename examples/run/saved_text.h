// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// A prompt's text as a snapshot file (--save-text, --load-text): the tokens before the question, so
// that other questions may be asked of it. The last token of a prompt is never saved: the answer
// begins with its prediction.
#ifndef HIPATTN_EXAMPLES_RUN_SAVED_TEXT_H_
#define HIPATTN_EXAMPLES_RUN_SAVED_TEXT_H_

#include "attention.h"
#include "gguf.h"
#include "result.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace hipattn_run {

// How many tokens of the prompt are saved; `without_question` is the same prompt without one, equal
// to `prompt` where none was asked. 0 = the prompt has too few.
size_t SavedTokens(std::span<const int32_t> prompt, std::span<const int32_t> without_question);

// The model's size and parts of its weights, then the tokens.
std::vector<std::byte> TextFingerprint(const GgufFile& model, std::span<const int32_t> tokens);

Status SaveText(const Sequence& sequence,
                const std::string& path,
                std::span<const std::byte> fingerprint);

// The text that SaveText wrote, with these attention options.
Result<Sequence> LoadText(const Engine& engine,
                          const std::string& path,
                          std::span<const std::byte> fingerprint,
                          const hipattn_attention_options_t& options);

}  // namespace hipattn_run

#endif  // HIPATTN_EXAMPLES_RUN_SAVED_TEXT_H_
