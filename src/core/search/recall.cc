// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/search/recall.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace hipattn::core {

namespace {

// tokens[i] = tokens of node `base + i` in [lo, hi) where bit i of `nodes` is set, else 0. Returns
// the bits of the nodes that have some.
uint32_t CountTokens(uint32_t nodes, int64_t base, const TokenSpan& span, float* tokens) {
  const int64_t size = span.node_tokens;
  const bool whole = base * size >= span.lo && (base + kFanOut) * size <= span.hi;
  if (whole) {
    for (uint32_t i = 0; i < kFanOut; ++i) {
      tokens[i] = (nodes >> i & 1) != 0 ? static_cast<float>(size) : 0.0F;
    }
    return nodes;
  }
  uint32_t counted = 0;
  for (uint32_t i = 0; i < kFanOut; ++i) {
    const int64_t begin = std::max((base + i) * size, span.lo);
    const int64_t end = std::min((base + i + 1) * size, span.hi);
    const bool some = (nodes >> i & 1) != 0 && begin < end;
    tokens[i] = some ? static_cast<float>(end - begin) : 0.0F;
    counted |= some ? 1U << i : 0U;
  }
  return counted;
}

}  // namespace

void RecallPlan::ListPruned(uint32_t level,
                            std::span<const NodeGroup> candidates,
                            std::span<const int32_t> kept,
                            const TokenSpan& span) {
  groups_[level].resize(candidates.size());
  tokens_[level].resize(candidates.size() * kFanOut);
  size_t count = 0;
  size_t next_kept = 0;
  for (const NodeGroup& group : candidates) {
    uint32_t pruned = group.mask;
    const int64_t base = int64_t{group.index} * kFanOut;
    for (; next_kept < kept.size() && kept[next_kept] < base + kFanOut; ++next_kept) {
      pruned &= ~(1U << (kept[next_kept] - base));
    }
    const uint32_t counted =
        CountTokens(pruned, base, span, tokens_[level].data() + count * kFanOut);
    groups_[level][count] = {group.index, counted};
    count += counted != 0 ? 1 : 0;
  }
  groups_[level].resize(count);
  tokens_[level].resize(count * kFanOut);
}

void RecallPlan::Build(const TreeWalk& walk,
                       std::span<const int32_t> selected,
                       uint32_t block_tokens,
                       int64_t lo,
                       int64_t hi) {
  num_levels_ = static_cast<uint32_t>(walk.start_level() + 1);
  for (uint32_t level = 1; level < num_levels_; ++level) {
    ListPruned(
        level, walk.groups(level), walk.kept(level), {lo, hi, NodeTokens(block_tokens, level)});
  }
  const TokenSpan span = {lo, hi, block_tokens};
  if (num_levels_ > 0) {
    ListPruned(0, walk.groups(0), selected, span);
  } else if (selected.size() < walk.blocks().size()) {
    // The tree kept all and walked no level: its blocks, by the eight, are the candidates.
    std::vector<NodeGroup> candidates;
    for (const int32_t block : walk.blocks()) {
      const uint32_t index = static_cast<uint32_t>(block) / kFanOut;
      if (candidates.empty() || candidates.back().index != index) {
        candidates.push_back({index, 0});
      }
      candidates.back().mask |= 1U << (static_cast<uint32_t>(block) % kFanOut);
    }
    num_levels_ = 1;
    ListPruned(0, candidates, selected, span);
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
