// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The command line of hipattn-recall.
#ifndef HIPATTN_BENCH_RECALL_RECALL_OPTIONS_H_
#define HIPATTN_BENCH_RECALL_RECALL_OPTIONS_H_

#include "fact.h"
#include "setting.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace recall_bench {

struct RecallOptions {
  std::string model;
  std::string text;
  std::string out;
  std::string summary;

  uint64_t facts = 8;
  FactOptions fact;
  uint32_t tokens = 7168;
  uint32_t answer_tokens = 8;
  bool keep_wrong = false;  // measure facts that dense answers wrong, too

  std::vector<std::string> settings;  // as given, or the default list
  SettingDefaults defaults;
  std::string patterns;  // file for settings with prefill=patterns; empty: none

  uint32_t jobs = 1;
  bool quiet = false;
};

// Fills `options`. A value is the exit code of a program that is done: 0 after --help, 2 after a
// wrong command line, which is then explained on stderr.
std::optional<int> ParseRecallOptions(int argc, char** argv, RecallOptions* options);

}  // namespace recall_bench

#endif  // HIPATTN_BENCH_RECALL_RECALL_OPTIONS_H_
