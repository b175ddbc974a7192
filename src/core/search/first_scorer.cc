// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/search/scorer.h"

namespace hipattn::core {
namespace {

// The key of the first token: an ablation of HiP's.
class FirstKey final : public SummaryScorer {
 public:
  NodeVectors Vectors(const NodeView& node) const override {
    const size_t dim = node.mean.size();
    const size_t token = 0;
    const auto key = node.keys.subspan(token * dim, dim);
    return {std::vector<float>(key.begin(), key.end()), {}};
  }
};

}  // namespace

const SummaryScorer& FirstScorer() {
  static const FirstKey scorer;
  return scorer;
}

}  // namespace hipattn::core
