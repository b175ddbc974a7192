// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/search/scorer.h"

namespace hipattn::core {
namespace {

// The key of the last token: an ablation of HiP's.
class LastKey final : public SummaryScorer {
 public:
  NodeVectors Vectors(const NodeView& node) const override {
    const size_t dim = node.mean.size();
    const size_t token = node.keys.size() / dim - 1;
    const auto key = node.keys.subspan(token * dim, dim);
    return {std::vector<float>(key.begin(), key.end()), {}};
  }
};

}  // namespace

const SummaryScorer& LastScorer() {
  static const LastKey scorer;
  return scorer;
}

}  // namespace hipattn::core
