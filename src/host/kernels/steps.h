// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Vectors as whole numbers of steps of one scale (SPEC D30, docs/search.md). Compiled once per
// instruction set; the bits are the same on every one.
#ifndef HIPATTN_HOST_KERNELS_STEPS_H_
#define HIPATTN_HOST_KERNELS_STEPS_H_

#include "host/vec/vec.h"

namespace hipattn::host::HIPATTN_ISA {

// max |x|.
static inline float Largest(const float* x, int count) {
  VF largest = Zero();
  int i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    largest = Max(Abs(Load(x + i)), largest);
  }
  if (i < count) {
    largest = Max(Abs(LoadFirst(x + i, count - i)), largest);
  }
  return ReduceMax(largest);
}

// steps[i] = x[i] / scale, rounded half to even, in [-limit, limit]; NaN gives -limit. `steps` has
// room for `count` rounded up to kLanes. REQUIRES: scale > 0.
static inline void RoundSteps(const float* x, int count, float scale, float limit, float* steps) {
  const VF divisor = Set1(scale);
  for (int i = 0; i < count; i += kLanes) {
    const int rest = count - i < kLanes ? count - i : kLanes;
    const VF ratio = Div(LoadFirst(x + i, rest), divisor);
    Store(steps + i, Round(Min(Max(ratio, Set1(-limit)), Set1(limit))));
  }
}

// Returns scale = max |x| / limit; steps[i] = x[i] / scale, rounded half to even, in [-limit,
// limit]; all zero where x is. As RoundSteps.
static inline float ToSteps(const float* x, int count, float limit, float* steps) {
  const float scale = Largest(x, count) / limit;
  RoundSteps(x, count, scale > 0 ? scale : 1.0F, limit, steps);
  return scale;
}

}  // namespace hipattn::host::HIPATTN_ISA

#endif  // HIPATTN_HOST_KERNELS_STEPS_H_
