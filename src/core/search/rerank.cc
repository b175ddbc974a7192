// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/search/rerank.h"

#include <algorithm>

namespace hipattn::core {

void RerankWalk::Begin(const TreeConfig& config,
                       uint32_t candidate_tokens,
                       const SearchRange& range) {
  TreeConfig wide = config;
  keep_ = 0;
  scored_ = 0;
  blocks_.clear();
  if (candidate_tokens > config.budget_tokens &&
      range.hi - range.lo > int64_t{config.budget_tokens}) {
    wide.budget_tokens = candidate_tokens;
    keep_ = config.budget_tokens / config.block_tokens;
  }
  tree_.Begin(wide, range);
}

bool RerankWalk::Rerank() {
  const std::span<const int32_t> kept = tree_.blocks();
  if (keep_ != 0 && kept.size() > keep_) {
    return false;
  }
  blocks_.assign(kept.begin(), kept.end());
  return true;
}

void RerankWalk::Accept(const float* scores) {
  const std::span<const int32_t> kept = tree_.blocks();
  keys_.resize(kept.size());
  std::transform(scores, scores + kept.size(), keys_.begin(), OrderedKey);
  scored_ += kept.size();
  top_k_.Keep(keys_, kept, keep_, &blocks_);
}

void RerankWalk::Keep(uint32_t blocks) {
  const std::span<const int32_t> kept = tree_.blocks();
  if (blocks == kept.size()) {
    blocks_.assign(kept.begin(), kept.end());
    return;
  }
  top_k_.Keep(keys_, kept, blocks, &blocks_);
}

}  // namespace hipattn::core
