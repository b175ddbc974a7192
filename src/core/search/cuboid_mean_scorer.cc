// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/search/scorer.h"

namespace hipattn::core {
namespace {

// Half way between the centre of the keys' bounding box and their mean, with a quarter of its
// extent.
class CuboidMean final : public SummaryScorer {
 public:
  NodeVectors Vectors(const NodeView& node) const override {
    NodeVectors vectors;
    for (size_t i = 0; i < node.mean.size(); ++i) {
      vectors.m.push_back(((node.low[i] + node.high[i]) / 2 + node.mean[i]) / 2);
      vectors.w.push_back((node.high[i] - node.low[i]) / 4);
    }
    return vectors;
  }
};

}  // namespace

const SummaryScorer& CuboidMeanScorer() {
  static const CuboidMean scorer;
  return scorer;
}

}  // namespace hipattn::core
