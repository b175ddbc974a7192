// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "progress.h"

#include "result.h"

#include <unistd.h>

#include <cmath>
#include <iostream>
#include <utility>

namespace hipattn_run {
namespace {

constexpr double kTerminalSeconds = 0.2;
constexpr double kLogSeconds = 3.0;

}  // namespace

Progress::Progress(std::string what, uint64_t total, bool silent, std::string unit)
    : what_(std::move(what)),
      unit_(std::move(unit)),
      total_(total),
      silent_(silent),
      terminal_(::isatty(STDERR_FILENO) == 1),
      begin_(Clock::now()),
      shown_(begin_) {}

Progress::~Progress() {
  if (line_open_) {
    std::cerr << "\r\x1b[K" << std::flush;
  }
}

void Progress::Update(uint64_t done) {
  const Clock::time_point now = Clock::now();
  const double since_shown = std::chrono::duration<double>(now - shown_).count();
  if (silent_ || done == 0 || since_shown < (terminal_ ? kTerminalSeconds : kLogSeconds)) {
    return;
  }
  shown_ = now;
  const double seconds = std::chrono::duration<double>(now - begin_).count();
  const double speed = static_cast<double>(done) / seconds;
  const double left = static_cast<double>(total_ - done) / speed;
  const std::string line = Concat(what_,
                                  ": ",
                                  done,
                                  " of ",
                                  total_,
                                  " ",
                                  unit_,
                                  ", ",
                                  std::llround(speed),
                                  " ",
                                  unit_,
                                  "/s, ",
                                  std::llround(left),
                                  " s left");
  std::cerr << (terminal_ ? "\r" + line + "\x1b[K" : line + "\n") << std::flush;
  line_open_ = terminal_;
}

}  // namespace hipattn_run
