// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#ifndef HIPATTN_HOST_REF_LOG_SUM_H_
#define HIPATTN_HOST_REF_LOG_SUM_H_

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace hipattn::host::ref {

// log of the sum of exp of the scores; -inf for none, and where all are -inf.
inline double LogSum(const std::vector<double>& scores) {
  constexpr double kNone = -std::numeric_limits<double>::infinity();
  const double max = scores.empty() ? kNone : *std::max_element(scores.begin(), scores.end());
  if (max == kNone) {
    return kNone;
  }
  double sum = 0;
  for (const double score : scores) {
    sum += std::exp(score - max);
  }
  return max + std::log(sum);
}

}  // namespace hipattn::host::ref

#endif  // HIPATTN_HOST_REF_LOG_SUM_H_
