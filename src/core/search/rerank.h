// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// RerankWalk: a tree walk that keeps more blocks than the budget, and a second cut that chooses the
// budget among them by the scores of their key sketches (docs/search.md). A state machine like
// TreeWalk, and TreeWalk itself where nothing is to be reranked:
//
//   walk.Begin(config, candidate_tokens, range);
//   while (!walk.tree().done()) { score walk.tree().pending(); walk.tree().Accept(scores); }
//   if (!walk.Rerank()) { score walk.pending(); walk.Accept(scores); }
//   use walk.blocks();
#ifndef HIPATTN_CORE_SEARCH_RERANK_H_
#define HIPATTN_CORE_SEARCH_RERANK_H_

#include "core/search/top_k.h"
#include "core/search/tree_walk.h"

#include <cstdint>
#include <span>
#include <vector>

namespace hipattn::core {

// Reusable: Begin starts anew and keeps the memory. One thread at a time.
class RerankWalk {
 public:
  // config.budget_tokens is what will be selected; the tree keeps candidate_tokens for it, a
  // multiple of block_tokens. Not above the budget: the tree decides alone. A budget that covers
  // the range keeps all of it and scores nothing (SPEC D32). REQUIRES: as TreeWalk::Begin, with
  // candidate_tokens for the budget.
  void Begin(const TreeConfig& config, uint32_t candidate_tokens, const SearchRange& range);

  TreeWalk& tree() { return tree_; }
  const TreeWalk& tree() const { return tree_; }

  // REQUIRES: tree().done(). True: blocks() is ready. False: pending() has to be scored, because
  // the tree kept more blocks than the budget holds.
  bool Rerank();
  std::span<const int32_t> pending() const { return tree_.blocks(); }
  // scores [pending().size()]. Keeps the best by (score descending, block ascending), SPEC D10.
  void Accept(const float* scores);
  // Chooses once more by the same scores, now so many blocks. REQUIRES: Accept since Begin; 0 <
  // blocks <= pending().size().
  void Keep(uint32_t blocks);

  // The selected blocks, ascending. Valid until the next Begin.
  std::span<const int32_t> blocks() const { return blocks_; }
  // Blocks whose sketches were scored since Begin.
  uint64_t blocks_scored() const { return scored_; }

 private:
  TreeWalk tree_;
  uint32_t keep_ = 0;  // blocks; 0: all that the tree kept
  uint64_t scored_ = 0;
  std::vector<int32_t> keys_;
  std::vector<int32_t> blocks_;
  TopK top_k_;
};

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_SEARCH_RERANK_H_
