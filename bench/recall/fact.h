// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Facts to hide in a text: "The secret number of Oslo is 41325." with the question for it, and
// distractors, which say the same of other names, so that nothing but the right place answers. A
// fact depends on the seed and its number alone: a longer run begins with the facts of a shorter
// one.
#ifndef HIPATTN_BENCH_RECALL_FACT_H_
#define HIPATTN_BENCH_RECALL_FACT_H_

#include "result.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace recall_bench {

using hipattn_run::Result;
using hipattn_run::Status;

struct Hidden {
  std::string statement;
  double depth = 0;  // share of the text before it
};

struct Fact {
  std::string form;   // which kind of sentence it is
  std::string name;   // what the question asks about
  std::string value;  // a right answer contains it
  Hidden hidden;
  std::vector<Hidden> distractors;
  std::string question;  // ends where the answer has to begin
  double slice = 0;      // which part of the text hides it: share of the places where one can begin
};

// All forms there are, for --form.
std::vector<std::string> FactForms();

struct FactOptions {
  uint64_t seed = 1;
  uint32_t distractors = 2;        // at most kMaxDistractors
  std::vector<std::string> forms;  // of FactForms(); none = all
};
constexpr uint32_t kMaxDistractors = 16;

Fact MakeFact(const FactOptions& options, uint64_t index);

// A fact hidden in a text, as tokens.
struct Prompt {
  std::vector<int32_t> tokens;    // what is read before the question
  std::vector<int32_t> question;  // decoded token by token
  size_t fact_begin = 0;          // the fact is tokens [fact_begin, fact_end)
  size_t fact_end = 0;
};

using Encode = std::function<Result<std::vector<int32_t>>(std::string_view)>;

struct PromptShape {
  size_t total_tokens = 0;       // text, facts, question and answer together
  size_t answer_tokens = 0;      // room for the answer
  std::optional<int32_t> bos{};  // what the model wants before any text
};

// Hides the fact and its distractors in a slice of `text`. Fails when the text or total_tokens is
// too short.
Result<Prompt> HideFact(const Fact& fact,
                        const std::vector<int32_t>& text,
                        const PromptShape& shape,
                        const Encode& encode);

}  // namespace recall_bench

#endif  // HIPATTN_BENCH_RECALL_FACT_H_
