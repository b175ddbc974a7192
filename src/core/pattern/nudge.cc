// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/pattern/nudge.h"

#include <algorithm>
#include <cmath>

namespace hipattn::core {

Result<HeadPattern> Nudge(const HeadPattern& pattern,
                          const NudgeGoal& goal,
                          const FlopsOf& flops_of) {
  HeadPattern now = pattern;
  HIPATTN_ASSIGN_OR_RETURN(double gap, flops_of(now));
  gap -= goal.flops;
  const bool up = gap <= 0;
  const bool verticals = pattern.type == PatternType::kVerticalSlash && pattern.a > pattern.b;
  uint32_t HeadPattern::*const moved = verticals ? &HeadPattern::a : &HeadPattern::b;
  while (std::abs(gap) > goal.tolerance && pattern.type != PatternType::kBlockSparse) {
    const uint32_t size = now.*moved;
    const int64_t aim = up ? int64_t{size} + goal.step : int64_t{size} - goal.step;
    const auto next = static_cast<uint32_t>(std::clamp<int64_t>(aim, 0, goal.kv_len));
    if (up ? next <= size : next >= size) {
      break;
    }
    const HeadPattern last = now;
    const double last_gap = gap;
    now.*moved = next;
    HIPATTN_ASSIGN_OR_RETURN(gap, flops_of(now));
    gap -= goal.flops;
    if (up ? gap > 0 : gap < 0) {
      return std::abs(gap) < std::abs(last_gap) ? now : last;
    }
  }
  return now;
}

}  // namespace hipattn::core
