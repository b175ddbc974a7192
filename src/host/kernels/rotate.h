// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Rotary position embedding (RoPE, arXiv 2104.09864; SPEC D20). Angles, cosines and sines in f64,
// rounded to f32; then f32 with every product and sum rounded: the same bits on every instruction
// set. Compiled once per set.
#ifndef HIPATTN_HOST_KERNELS_ROTATE_H_
#define HIPATTN_HOST_KERNELS_ROTATE_H_

#include "device/params.h"

#include <math.h>

#include <cstdint>

namespace hipattn::host::HIPATTN_ISA {

// Cosines and sines of one position, for every pair: computed once, used by all heads.
struct RotaryAngles {
  float cosine[device::kMaxHeadDim / 2];
  float sine[device::kMaxHeadDim / 2];
};

static inline void ComputeAngles(const device::Rope& rope, int64_t position, RotaryAngles* angles) {
  for (uint32_t pair = 0; pair < rope.dim / 2; ++pair) {
    const double angle = static_cast<double>(position) * rope.inv_freq[pair];
    angles->cosine[pair] = static_cast<float>(::cos(angle));
    angles->sine[pair] = static_cast<float>(::sin(angle));
  }
}

// Turns row[0, rope.dim) in place. REQUIRES: rope.mode != 0.
static inline void Rotate(const device::Rope& rope, const RotaryAngles& angles, float* row) {
  const uint32_t half = rope.dim / 2;
  if (rope.mode == 1) {
    float* __restrict first = row;
    float* __restrict second = row + half;
    for (uint32_t pair = 0; pair < half; ++pair) {
      const float x = first[pair];
      const float y = second[pair];
      first[pair] = x * angles.cosine[pair] - y * angles.sine[pair];
      second[pair] = y * angles.cosine[pair] + x * angles.sine[pair];
    }
    return;
  }
  for (uint32_t pair = 0; pair < half; ++pair) {
    const float x = row[2 * pair];
    const float y = row[2 * pair + 1];
    row[2 * pair] = x * angles.cosine[pair] - y * angles.sine[pair];
    row[2 * pair + 1] = y * angles.cosine[pair] + x * angles.sine[pair];
  }
}

}  // namespace hipattn::host::HIPATTN_ISA

#endif  // HIPATTN_HOST_KERNELS_ROTATE_H_
