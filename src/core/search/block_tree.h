// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// BlockTree: the summaries of one kv head's block tree in f32, kept up to date while tokens come
// and go (SPEC D28, D29), plainly written: what the op summarize_blocks is compared with.
#ifndef HIPATTN_CORE_SEARCH_BLOCK_TREE_H_
#define HIPATTN_CORE_SEARCH_BLOCK_TREE_H_

#include "core/search/scorer.h"
#include "core/search/tree_walk.h"

#include <cstdint>
#include <span>
#include <vector>

namespace hipattn::core {

class BlockTree {
 public:
  BlockTree(uint32_t block_tokens, uint32_t head_dim)
      : block_tokens_(block_tokens), head_dim_(head_dim) {}

  // keys [n][head_dim]. Closes the blocks that become full, and every inner node whose last child
  // closes. The summaries depend on the keys alone, not on how they were split over calls.
  void Append(std::span<const float> keys);

  // Forgets every token from `tokens` on, and the nodes that reach past it.
  void Truncate(int64_t tokens);

  uint32_t block_tokens() const { return block_tokens_; }
  uint32_t head_dim() const { return head_dim_; }
  int64_t num_tokens() const { return static_cast<int64_t>(keys_.size() / head_dim_); }
  // Complete nodes of a level.
  int64_t num_nodes(uint32_t level) const {
    return num_tokens() / NodeTokens(block_tokens_, level);
  }
  // REQUIRES: node < num_nodes(level). Valid until the tree changes.
  NodeView node(uint32_t level, int64_t node) const;

 private:
  // Of one node: low, high, mean, [head_dim] each.
  using Summary = std::vector<float>;

  void CloseBlock();
  void CloseParent(uint32_t level);

  uint32_t block_tokens_;
  uint32_t head_dim_;
  std::vector<float> keys_;  // [tokens][head_dim]
  std::vector<Summary> nodes_[kMaxLevels];
};

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_SEARCH_BLOCK_TREE_H_
