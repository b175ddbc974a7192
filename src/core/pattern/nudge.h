// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Moves one size of a candidate until it costs what the search allows (prefill SPEC 8.5;
// MInference, arXiv 2407.02490, algorithm 1): the window of an A-shape, the larger of the two
// numbers of lines (slashes when equal). Block-sparse stays.
#ifndef HIPATTN_CORE_PATTERN_NUDGE_H_
#define HIPATTN_CORE_PATTERN_NUDGE_H_

#include "base/result.h"
#include "core/pattern/head_pattern.h"

#include <cstdint>
#include <functional>

namespace hipattn::core {

struct NudgeGoal {
  double flops = 0.0;      // of the kernel
  double tolerance = 0.0;  // how near is near enough
  uint32_t kv_len = 0;     // sizes stay in [0, kv_len]
  uint32_t step = 50;      // the paper's
};

// Kernel FLOPs of a pattern on the head: its estimate, its mask, KernelFlops.
using FlopsOf = std::function<Result<double>(const HeadPattern& pattern)>;

// Walks in one direction, up unless the pattern costs too much, and ends within the tolerance, past
// the goal (the nearer of the last two, the earlier when equal), or at the end of the sizes. Fails
// as flops_of does.
Result<HeadPattern> Nudge(const HeadPattern& pattern,
                          const NudgeGoal& goal,
                          const FlopsOf& flops_of);

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_PATTERN_NUDGE_H_
