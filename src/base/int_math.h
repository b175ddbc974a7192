// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Integer arithmetic that the standard library lacks: rounding division and checked products.
#ifndef HIPATTN_BASE_INT_MATH_H_
#define HIPATTN_BASE_INT_MATH_H_

#include <cstdint>
#include <type_traits>

namespace hipattn {

// REQUIRES: a >= 0, b > 0.
template <typename T>
constexpr T CeilDiv(T a, T b) {
  return a / b + (a % b != 0 ? 1 : 0);
}

template <typename T>
constexpr T RoundUp(T a, T multiple) {
  return CeilDiv(a, multiple) * multiple;
}

// *product = a * b; false, and *product untouched, when it does not fit.
inline bool CheckedMul(uint64_t a, uint64_t b, uint64_t* product) {
  uint64_t value = 0;
  if (__builtin_mul_overflow(a, b, &value)) {
    return false;
  }
  *product = value;
  return true;
}

inline bool CheckedAdd(uint64_t a, uint64_t b, uint64_t* sum) {
  uint64_t value = 0;
  if (__builtin_add_overflow(a, b, &value)) {
    return false;
  }
  *sum = value;
  return true;
}

}  // namespace hipattn

#endif  // HIPATTN_BASE_INT_MATH_H_
