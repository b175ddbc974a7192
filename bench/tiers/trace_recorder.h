// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Reads a text with a model and decodes what follows in it, token by token, whatever the model
// would say: so the steps are as varied as the text. What each step attended goes to a trace.
#ifndef HIPATTN_BENCH_TIERS_TRACE_RECORDER_H_
#define HIPATTN_BENCH_TIERS_TRACE_RECORDER_H_

#include "result.h"

#include <cstdint>
#include <string>

namespace tiers_bench {

struct RecordOptions {
  std::string model;
  std::string text;
  uint32_t tokens = 32768;
  uint32_t steps = 256;
  uint32_t budget_tokens = 512;
  uint32_t refresh_interval = 1;
  float rope_base = 0;  // 0: the model's
  uint32_t chunk_tokens = 4096;
  std::string snapshot;  // of the text that was read; empty: none
  std::string out;
  uint32_t threads = 0;
  bool quiet = false;
};

hipattn_run::Status RecordTrace(const RecordOptions& options);

}  // namespace tiers_bench

#endif  // HIPATTN_BENCH_TIERS_TRACE_RECORDER_H_
