// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// hipattn-tiers: records what decode steps attend and replays it on simulated caches; README.md
// says what and how.
//
// Exit codes: 0 done, 1 failed, 2 wrong command line.
#include "block_predictors.h"
#include "cache_policies.h"
#include "tiers_options.h"
#include "trace_recorder.h"
#include "trace_replay.h"

#include <algorithm>
#include <exception>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <string>
#include <vector>

namespace tiers_bench {
namespace {

using hipattn_run::Status;
using nlohmann::json;

// Of the blocks that all heads may select together in a step.
constexpr double kSizes[] = {0.25, 0.5, 0.75, 1, 1.5, 2, 4, 8};
constexpr double kPrefetchSizes[] = {1, 2, 4};

uint32_t CapacityOf(const Trace& trace, double size) {
  return static_cast<uint32_t>(size * static_cast<double>(trace.step_blocks()));
}

json ReplayPolicies(const Trace& trace, uint32_t warmup_steps) {
  std::vector<std::string> names = PolicyNames();
  names.emplace_back("best possible");
  json table = json::object();
  std::cout << std::setw(14) << "hit rate";
  for (const double size : kSizes) {
    std::cout << std::setw(7) << size << 'x';
  }
  for (const std::string& name : names) {
    std::cout << '\n' << std::setw(14) << name;
    for (const double size : kSizes) {
      const uint32_t capacity = CapacityOf(trace, size);
      const double rate = name == names.back() ? BestHitRate(trace, capacity, warmup_steps)
                                               : HitRate(trace, name, capacity, warmup_steps);
      table[name].push_back({size, rate});
      std::cout << std::setw(8) << rate << std::flush;
    }
  }
  std::cout << "\n\n";
  return table;
}

json ReplayPredictors(const Trace& trace, uint32_t warmup_steps) {
  const std::string policy = "use-queue";
  const uint32_t budget_blocks = trace.budget_tokens / trace.block_tokens;
  json table = json::array();
  std::cout << "predictor, cache, blocks per head: hit rate, gained, useful, fetched per gained\n";
  for (const double size : kPrefetchSizes) {
    const uint32_t capacity = CapacityOf(trace, size);
    const double without = HitRate(trace, policy, capacity, warmup_steps);
    for (const std::string& name : PredictorNames()) {
      for (const bool switches_off : {false, true}) {
        Prefetch prefetch;
        prefetch.predictor = name;
        prefetch.blocks = std::max(1U, budget_blocks / 8);
        prefetch.switches_off = switches_off;
        const PrefetchResult result =
            ReplayPrefetch(trace, policy, capacity, prefetch, warmup_steps);
        const double gained = result.hit_rate - without;
        const double per_gained = gained > 0 ? static_cast<double>(result.fetched) /
                                                   (gained * static_cast<double>(result.attended))
                                             : 0;
        table.push_back({{"predictor", name},
                         {"size", size},
                         {"blocks", prefetch.blocks},
                         {"switches_off", switches_off},
                         {"hit_rate", result.hit_rate},
                         {"gained", gained},
                         {"useful", result.useful},
                         {"fetched_per_gained", per_gained}});
        std::cout << std::setw(12) << name << ' ' << size << "x " << prefetch.blocks
                  << (switches_off ? " off<.3" : "") << ": " << result.hit_rate << ", " << gained
                  << ", " << result.useful << ", "
                  << (gained > 0 ? std::to_string(per_gained) : "none gained") << '\n'
                  << std::flush;
      }
    }
  }
  return table;
}

Status ReplayTrace(const ReplayOptions& options) {
  const Result<Trace> trace = ReadTrace(options.trace);
  if (!trace.ok()) {
    return trace.status();
  }
  if (options.warmup_steps >= trace.value().steps.size()) {
    return Status::Error("--warmup-steps is ",
                         options.warmup_steps,
                         ", the trace has ",
                         trace.value().steps.size(),
                         " steps");
  }
  std::cout << std::fixed << std::setprecision(4);
  json result = {{"run", trace.value().run}};
  result["policies"] = ReplayPolicies(trace.value(), options.warmup_steps);
  result["predictors"] = ReplayPredictors(trace.value(), options.warmup_steps);
  if (options.json.empty()) {
    return {};
  }
  std::ofstream file(options.json);
  file << result.dump(2) << '\n' << std::flush;
  return file ? Status() : Status::Error("cannot write '", options.json, "'");
}

int Main(int argc, char** argv) {
  TiersOptions options;
  if (const std::optional<int> exit_code = ParseTiersOptions(argc, argv, &options)) {
    return *exit_code;
  }
  const Status status = options.command == TiersOptions::Command::kRecord
                            ? RecordTrace(options.record)
                            : ReplayTrace(options.replay);
  std::cout.flush();
  if (!status.ok()) {
    std::cerr << "hipattn-tiers: " << status.message() << '\n';
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace tiers_bench

int main(int argc, char** argv) {
  try {
    return tiers_bench::Main(argc, argv);
  } catch (const std::exception& error) {
    // The standard library's own failures, memory above all.
    std::cerr << "hipattn-tiers: " << error.what() << '\n';
    return 1;
  }
}
