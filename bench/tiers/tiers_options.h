// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The command line of hipattn-tiers.
#ifndef HIPATTN_BENCH_TIERS_TIERS_OPTIONS_H_
#define HIPATTN_BENCH_TIERS_TIERS_OPTIONS_H_

#include "trace_recorder.h"

#include <cstdint>
#include <optional>
#include <string>

namespace tiers_bench {

struct ReplayOptions {
  std::string trace;
  uint32_t warmup_steps = 56;
  std::string json;
};

struct TiersOptions {
  enum class Command : uint8_t { kRecord, kReplay };
  Command command = Command::kRecord;
  RecordOptions record;
  ReplayOptions replay;
};

// Fills `options`. A value is the exit code of a program that is done: 0 after --help, 2 after a
// wrong command line, which is then explained on stderr.
std::optional<int> ParseTiersOptions(int argc, char** argv, TiersOptions* options);

}  // namespace tiers_bench

#endif  // HIPATTN_BENCH_TIERS_TIERS_OPTIONS_H_
