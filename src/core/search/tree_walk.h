// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// TreeWalk: the default search, a top-down beam over the 8-ary block tree (SPEC section 8,
// D26-D33), as a state machine that asks for scores: it names the nodes of one level, the caller
// scores them (an op on a device, or a plain loop), the walk cuts and descends. So one walk serves
// every device, and many walks advance in step.
//
//   walk.Begin(config, range);
//   while (!walk.done()) { score walk.pending() of level walk.level(); walk.Accept(scores); }
//   use walk.blocks();
#ifndef HIPATTN_CORE_SEARCH_TREE_WALK_H_
#define HIPATTN_CORE_SEARCH_TREE_WALK_H_

#include "base/tree.h"
#include "core/search/top_k.h"

#include <cstdint>
#include <span>
#include <vector>

namespace hipattn::core {

// Tokens a search may choose from: [lo, hi) is the searchable range of the query block's last row;
// `complete` tokens are seen by its first row, only nodes inside [0, complete) exist (D26).
struct SearchRange {
  int64_t lo = 0;
  int64_t hi = 0;
  int64_t complete = 0;
};

struct TreeConfig {
  uint32_t block_tokens = 16;
  uint32_t budget_tokens = 2048;  // a positive multiple of block_tokens
  uint32_t beam = 0;              // nodes kept per inner level; 0 = budget_tokens / block_tokens
  bool flat = false;              // score every block: no inner level is walked
};

// Nodes [first, end) of one level that meet [lo, hi) and are complete: C_l of D31. Their number is
// c_l; end is first when there are none.
struct NodeRange {
  int64_t first = 0;
  int64_t end = 0;
  int64_t size() const { return end - first; }
};
NodeRange MeetingNodes(const SearchRange& range, int64_t node_tokens);

// Tokens of a node of `level` (D26).
constexpr int64_t NodeTokens(uint32_t block_tokens, uint32_t level) {
  return int64_t{block_tokens} << (3 * level);
}

// The lowest level with at most 8 beam nodes to look at (D31); 0 for a flat search.
uint32_t StartLevel(const TreeConfig& config, const SearchRange& range);

// Nodes that stay at a level: the beam, at level 0 the blocks of the budget (D31).
constexpr uint32_t KeepCount(const TreeConfig& config, uint32_t level) {
  const uint32_t blocks = config.budget_tokens / config.block_tokens;
  return level == 0 || config.beam == 0 ? blocks : config.beam;
}

// Reusable: Begin starts anew and keeps the memory. One thread at a time.
class TreeWalk {
 public:
  // REQUIRES: a config that ValidateTree accepts; 0 <= lo, hi <= complete + (tokens of the window).
  void Begin(const TreeConfig& config, const SearchRange& range);

  bool done() const { return done_; }

  // REQUIRES: !done(). What to score next, ascending; every mask is non-zero.
  uint32_t level() const { return level_; }
  std::span<const NodeGroup> pending() const { return groups_[level_]; }

  // scores [pending().size()][8]; entries whose mask bit is 0 are not looked at. Keeps the best by
  // (score descending, node ascending) and moves to the next level that needs scores, or to the
  // end.
  void Accept(const float* scores);

  // REQUIRES: done(). The selected blocks, ascending.
  std::span<const int32_t> blocks() const { return kept_[0]; }

  // Summaries scored since Begin (D33).
  uint64_t summaries_scored() const { return scored_; }

  // -1 when the budget covered the range and no level was walked (D32).
  int start_level() const { return start_level_; }

  // REQUIRES: done(), level <= start_level(). Node numbers, ascending: what entered the level's cut
  // and what left it.
  std::span<const int32_t> candidates(uint32_t level) const { return candidates_[level]; }
  std::span<const int32_t> kept(uint32_t level) const { return kept_[level]; }
  // The candidates once more, by the eight.
  std::span<const NodeGroup> groups(uint32_t level) const { return groups_[level]; }

 private:
  // Lists the candidates of level_; while no cut is needed, passes them on and descends.
  void Descend();
  void ListChildren(const NodeRange& nodes);
  void AddGroup(int64_t index, const NodeRange& nodes);
  void ExpandGroups();

  TreeConfig config_;
  SearchRange range_;
  bool done_ = true;
  uint32_t level_ = 0;
  int start_level_ = -1;
  uint64_t scored_ = 0;
  std::vector<NodeGroup> groups_[kMaxLevels];
  std::vector<int32_t> candidates_[kMaxLevels];
  std::vector<int32_t> kept_[kMaxLevels];
  std::vector<int32_t> keys_;
  TopK top_k_;
};

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_SEARCH_TREE_WALK_H_
