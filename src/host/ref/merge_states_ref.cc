// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "host/ref/reference_table.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace hipattn::host::ref {

void MergeStates(const device::OpContext&, const device::MergeParams& params) {
  constexpr float kAbsent = -std::numeric_limits<float>::infinity();
  for (uint64_t row = 0; row < params.num_rows; ++row) {
    const float lse_a = params.lse_a[row];
    const float lse_b = params.lse_b[row];
    const double top = std::max(double{lse_a}, double{lse_b});
    const double weight_a = std::exp(lse_a - top);
    const double weight_b = std::exp(lse_b - top);
    for (uint32_t dim = 0; dim < params.head_dim; ++dim) {
      const uint64_t i = row * params.head_dim + dim;
      if (lse_a == kAbsent) {
        params.o[i] = lse_b == kAbsent ? 0.0F : params.o_b[i];
      } else if (lse_b == kAbsent) {
        params.o[i] = params.o_a[i];
      } else {
        params.o[i] = static_cast<float>(
            (weight_a * double{params.o_a[i]} + weight_b * double{params.o_b[i]}) /
            (weight_a + weight_b));
      }
    }
    if (lse_a == kAbsent) {
      params.lse[row] = lse_b;
    } else if (lse_b == kAbsent) {
      params.lse[row] = lse_a;
    } else {
      params.lse[row] = static_cast<float>(top + std::log(weight_a + weight_b));
    }
  }
}

}  // namespace hipattn::host::ref
