// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What the results of many facts say about each setting.
#ifndef HIPATTN_BENCH_RECALL_SUMMARY_H_
#define HIPATTN_BENCH_RECALL_SUMMARY_H_

#include "results_file.h"
#include "setting.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace recall_bench {

struct Interval {
  double low = 0;
  double high = 1;
};

// Wilson's score interval of a share, `right` of `count`, with 95 % confidence (E. B. Wilson,
// 1927). Nothing counted: [0, 1].
Interval WilsonInterval(uint64_t right, uint64_t count);

// Over the first num_facts facts: answers are counted where dense is right, everything else is a
// mean over these facts or, with keep_wrong, over all. A mean of nothing is null.
nlohmann::json Summarize(const ResultsFile::Results& results,
                         const std::vector<Setting>& settings,
                         uint64_t num_facts,
                         bool keep_wrong);

// One line per setting, for people.
std::string FormatSummary(const nlohmann::json& summary);

}  // namespace recall_bench

#endif  // HIPATTN_BENCH_RECALL_SUMMARY_H_
