// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// RecallPlan: what of a finished tree search has to be estimated to know the share of softmax mass
// that one query row attended (SPEC D36): the pruned nodes of every level, candidates that were not
// kept, and how many of their tokens the row could have chosen. A block that the tree kept and the
// sketches did not choose counts as pruned, with the summary of level 0. The op estimate_nodes (or
// plain_recall.h) turns each level into log masses, RecallShare those into the share.
#ifndef HIPATTN_CORE_SEARCH_RECALL_H_
#define HIPATTN_CORE_SEARCH_RECALL_H_

#include "base/tree.h"
#include "core/search/tree_walk.h"

#include <cstdint>
#include <span>
#include <vector>

namespace hipattn::core {

// Tokens [lo, hi), in nodes of node_tokens.
struct TokenSpan {
  int64_t lo;
  int64_t hi;
  int64_t node_tokens;
};

// Reusable; one thread at a time.
class RecallPlan {
 public:
  // `selected`: the blocks of walk.blocks() that were attended, ascending. [lo, hi) is the row's
  // own searchable range. REQUIRES: walk.done().
  void Build(const TreeWalk& walk,
             std::span<const int32_t> selected,
             uint32_t block_tokens,
             int64_t lo,
             int64_t hi);

  // Levels 0 .. num_levels() - 1 have pruned nodes to look at; 0 when everything was attended.
  uint32_t num_levels() const { return num_levels_; }
  // Pruned nodes that have tokens in [lo, hi), ascending; every mask is non-zero.
  std::span<const NodeGroup> groups(uint32_t level) const { return groups_[level]; }
  // [groups(level).size()][8] tokens in [lo, hi); 0 where the mask is 0.
  std::span<const float> tokens(uint32_t level) const { return tokens_[level]; }

 private:
  // Of the candidates of one level, those that are not in `kept`.
  void ListPruned(uint32_t level,
                  std::span<const NodeGroup> candidates,
                  std::span<const int32_t> kept,
                  const TokenSpan& span);

  uint32_t num_levels_ = 0;
  std::vector<NodeGroup> groups_[kMaxLevels];
  std::vector<float> tokens_[kMaxLevels];
};

// A / (A + P), A = exp(lse) of what was attended, P = sum of exp(log_mass) over the levels; -inf
// stands for none. 1 when nothing was pruned.
double RecallShare(double lse, std::span<const float> log_masses);

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_SEARCH_RECALL_H_
