// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The command line of hipattn-search.
#ifndef HIPATTN_BENCH_SEARCH_SEARCH_OPTIONS_H_
#define HIPATTN_BENCH_SEARCH_SEARCH_OPTIONS_H_

#include "core/pattern/candidate_score.h"
#include "core/pattern/head_pattern.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace pattern_search {

// A head of the model.
struct HeadPlace {
  uint32_t layer = 0;
  uint32_t head = 0;
};

struct SearchOptions {
  std::string model;
  std::string text;
  uint32_t tokens = 4096;
  std::string out;

  // The library's table, what the command line adds, and kDensePattern at the end.
  std::vector<hipattn::core::HeadPattern> candidates;
  hipattn::core::ChooseBy objective = hipattn::core::ChooseBy::kCost;
  double bound = 0;
  double refine = 0;  // recall up to which lines are added; 0: as they are
  bool measured_costs = true;
  uint32_t first_row = 0;

  std::vector<HeadPlace> picture_heads;
  std::string pictures;

  uint32_t jobs = 1;
  bool quiet = false;
};

// Dense attention, as a pattern file can say it: sinks that cover every text.
inline constexpr hipattn::core::HeadPattern kDensePattern = {
    hipattn::core::PatternType::kAShape, 1U << 24, 1U << 24};

// "vertical-slash 30,800", the names of hipattn-run --prefill; "dense" for kDensePattern.
std::string PatternLabel(const hipattn::core::HeadPattern& pattern);
// "error", "recall" or "cost".
std::string ObjectiveName(hipattn::core::ChooseBy objective);

// Fills `options`. A value is the exit code of a program that is done: 0 after --help, 2 after a
// wrong command line, which is then explained on stderr.
std::optional<int> ParseSearchOptions(int argc, char** argv, SearchOptions* options);

}  // namespace pattern_search

#endif  // HIPATTN_BENCH_SEARCH_SEARCH_OPTIONS_H_
