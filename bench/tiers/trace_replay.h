// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Replays a trace on simulated caches, without a clock: which blocks are there when a layer wants
// them is all that counts. Layers take their turns as in a step, and the heads of a layer together.
#ifndef HIPATTN_BENCH_TIERS_TRACE_REPLAY_H_
#define HIPATTN_BENCH_TIERS_TRACE_REPLAY_H_

#include "trace_file.h"

#include <cstdint>
#include <string>

namespace tiers_bench {

// Share of the blocks attended that were in a cache of `capacity` blocks, from step warmup_steps
// on. REQUIRES: capacity holds what one layer selects; a known policy.
double HitRate(const Trace& trace,
               const std::string& policy,
               uint32_t capacity,
               uint32_t warmup_steps);

// The most that any policy could reach without prefetch: the block that is wanted again last goes
// first (Belady, IBM Systems Journal 5(2), 1966).
double BestHitRate(const Trace& trace, uint32_t capacity, uint32_t warmup_steps);

struct Prefetch {
  std::string predictor;
  uint32_t blocks = 1;        // per head and step, at most
  double partition = 0.0625;  // share of the capacity for what was fetched and not yet attended
  bool switches_off = false;  // a layer stops below 30 % useful, and tries one block in 16 steps
};

struct PrefetchResult {
  double hit_rate = 0;
  double useful = 0;     // share of the prefetched blocks that were attended before they went
  uint64_t fetched = 0;  // by prefetch
  uint64_t attended = 0;
};

PrefetchResult ReplayPrefetch(const Trace& trace,
                              const std::string& policy,
                              uint32_t capacity,
                              const Prefetch& prefetch,
                              uint32_t warmup_steps);

}  // namespace tiers_bench

#endif  // HIPATTN_BENCH_TIERS_TRACE_REPLAY_H_
