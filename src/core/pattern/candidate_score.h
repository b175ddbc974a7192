// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// How good a candidate is on one head, and which of several a search takes (prefill SPEC 8.3 and
// 8.4).
#ifndef HIPATTN_CORE_PATTERN_CANDIDATE_SCORE_H_
#define HIPATTN_CORE_PATTERN_CANDIDATE_SCORE_H_

#include "core/mask/prefill_shape.h"

#include <cstddef>
#include <cstdint>
#include <span>

namespace hipattn::core {

struct CandidateScore {
  double cost;    // FLOPs, or time where it was measured
  double recall;  // share of the dense softmax mass, of the rows in the mean
  double error;   // of the output
};

// Mean of exp(lse_sparse - lse_dense) over the rows at positions >= first_row; over all rows when
// there are none. lse: [q_len], natural.
double LseRecall(const PrefillShape& shape,
                 std::span<const float> lse_sparse,
                 std::span<const float> lse_dense,
                 uint32_t first_row = 0);

// Frobenius |sparse - dense| / |dense|; |sparse| where dense is all zeros.
double OutputError(std::span<const float> sparse, std::span<const float> dense);

enum class ChooseBy {
  kError,   // least error at a cost <= bound; nothing fits: least cost (MInference)
  kRecall,  // greatest recall at a cost <= bound; nothing fits: least cost
  kCost,    // least cost with recall >= bound; nothing fits: greatest recall (Qwen2.5-1M)
};

// The winner's place. Ties: lower cost, then earlier. REQUIRES: there are scores, none NaN.
size_t ChooseCandidate(std::span<const CandidateScore> scores, ChooseBy by, double bound);

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_PATTERN_CANDIDATE_SCORE_H_
