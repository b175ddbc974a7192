// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/rope.h"

#include <cmath>

namespace hipattn::core {

std::vector<double> RopeInvFreq(uint32_t dim, double theta) {
  std::vector<double> inv_freq(dim / 2);
  for (size_t i = 0; i < inv_freq.size(); ++i) {
    inv_freq[i] = std::pow(theta, -2.0 * static_cast<double>(i) / dim);
  }
  return inv_freq;
}

void ApplyRope(RopeLayout layout,
               std::span<const double> inv_freq,
               int64_t position,
               std::span<float> x) {
  if (layout == RopeLayout::kNone) {
    return;
  }
  const bool half = layout == RopeLayout::kHalf;
  const size_t pairs = inv_freq.size();
  for (size_t i = 0; i < pairs; ++i) {
    const double angle = static_cast<double>(position) * inv_freq[i];
    const auto cosine = static_cast<float>(std::cos(angle));
    const auto sine = static_cast<float>(std::sin(angle));
    float& a = x[half ? i : 2 * i];
    float& b = x[half ? i + pairs : 2 * i + 1];
    const float turned = a * cosine - b * sine;
    b = b * cosine + a * sine;
    a = turned;
  }
}

}  // namespace hipattn::core
