// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Cuts text into the words that byte-pair merges do not cross, by the regular expressions that
// belong to the name in `tokenizer.ggml.pre`. Several expressions act one after the other: each
// cuts the pieces of the one before it; what an expression does not match is a piece as well.
#ifndef HIPATTN_EXAMPLES_RUN_PRETOKENIZER_H_
#define HIPATTN_EXAMPLES_RUN_PRETOKENIZER_H_

#include "result.h"

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace hipattn_run {

class Pretokenizer {
 public:
  // Fails for a name this program does not know.
  static Result<Pretokenizer> Create(std::string_view name);

  // Calls `visit` for each word, in order; together they are the whole text. `text` is UTF-8.
  Status Split(std::string_view text, const std::function<void(std::string_view)>& visit) const;

  // Whether a word that is a token is taken whole, whatever the merges say.
  bool whole_words_first() const { return whole_words_first_; }

 private:
  struct Expression;
  Pretokenizer() = default;
  Status SplitFrom(size_t level,
                   std::string_view text,
                   const std::function<void(std::string_view)>& visit) const;

  std::vector<std::shared_ptr<const Expression>> expressions_;
  bool whole_words_first_ = false;
};

}  // namespace hipattn_run

#endif  // HIPATTN_EXAMPLES_RUN_PRETOKENIZER_H_
