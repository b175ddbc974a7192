// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "progress.h"

#include <unistd.h>

#include <cstdio>
#include <utility>

namespace hipattn_run {
namespace {

constexpr double kTerminalSeconds = 0.2;
constexpr double kLogSeconds = 3.0;

}  // namespace

Progress::Progress(std::string what, uint64_t total, bool silent)
    : what_(std::move(what)),
      total_(total),
      silent_(silent),
      terminal_(::isatty(STDERR_FILENO) == 1),
      begin_(Clock::now()),
      shown_(begin_) {}

Progress::~Progress() {
  if (line_open_) {
    std::fputs("\r\x1b[K", stderr);
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
  std::fprintf(stderr,
               "%s%s: %llu of %llu tokens, %.0f tok/s, %.0f s left%s",
               terminal_ ? "\r" : "",
               what_.c_str(),
               static_cast<unsigned long long>(done),
               static_cast<unsigned long long>(total_),
               speed,
               left,
               terminal_ ? "\x1b[K" : "\n");
  std::fflush(stderr);
  line_open_ = terminal_;
}

}  // namespace hipattn_run
