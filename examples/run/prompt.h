// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// From the command line to the tokens the model reads: prompt, document and question, the fact
// hidden in the document, the chat template, the token that begins a text.
#ifndef HIPATTN_EXAMPLES_RUN_PROMPT_H_
#define HIPATTN_EXAMPLES_RUN_PROMPT_H_

#include "chat_template.h"
#include "options.h"
#include "result.h"
#include "tokenizer.h"

#include <cstdint>
#include <string>
#include <vector>

namespace hipattn_run {

// Fails for a document that is missing, empty or not UTF-8, and for a question that alone is longer
// than `trained_tokens`.
Result<std::vector<int32_t>> MakePrompt(const Options& options,
                                        const ChatTemplate& chat_template,
                                        size_t trained_tokens,
                                        Tokenizer& tokenizer);

// `document` with `fact` as a line of its own, after the first line break behind share `at`.
std::string InsertFact(const std::string& document, const std::string& fact, double at);

}  // namespace hipattn_run

#endif  // HIPATTN_EXAMPLES_RUN_PROMPT_H_
