// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/search/tree_walk.h"

#include "base/int_math.h"

#include <algorithm>
#include <bit>
#include <numeric>

namespace hipattn::core {
namespace {

constexpr uint32_t kWholeGroup = (1U << kFanOut) - 1;

}  // namespace

NodeRange MeetingNodes(const SearchRange& range, int64_t node_tokens) {
  NodeRange nodes;
  nodes.first = range.lo / node_tokens;
  if (range.hi > range.lo) {
    nodes.end = std::min(CeilDiv(range.hi, node_tokens), range.complete / node_tokens);
  }
  nodes.end = std::max(nodes.end, nodes.first);
  return nodes;
}

uint32_t StartLevel(const TreeConfig& config, const SearchRange& range) {
  const int64_t most = int64_t{kFanOut} * KeepCount(config, 1);
  uint32_t level = 0;
  while (!config.flat && level + 1 < kMaxLevels &&
         MeetingNodes(range, NodeTokens(config.block_tokens, level)).size() > most) {
    ++level;
  }
  return level;
}

void TreeWalk::Begin(const TreeConfig& config, const SearchRange& range) {
  config_ = config;
  range_ = range;
  scored_ = 0;
  if (range.hi - range.lo <= int64_t{config.budget_tokens}) {
    const NodeRange blocks = MeetingNodes(range, config.block_tokens);
    kept_[0].resize(static_cast<size_t>(blocks.size()));
    std::iota(kept_[0].begin(), kept_[0].end(), static_cast<int32_t>(blocks.first));
    start_level_ = -1;
    done_ = true;
    return;
  }
  level_ = StartLevel(config, range);
  start_level_ = static_cast<int>(level_);
  done_ = false;
  Descend();
}

void TreeWalk::Descend() {
  for (;; --level_) {
    ListChildren(MeetingNodes(range_, NodeTokens(config_.block_tokens, level_)));
    ExpandGroups();
    if (candidates_[level_].size() > KeepCount(config_, level_)) {
      return;
    }
    kept_[level_] = candidates_[level_];
    if (level_ == 0) {
      done_ = true;
      return;
    }
  }
}

void TreeWalk::ListChildren(const NodeRange& nodes) {
  groups_[level_].clear();
  if (nodes.size() == 0) {
    return;
  }
  if (static_cast<int>(level_) == start_level_) {
    for (int64_t index = nodes.first / kFanOut; index * kFanOut < nodes.end; ++index) {
      AddGroup(index, nodes);
    }
    return;
  }
  for (const int32_t parent : kept_[level_ + 1]) {
    AddGroup(parent, nodes);
  }
  // The edge: the nodes whose parent is not complete (D31); all of them lie under one parent.
  const int64_t open_parent = range_.complete / NodeTokens(config_.block_tokens, level_ + 1);
  if (open_parent * kFanOut < nodes.end) {
    AddGroup(open_parent, nodes);
  }
}

void TreeWalk::AddGroup(int64_t index, const NodeRange& nodes) {
  const int64_t base = index * kFanOut;
  uint32_t mask = kWholeGroup;
  if (base < nodes.first) {
    mask &= kWholeGroup << (nodes.first - base);
  }
  if (base + kFanOut > nodes.end) {
    mask &= kWholeGroup >> (base + kFanOut - nodes.end);
  }
  groups_[level_].push_back({static_cast<uint32_t>(index), mask});
}

void TreeWalk::ExpandGroups() {
  std::vector<int32_t>& nodes = candidates_[level_];
  nodes.resize(groups_[level_].size() * kFanOut);
  size_t count = 0;
  for (const NodeGroup& group : groups_[level_]) {
    const auto base = static_cast<int32_t>(group.index * kFanOut);
    if (group.mask == kWholeGroup) {
      for (int32_t i = 0; i < static_cast<int32_t>(kFanOut); ++i) {
        nodes[count++] = base + i;
      }
      continue;
    }
    for (uint32_t mask = group.mask; mask != 0; mask &= mask - 1) {
      nodes[count++] = base + std::countr_zero(mask);
    }
  }
  nodes.resize(count);
}

void TreeWalk::Accept(const float* scores) {
  const std::vector<int32_t>& nodes = candidates_[level_];
  scored_ += nodes.size();
  keys_.resize(nodes.size());
  size_t count = 0;
  for (const NodeGroup& group : groups_[level_]) {
    if (group.mask == kWholeGroup) {
      for (uint32_t i = 0; i < kFanOut; ++i) {
        keys_[count + i] = OrderedKey(scores[i]);
      }
      count += kFanOut;
    } else {
      for (uint32_t mask = group.mask; mask != 0; mask &= mask - 1) {
        keys_[count++] = OrderedKey(scores[std::countr_zero(mask)]);
      }
    }
    scores += kFanOut;
  }
  top_k_.Keep(keys_, nodes, KeepCount(config_, level_), &kept_[level_]);
  if (level_ == 0) {
    done_ = true;
    return;
  }
  --level_;
  Descend();
}

}  // namespace hipattn::core
