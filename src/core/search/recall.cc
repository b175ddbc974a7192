// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/search/recall.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace hipattn::core {

void RecallPlan::Build(const TreeWalk& walk, uint32_t block_tokens, int64_t lo, int64_t hi) {
  num_levels_ = static_cast<uint32_t>(walk.start_level() + 1);
  for (uint32_t level = 0; level < num_levels_; ++level) {
    const int64_t size = NodeTokens(block_tokens, level);
    const std::span<const int32_t> kept = walk.kept(level);
    size_t next_kept = 0;
    groups_[level].clear();
    tokens_[level].clear();
    for (const NodeGroup& group : walk.groups(level)) {
      uint32_t pruned = group.mask;
      const int64_t base = int64_t{group.index} * kFanOut;
      for (; next_kept < kept.size() && kept[next_kept] < base + kFanOut; ++next_kept) {
        pruned &= ~(1U << (kept[next_kept] - base));
      }
      float tokens[kFanOut] = {};
      uint32_t counted = 0;
      for (uint32_t mask = pruned; mask != 0; mask &= mask - 1) {
        const int i = std::countr_zero(mask);
        const int64_t begin = std::max((base + i) * size, lo);
        const int64_t end = std::min((base + i + 1) * size, hi);
        if (begin < end) {
          tokens[i] = static_cast<float>(end - begin);
          counted |= 1U << i;
        }
      }
      if (counted != 0) {
        groups_[level].push_back({group.index, counted});
        tokens_[level].insert(tokens_[level].end(), tokens, tokens + kFanOut);
      }
    }
  }
}

double RecallShare(double lse, std::span<const float> log_masses) {
  double top = -std::numeric_limits<double>::infinity();
  for (const float log_mass : log_masses) {
    top = std::max(top, static_cast<double>(log_mass));
  }
  if (std::isinf(top) && top < 0) {
    return 1.0;
  }
  double sum = 0.0;
  for (const float log_mass : log_masses) {
    sum += std::exp(log_mass - top);
  }
  return 1.0 / (1.0 + sum * std::exp(top - lse));
}

}  // namespace hipattn::core
