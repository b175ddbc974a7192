// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// How far an f32 kernel may be from the f64 reference of attention. u = 2^-24 is the unit roundoff
// of f32, S >= |scale q.k|.
//
//   score     q.k sums d products, q may be scaled before: (d + 4) u S. A cap c tanh(s / c) does
//   not amplify that, and adds 8 u c. weight    exp(s - max): the error of s, 2 S u of the
//   subtraction (2 min(S, c) with a cap), 4 u of the exponential, all relative. sums      of n
//   weights, with or without values, in any order: n u, relative to the sum of magnitudes; each
//   online-softmax step
//             multiplies by one more exponential: 8 u per step.
// Numerator and denominator both err by that, so out is within twice the sum of those times max
// |v|, plus the rounding to its type.
#ifndef HIPATTN_TESTS_SUPPORT_ATTENTION_BOUND_H_
#define HIPATTN_TESTS_SUPPORT_ATTENTION_BOUND_H_

#include "base/dtype.h"
#include "tests/support/compare.h"

#include <algorithm>

namespace hipattn::testing {

struct AttentionSize {
  uint32_t head_dim;
  double max_score;  // S
  double max_value;  // max |v|
  double softcap;    // 0 = none
  uint32_t chain;    // longest sum of weights, in terms
  uint32_t steps;    // most online-softmax steps
};

inline double WeightError(const AttentionSize& size) {
  const double capped = size.softcap > 0 ? std::min(size.softcap, size.max_score) : size.max_score;
  const double units = (size.head_dim + 4.0) * size.max_score + 8 * size.softcap + 2 * capped + 4 +
                       size.chain + 8.0 * size.steps;
  return units * Roundoff(DType::kF32);
}

inline Bound OutBound(const AttentionSize& size, DType out_dtype) {
  return {2 * WeightError(size) * size.max_value + 1e-7, 2 * Roundoff(out_dtype)};
}

// lse = max + log(sum): the absolute error of the scores, the relative one of the sum, the rounding
// of the result.
inline Bound LseBound(const AttentionSize& size) {
  return {2 * WeightError(size), 4 * Roundoff(DType::kF32)};
}

}  // namespace hipattn::testing

#endif  // HIPATTN_TESTS_SUPPORT_ATTENTION_BOUND_H_
