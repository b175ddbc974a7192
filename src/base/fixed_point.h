// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Vectors as 16-bit whole numbers of steps of a power of two. Sums of their products with other
// whole numbers have no order, so every instruction set gives the same bits.
#ifndef HIPATTN_BASE_FIXED_POINT_H_
#define HIPATTN_BASE_FIXED_POINT_H_

#include <cstdint>

namespace hipattn {

inline constexpr float kMaxInt16Steps = 32767.0F;

// inverse is 1 / step, exactly.
struct Int16Step {
  float step;
  float inverse;
};

// The least power of two, but at least 2^-126, of which `largest` >= 0 is at most kMaxInt16Steps
// steps. A number x that is a multiple of the step is kept exactly; any other, rounded to nearest,
// within step / 2 <= 2^-15 of the largest. NaN and infinity give a step, too, but no meaning.
static inline Int16Step StepOfInt16(float largest) {
  constexpr uint32_t kMantissaBits = 23;
  constexpr uint32_t kLeastExponent = 15;  // biased; with it the step is 2^-126
  uint32_t bits;
  __builtin_memcpy(&bits, &largest, sizeof(bits));
  uint32_t exponent = bits >> kMantissaBits & 0xffU;
  exponent = exponent < kLeastExponent ? kLeastExponent : exponent;
  for (;; ++exponent) {
    const uint32_t step_bits = (exponent - 14) << kMantissaBits;
    const uint32_t inverse_bits = (268 - exponent) << kMantissaBits;
    Int16Step result = {};
    __builtin_memcpy(&result.step, &step_bits, sizeof(step_bits));
    __builtin_memcpy(&result.inverse, &inverse_bits, sizeof(inverse_bits));
    if (!(largest * result.inverse > kMaxInt16Steps) || exponent > 254) {
      return result;
    }
  }
}

}  // namespace hipattn

#endif  // HIPATTN_BASE_FIXED_POINT_H_
