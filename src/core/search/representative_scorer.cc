// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/search/scorer.h"

namespace hipattn::core {
namespace {

// HiP (arXiv 2406.09827): the key of the centre token, number tokens / 2.
class CentreKey final : public SummaryScorer {
 public:
  NodeVectors Vectors(const NodeView& node) const override {
    const size_t dim = node.mean.size();
    const size_t token = node.keys.size() / dim / 2;
    const auto key = node.keys.subspan(token * dim, dim);
    return {std::vector<float>(key.begin(), key.end()), {}};
  }
};

}  // namespace

const SummaryScorer& RepresentativeScorer() {
  static const CentreKey scorer;
  return scorer;
}

}  // namespace hipattn::core
