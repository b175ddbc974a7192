// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The one comparator of numeric results: NaN and infinities must stand at the same places first,
// then every number must lie within absolute + relative * |want|. The failure message names the
// worst index.
#ifndef HIPATTN_TESTS_SUPPORT_COMPARE_H_
#define HIPATTN_TESTS_SUPPORT_COMPARE_H_

#include "base/dtype.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace hipattn::testing {

struct Bound {
  double absolute = 0;
  double relative = 0;
};

// Unit roundoff of a storage type: rounding to it moves x by at most this times |x|.
constexpr double Roundoff(DType dtype) {
  return dtype == DType::kF32 ? 0x1p-24 : dtype == DType::kF16 ? 0x1p-11 : 0x1p-8;
}

inline bool SameSpecial(float got, float want) {
  if (std::isnan(want) || std::isnan(got)) {
    return std::isnan(want) && std::isnan(got);
  }
  return !(std::isinf(want) || std::isinf(got)) || got == want;
}

inline ::testing::AssertionResult Near(std::span<const float> got,
                                       std::span<const float> want,
                                       Bound bound) {
  if (got.size() != want.size()) {
    return ::testing::AssertionFailure() << got.size() << " numbers, want " << want.size();
  }
  size_t worst = 0;
  double worst_excess = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    if (!SameSpecial(got[i], want[i])) {
      return ::testing::AssertionFailure() << "[" << i << "] is " << got[i] << ", want " << want[i];
    }
    if (!std::isfinite(want[i])) {
      continue;
    }
    const double error = std::fabs(double{got[i]} - double{want[i]});
    const double allowed = bound.absolute + bound.relative * std::fabs(double{want[i]});
    if (error - allowed > worst_excess) {
      worst_excess = error - allowed;
      worst = i;
    }
  }
  if (worst_excess > 0) {
    return ::testing::AssertionFailure()
           << "worst is [" << worst << "]: " << got[worst] << ", want " << want[worst]
           << ", off by " << std::fabs(double{got[worst]} - double{want[worst]}) << ", allowed "
           << bound.absolute + bound.relative * std::fabs(double{want[worst]});
  }
  return ::testing::AssertionSuccess();
}

// Equal bit for bit: -0 is not 0, and NaNs have a payload.
template <typename T>
::testing::AssertionResult SameBits(std::span<const T> got, std::span<const T> want) {
  if (got.size() != want.size()) {
    return ::testing::AssertionFailure() << got.size() << " elements, want " << want.size();
  }
  const auto got_bytes = std::as_bytes(got);
  const auto want_bytes = std::as_bytes(want);
  for (size_t i = 0; i < want_bytes.size(); ++i) {
    if (got_bytes[i] != want_bytes[i]) {
      return ::testing::AssertionFailure()
             << "element [" << i / sizeof(T) << "] has other bits: " << +got[i / sizeof(T)]
             << ", want " << +want[i / sizeof(T)];
    }
  }
  return ::testing::AssertionSuccess();
}

template <typename T>
::testing::AssertionResult SameBits(const std::vector<T>& got, const std::vector<T>& want) {
  return SameBits(std::span<const T>(got), std::span<const T>(want));
}

// An array of any element type, as floats.
inline std::vector<float> Widen(const void* array, DType dtype, size_t count) {
  std::vector<float> wide(count);
  for (size_t i = 0; i < count; ++i) {
    wide[i] = LoadElement(array, dtype, i);
  }
  return wide;
}

// Numbers as an array of any element type, rounded.
inline std::vector<std::byte> Narrow(std::span<const float> numbers, DType dtype) {
  std::vector<std::byte> bytes(numbers.size() * DTypeBytes(dtype));
  for (size_t i = 0; i < numbers.size(); ++i) {
    StoreElement(bytes.data(), dtype, i, numbers[i]);
  }
  return bytes;
}

}  // namespace hipattn::testing

#endif  // HIPATTN_TESTS_SUPPORT_COMPARE_H_
