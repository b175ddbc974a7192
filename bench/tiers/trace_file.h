// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What a run of decode steps attended, block by block: written by hipattn-tiers record, read by
// replay. A file of JSON lines: what was run, then a line per step.
#ifndef HIPATTN_BENCH_TIERS_TRACE_FILE_H_
#define HIPATTN_BENCH_TIERS_TRACE_FILE_H_

#include "result.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

namespace tiers_bench {

using hipattn_run::Result;
using hipattn_run::Status;

// The blocks that one kv head selected in one step, without those of sinks and window, which never
// leave the device. The first num_strong are those that a quarter of the budget selects as well.
struct Picks {
  uint32_t num_strong = 0;
  std::vector<uint32_t> blocks;
};

struct Trace {
  nlohmann::json run;  // model, text and options
  uint32_t num_layers = 0;
  uint32_t num_kv_heads = 0;
  uint32_t block_tokens = 0;
  uint32_t budget_tokens = 0;
  uint32_t max_blocks = 0;                // a block's number is below it
  std::vector<std::vector<Picks>> steps;  // each by layer * num_kv_heads + kv_head

  uint32_t num_heads() const { return num_layers * num_kv_heads; }
  // Blocks that all heads may select together in a step.
  uint64_t step_blocks() const { return uint64_t{budget_tokens} / block_tokens * num_heads(); }
};

// Writes beside `path` and takes its place when all steps are there.
class TraceWriter {
 public:
  static Result<std::unique_ptr<TraceWriter>> Create(const std::string& path,
                                                     const nlohmann::json& run);
  Status Add(const std::vector<Picks>& step);
  Status Finish();

 private:
  explicit TraceWriter(const std::string& path) : path_(path), file_(path + ".part") {}
  Status Check();

  std::string path_;
  std::ofstream file_;
};

// Fails for a file that is no trace, naming the line.
Result<Trace> ReadTrace(const std::string& path);

}  // namespace tiers_bench

#endif  // HIPATTN_BENCH_TIERS_TRACE_FILE_H_
