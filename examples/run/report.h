// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What a run measured, as a JSON file and as text for people.
#ifndef HIPATTN_EXAMPLES_RUN_REPORT_H_
#define HIPATTN_EXAMPLES_RUN_REPORT_H_

#include "result.h"
#include "session.h"

#include <cstdint>
#include <string>
#include <vector>

namespace hipattn_run {

struct NamedAnswer {
  std::string attention;  // "auto", "dense" or "sparse"
  Answer answer;
};

struct Report {
  size_t threads = 0;
  uint64_t depth = 0;  // random tokens before the prompt
  size_t prompt_tokens = 0;
  std::vector<Reading> readings;
  std::vector<NamedAnswer> answers;
};

// One answer: its fields stand at the top of the object. Several: the first one's do, and all are
// in "answers"; likewise readings and "prefills". Fails if the file does not hold everything
// afterwards.
Status WriteJson(const Report& report, const std::string& path);

// Small tables with one line per answer and, if there are several, per reading.
std::string FormatSummary(const Report& report);

}  // namespace hipattn_run

#endif  // HIPATTN_EXAMPLES_RUN_REPORT_H_
