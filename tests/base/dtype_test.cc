// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "base/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace hipattn {
namespace {

// A 16-bit floating point format, described rather than coded: the reference below knows nothing of
// bit tricks.
struct Format {
  DType dtype;
  int exponent_bits;
  int mantissa_bits;

  int bias() const { return (1 << (exponent_bits - 1)) - 1; }
  double least() const { return std::ldexp(1.0, 1 - bias() - mantissa_bits); }
};

constexpr Format kFormats[] = {{DType::kF16, 5, 10}, {DType::kBf16, 8, 7}};

double ReferenceWiden(const Format& format, uint32_t bits) {
  const uint32_t mantissa = bits & ((1U << format.mantissa_bits) - 1);
  const int exponent =
      static_cast<int>((bits >> format.mantissa_bits) & ((1U << format.exponent_bits) - 1));
  const double sign = (bits & 0x8000U) != 0 ? -1.0 : 1.0;
  if (exponent == (1 << format.exponent_bits) - 1) {
    return mantissa != 0 ? std::numeric_limits<double>::quiet_NaN()
                         : sign * std::numeric_limits<double>::infinity();
  }
  if (exponent == 0) {
    return sign * mantissa * format.least();
  }
  return sign * std::ldexp((1 << format.mantissa_bits) + static_cast<double>(mantissa),
                           exponent - format.bias() - format.mantissa_bits);
}

// Round to nearest even in f64, where both steps are exact.
double ReferenceRound(const Format& format, double value) {
  if (std::isnan(value) || std::isinf(value) || value == 0.0) {
    return value;
  }
  const int exponent = std::max(std::ilogb(value), 1 - format.bias());
  const double unit = std::ldexp(1.0, exponent - format.mantissa_bits);
  const double rounded = std::nearbyint(value / unit) * unit;
  const double overflow = std::ldexp(1.0, format.bias() + 1);
  return std::abs(rounded) >= overflow
             ? std::copysign(std::numeric_limits<double>::infinity(), value)
             : rounded;
}

float Widen(DType dtype, uint32_t bits) {
  const auto half = static_cast<uint16_t>(bits);
  return dtype == DType::kF16 ? F16ToF32(half) : Bf16ToF32(half);
}

uint16_t Narrow(DType dtype, float value) {
  return dtype == DType::kF16 ? F32ToF16(value) : F32ToBf16(value);
}

TEST(DType, WidensEveryHalf) {
  for (const Format& format : kFormats) {
    for (uint32_t bits = 0; bits < 65536; ++bits) {
      const double want = ReferenceWiden(format, bits);
      const float got = Widen(format.dtype, bits);
      ASSERT_EQ(std::isnan(got), std::isnan(want)) << DTypeName(format.dtype) << " " << bits;
      if (!std::isnan(want)) {
        ASSERT_EQ(got, want) << DTypeName(format.dtype) << " " << bits;
        ASSERT_EQ(std::signbit(got), std::signbit(want)) << DTypeName(format.dtype) << " " << bits;
      }
    }
  }
}

TEST(DType, EveryHalfComesBackFromARoundTrip) {
  for (const Format& format : kFormats) {
    for (uint32_t bits = 0; bits < 65536; ++bits) {
      const float wide = Widen(format.dtype, bits);
      const uint16_t back = Narrow(format.dtype, wide);
      if (std::isnan(wide)) {
        ASSERT_TRUE(std::isnan(Widen(format.dtype, back)))
            << DTypeName(format.dtype) << " " << bits;
      } else {
        ASSERT_EQ(back, bits) << DTypeName(format.dtype);
      }
    }
  }
}

void ExpectRounds(const Format& format, float value) {
  const double want = ReferenceRound(format, value);
  const float got = Widen(format.dtype, Narrow(format.dtype, value));
  ASSERT_EQ(got, want) << DTypeName(format.dtype) << " of " << std::hexfloat << value;
  ASSERT_EQ(std::signbit(got), std::signbit(want));
}

// Ties and their neighbours: between every two neighbouring finite halves, the middle and the
// floats beside it.
TEST(DType, RoundsToNearestEvenAroundEveryTie) {
  for (const Format& format : kFormats) {
    for (uint32_t bits = 0; bits < 0x7fffU; ++bits) {
      const double low = ReferenceWiden(format, bits);
      const double high = ReferenceWiden(format, bits + 1);
      if (!std::isfinite(low) || !std::isfinite(high)) {
        continue;
      }
      const auto middle = static_cast<float>((low + high) / 2);
      for (const float value :
           {middle, std::nextafter(middle, 0.0F), std::nextafter(middle, INFINITY)}) {
        ExpectRounds(format, value);
        ExpectRounds(format, -value);
      }
    }
  }
}

TEST(DType, RoundsRandomBitPatterns) {
  std::mt19937 random(1);
  for (const Format& format : kFormats) {
    for (int i = 0; i < 300000; ++i) {
      const auto value = std::bit_cast<float>(static_cast<uint32_t>(random()));
      if (!std::isnan(value)) {
        ExpectRounds(format, value);
      }
    }
  }
}

TEST(DType, OverflowAndSpecialValues) {
  EXPECT_EQ(F32ToF16(65504.0F), 0x7bffU);
  EXPECT_EQ(F32ToF16(65519.99F), 0x7bffU);
  EXPECT_EQ(F32ToF16(65520.0F), 0x7c00U) << "the tie to infinity";
  EXPECT_EQ(F32ToBf16(3.4e38F), 0x7f80U);
  EXPECT_EQ(F32ToF16(-INFINITY), 0xfc00U);
  EXPECT_EQ(F32ToBf16(-INFINITY), 0xff80U);
  for (const uint32_t nan : {0x7f800001U, 0x7fffffffU, 0xff800001U, 0xffffffffU}) {
    EXPECT_TRUE(std::isnan(F16ToF32(F32ToF16(std::bit_cast<float>(nan)))));
    EXPECT_TRUE(std::isnan(Bf16ToF32(F32ToBf16(std::bit_cast<float>(nan)))));
  }
}

TEST(DType, LoadAndStoreElements) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBf16}) {
    std::vector<uint32_t> memory(4, 0xffffffffU);
    StoreElement(memory.data(), dtype, 1, -1.5F);
    StoreElement(memory.data(), dtype, 2, 0.25F);
    EXPECT_EQ(LoadElement(memory.data(), dtype, 1), -1.5F);
    EXPECT_EQ(LoadElement(memory.data(), dtype, 2), 0.25F);
    EXPECT_TRUE(std::isnan(LoadElement(memory.data(), dtype, 0))) << "neighbours stay";
    EXPECT_TRUE(std::isnan(LoadElement(memory.data(), dtype, 3)));
    EXPECT_EQ(DTypeBytes(dtype), dtype == DType::kF32 ? 4U : 2U);
  }
  EXPECT_STREQ(DTypeName(DType::kBf16), "bf16");
}

}  // namespace
}  // namespace hipattn
