// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/search/scorer.h"

namespace hipattn::core {
namespace {

// The centre and half the extent of the keys' bounding box: q.m + |q|.w is the largest q.k inside
// it, so never below a key of the node.
class KeyBounds final : public SummaryScorer {
 public:
  NodeVectors Vectors(const NodeView& node) const override {
    NodeVectors vectors;
    for (size_t i = 0; i < node.mean.size(); ++i) {
      vectors.m.push_back((node.low[i] + node.high[i]) / 2);
      vectors.w.push_back((node.high[i] - node.low[i]) / 2);
    }
    return vectors;
  }
};

}  // namespace

const SummaryScorer& BoundsScorer() {
  static const KeyBounds scorer;
  return scorer;
}

}  // namespace hipattn::core
