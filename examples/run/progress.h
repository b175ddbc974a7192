// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Says on stderr how far a long loop is: one line that is rewritten on a terminal, otherwise a line
// every few seconds. Short loops stay silent.
#ifndef HIPATTN_EXAMPLES_RUN_PROGRESS_H_
#define HIPATTN_EXAMPLES_RUN_PROGRESS_H_

#include <chrono>
#include <cstdint>
#include <string>

namespace hipattn_run {

class Progress {
 public:
  // `what` stands before the numbers, `unit` behind them; with `silent` nothing is ever printed.
  Progress(std::string what, uint64_t total, bool silent, std::string unit = "tokens");
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void Update(uint64_t done);

 private:
  using Clock = std::chrono::steady_clock;

  std::string what_;
  std::string unit_;
  uint64_t total_;
  bool silent_;
  bool terminal_;
  bool line_open_ = false;
  Clock::time_point begin_;
  Clock::time_point shown_;
};

}  // namespace hipattn_run

#endif  // HIPATTN_EXAMPLES_RUN_PROGRESS_H_
