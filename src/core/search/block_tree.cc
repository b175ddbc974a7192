// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/search/block_tree.h"

#include <algorithm>

namespace hipattn::core {

void BlockTree::Append(std::span<const float> keys) {
  for (size_t begin = 0; begin < keys.size(); begin += head_dim_) {
    const auto key = keys.subspan(begin, head_dim_);
    keys_.insert(keys_.end(), key.begin(), key.end());
    if (num_tokens() % block_tokens_ == 0) {
      CloseBlock();
    }
  }
}

void BlockTree::CloseBlock() {
  const size_t dim = head_dim_;
  const std::span<const float> keys = std::span(keys_).last(block_tokens_ * dim);
  Summary summary(3 * dim);
  for (size_t i = 0; i < dim; ++i) {
    float low = keys[i];
    float high = keys[i];
    float sum = keys[i];
    for (size_t k = i + dim; k < keys.size(); k += dim) {
      low = std::min(low, keys[k]);
      high = std::max(high, keys[k]);
      sum += keys[k];
    }
    summary[i] = low;
    summary[dim + i] = high;
    summary[2 * dim + i] = sum / static_cast<float>(block_tokens_);
  }
  nodes_[0].push_back(std::move(summary));
  if (nodes_[0].size() % kFanOut == 0) {
    CloseParent(1);
  }
}

void BlockTree::CloseParent(uint32_t level) {
  const size_t dim = head_dim_;
  const std::span<const Summary> children = std::span(nodes_[level - 1]).last(kFanOut);
  Summary summary = children[0];
  for (const Summary& child : children.subspan(1)) {
    for (size_t i = 0; i < dim; ++i) {
      summary[i] = std::min(summary[i], child[i]);
      summary[dim + i] = std::max(summary[dim + i], child[dim + i]);
      summary[2 * dim + i] += child[2 * dim + i];
    }
  }
  for (size_t i = 2 * dim; i < 3 * dim; ++i) {
    summary[i] /= static_cast<float>(kFanOut);
  }
  nodes_[level].push_back(std::move(summary));
  if (nodes_[level].size() % kFanOut == 0 && level + 1 < kMaxLevels) {
    CloseParent(level + 1);
  }
}

void BlockTree::Truncate(int64_t tokens) {
  keys_.resize(static_cast<size_t>(tokens) * head_dim_);
  for (uint32_t level = 0; level < kMaxLevels; ++level) {
    nodes_[level].resize(static_cast<size_t>(num_nodes(level)));
  }
}

NodeView BlockTree::node(uint32_t level, int64_t node) const {
  const auto size = static_cast<size_t>(NodeTokens(block_tokens_, level));
  const size_t dim = head_dim_;
  const std::span<const float> summary = nodes_[level][static_cast<size_t>(node)];
  NodeView view;
  view.low = summary.first(dim);
  view.high = summary.subspan(dim, dim);
  view.mean = summary.last(dim);
  view.first_token = node * static_cast<int64_t>(size);
  view.keys = std::span(keys_).subspan(static_cast<size_t>(view.first_token) * dim, size * dim);
  return view;
}

}  // namespace hipattn::core
