// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "sampler.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace hipattn_run {

int32_t Sampler::Choose(std::span<const float> logits) {
  const auto largest = std::max_element(logits.begin(), logits.end());
  if (temperature_ <= 0) {
    return static_cast<int32_t>(largest - logits.begin());
  }
  std::vector<double> cumulative(logits.size());
  double sum = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    sum +=
        std::exp((static_cast<double>(logits[i]) - static_cast<double>(*largest)) / temperature_);
    cumulative[i] = sum;
  }
  // 53 random bits, uniform in [0, 1); the standard distributions differ between libraries.
  const double uniform = static_cast<double>(random_() >> 11) * 0x1p-53;
  const auto chosen = std::upper_bound(cumulative.begin(), cumulative.end(), uniform * sum);
  return static_cast<int32_t>(std::min<std::ptrdiff_t>(
      chosen - cumulative.begin(), static_cast<std::ptrdiff_t>(logits.size()) - 1));
}

}  // namespace hipattn_run
