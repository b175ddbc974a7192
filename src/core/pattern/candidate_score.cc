// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/pattern/candidate_score.h"

#include <cmath>
#include <utility>

namespace hipattn::core {

double LseRecall(const PrefillShape& shape,
                 std::span<const float> lse_sparse,
                 std::span<const float> lse_dense,
                 uint32_t first_row) {
  const uint32_t before = shape.kv_len - shape.q_len;
  size_t row = first_row > before ? first_row - before : 0;
  row = row < shape.q_len ? row : 0;
  const auto num_rows = static_cast<double>(shape.q_len - row);
  double sum = 0.0;
  for (; row < shape.q_len; ++row) {
    sum += std::exp(double{lse_sparse[row]} - double{lse_dense[row]});
  }
  return sum / num_rows;
}

double OutputError(std::span<const float> sparse, std::span<const float> dense) {
  double difference = 0.0;
  double norm = 0.0;
  for (size_t i = 0; i < dense.size(); ++i) {
    const double want = dense[i];
    difference += (sparse[i] - want) * (sparse[i] - want);
    norm += want * want;
  }
  return std::sqrt(difference) / (norm > 0.0 ? std::sqrt(norm) : 1.0);
}

size_t ChooseCandidate(std::span<const CandidateScore> scores, ChooseBy by, double bound) {
  const auto fits = [&](const CandidateScore& score) {
    return by == ChooseBy::kCost ? score.recall >= bound : score.cost <= bound;
  };
  bool any = false;
  for (const CandidateScore& score : scores) {
    any = any || fits(score);
  }
  const auto rank = [&](const CandidateScore& score) {
    if (any) {
      return by == ChooseBy::kError    ? score.error
             : by == ChooseBy::kRecall ? -score.recall
                                       : score.cost;
    }
    return by == ChooseBy::kCost ? -score.recall : score.cost;
  };
  size_t best = scores.size();
  for (size_t i = 0; i < scores.size(); ++i) {
    if (any && !fits(scores[i])) {
      continue;
    }
    if (best == scores.size() || std::pair(rank(scores[i]), scores[i].cost) <
                                     std::pair(rank(scores[best]), scores[best].cost)) {
      best = i;
    }
  }
  return best;
}

}  // namespace hipattn::core
