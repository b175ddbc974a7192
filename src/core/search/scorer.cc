// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/search/scorer.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace hipattn::core {

float ScoreVectors(const NodeVectors& vectors, std::span<const float> rows) {
  const size_t dim = vectors.m.size();
  float best = -std::numeric_limits<float>::infinity();
  for (size_t row = 0; row < rows.size(); row += dim) {
    float score = 0.0F;
    for (size_t i = 0; i < dim; ++i) {
      score += rows[row + i] * vectors.m[i];
    }
    for (size_t i = 0; i < vectors.w.size(); ++i) {
      score += std::abs(rows[row + i]) * vectors.w[i];
    }
    best = std::max(best, score);
  }
  return best;
}

float SummaryScorer::Score(const NodeView& node, const NodeQuery& query) const {
  return ScoreVectors(Vectors(node), query.rows);
}

const SummaryScorer* SummaryScorerOf(Scorer scorer) {
  switch (scorer) {
    case Scorer::kRepresentative:
      return &RepresentativeScorer();
    case Scorer::kMean:
      return &MeanScorer();
    case Scorer::kBounds:
      return &BoundsScorer();
    case Scorer::kCuboidMean:
      return &CuboidMeanScorer();
    case Scorer::kFirst:
      return &FirstScorer();
    case Scorer::kLast:
      return &LastScorer();
    case Scorer::kExact:
      return nullptr;
  }
  return nullptr;
}

const NodeScorer* ScorerOf(Scorer scorer) {
  return scorer == Scorer::kExact ? &ExactScorer() : SummaryScorerOf(scorer);
}

}  // namespace hipattn::core
