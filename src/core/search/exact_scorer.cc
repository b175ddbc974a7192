// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/search/scorer.h"

#include <algorithm>
#include <limits>

namespace hipattn::core {
namespace {

// The best q.k over the node's tokens inside [lo, hi). Reads keys, has no summary: for tests.
class ExactKeys final : public NodeScorer {
 public:
  float Score(const NodeView& node, const NodeQuery& query) const override {
    const size_t dim = node.mean.size();
    const auto tokens = static_cast<int64_t>(node.keys.size() / dim);
    const int64_t begin = std::max(query.lo, node.first_token) - node.first_token;
    const int64_t end = std::min(query.hi, node.first_token + tokens) - node.first_token;
    float best = -std::numeric_limits<float>::infinity();
    for (int64_t token = begin; token < end; ++token) {
      const auto key = node.keys.subspan(static_cast<size_t>(token) * dim, dim);
      best = std::max(best, ScoreVectors({{key.begin(), key.end()}, {}}, query.rows));
    }
    return best;
  }
};

}  // namespace

const NodeScorer& ExactScorer() {
  static const ExactKeys scorer;
  return scorer;
}

}  // namespace hipattn::core
