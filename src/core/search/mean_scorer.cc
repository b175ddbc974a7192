// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/search/scorer.h"

namespace hipattn::core {
namespace {

// m is the mean key.
class MeanKey final : public SummaryScorer {
 public:
  NodeVectors Vectors(const NodeView& node) const override {
    return {std::vector<float>(node.mean.begin(), node.mean.end()), {}};
  }
};

}  // namespace

const SummaryScorer& MeanScorer() {
  static const MeanKey scorer;
  return scorer;
}

}  // namespace hipattn::core
