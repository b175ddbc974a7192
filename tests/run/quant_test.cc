// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Expansion and products of quantised weights, against formulas written here once more, element by
// element, in the order in which the formats are published.
#include "quant_formats.h"
#include "quant_matvec.h"
#include "synthetic_gguf.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

namespace hipattn_run {
namespace {

constexpr TensorType kAllTypes[] = {
    TensorType::kF32,
    TensorType::kF16,
    TensorType::kBF16,
    TensorType::kQ8_0,
    TensorType::kQ4_0,
    TensorType::kQ4_1,
    TensorType::kQ4_K,
    TensorType::kQ6_K,
};

double ReferenceHalf(const uint8_t* bytes) {
  const int bits = bytes[0] | (bytes[1] << 8);
  const int exponent = (bits >> 10) & 31;
  const int fraction = bits & 1023;
  double value = 0;
  if (exponent == 0) {
    value = std::ldexp(fraction, -24);
  } else if (exponent == 31) {
    value = fraction == 0 ? INFINITY : NAN;
  } else {
    value = std::ldexp(1024 + fraction, exponent - 25);
  }
  return (bits & 0x8000) != 0 ? -value : value;
}

double ReferenceQ4K(const uint8_t* block, size_t i) {
  const size_t sub = i / 32;
  const uint8_t* s = block + 4;
  const int scale = sub < 4 ? s[sub] & 63 : (s[sub + 4] & 15) | ((s[sub - 4] >> 6) << 4);
  const int minimum = sub < 4 ? s[sub + 4] & 63 : (s[sub + 4] >> 4) | ((s[sub] >> 6) << 4);
  const uint8_t byte = block[16 + (sub / 2) * 32 + i % 32];
  const int q = sub % 2 == 0 ? byte & 15 : byte >> 4;
  return ReferenceHalf(block) * scale * q - ReferenceHalf(block + 2) * minimum;
}

double ReferenceQ6K(const uint8_t* block, size_t i) {
  const size_t half = i / 128;
  const size_t quarter = i % 128 / 32;
  const size_t l = i % 32;
  const uint8_t low_byte = block[half * 64 + (quarter % 2) * 32 + l];
  const int low = quarter < 2 ? low_byte & 15 : low_byte >> 4;
  const int high = (block[128 + half * 32 + l] >> (2 * quarter)) & 3;
  const int scale = static_cast<int8_t>(block[192 + i / 16]);
  return ReferenceHalf(block + 208) * scale * ((low | (high << 4)) - 32);
}

// Weight `i` of a row.
double ReferenceWeight(TensorType type, const uint8_t* row, size_t i) {
  const TensorTypeInfo& info = GetTensorTypeInfo(type);
  const uint8_t* block = row + i / info.block_elements * info.block_bytes;
  const size_t at = i % info.block_elements;
  const auto nibble = [&](size_t header) {
    return at < 16 ? block[header + at] & 15 : block[header + at - 16] >> 4;
  };
  switch (type) {
    case TensorType::kF32: {
      float value;
      std::memcpy(&value, block, sizeof(value));
      return static_cast<double>(value);
    }
    case TensorType::kF16:
      return ReferenceHalf(block);
    case TensorType::kBF16: {
      const uint32_t bits = static_cast<uint32_t>(block[0] << 16 | block[1] << 24);
      float value;
      std::memcpy(&value, &bits, sizeof(value));
      return static_cast<double>(value);
    }
    case TensorType::kQ8_0:
      return ReferenceHalf(block) * static_cast<int8_t>(block[2 + at]);
    case TensorType::kQ4_0:
      return ReferenceHalf(block) * (nibble(2) - 8);
    case TensorType::kQ4_1:
      return ReferenceHalf(block) * nibble(4) + ReferenceHalf(block + 2);
    case TensorType::kQ4_K:
      return ReferenceQ4K(block, at);
    case TensorType::kQ6_K:
      return ReferenceQ6K(block, at);
  }
  return NAN;
}

const uint8_t* Data(const std::string& bytes) {
  return reinterpret_cast<const uint8_t*>(bytes.data());
}

TEST(Quant, EveryHalfIsConverted) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const uint8_t bytes[] = {static_cast<uint8_t>(bits), static_cast<uint8_t>(bits >> 8)};
    const double expected = ReferenceHalf(bytes);
    const auto got = static_cast<double>(LoadHalf(bytes));
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(got)) << bits;
    } else {
      ASSERT_EQ(got, expected) << bits;
      ASSERT_EQ(std::signbit(got), std::signbit(expected)) << bits;
    }
  }
}

TEST(Quant, ExpansionFollowsTheFormats) {
  std::mt19937 random(1);
  constexpr size_t kRows = 5;
  constexpr size_t kColumns = 512;
  for (const TensorType type : kAllTypes) {
    const std::string bytes = testing::RandomWeights(type, kRows, kColumns, random);
    std::vector<float> out(kRows * kColumns);
    DequantizeRows({type, Data(bytes), kColumns, 0, kRows}, out.data());
    for (size_t r = 0; r < kRows; ++r) {
      for (size_t i = 0; i < kColumns; ++i) {
        const double expected =
            ReferenceWeight(type, Data(bytes) + r * RowBytes(type, kColumns), i);
        // At most three roundings of f32.
        ASSERT_NEAR(static_cast<double>(out[r * kColumns + i]), expected, 1e-6)
            << GetTensorTypeInfo(type).name << " row " << r << " column " << i;
      }
    }
  }
}

// |error| <= sum |w x| (columns roundings of f32 + 2^-15 of the largest activation of a block).
void CheckProduct(TensorType type, MatvecIsa isa, size_t columns, size_t rows, bool wide_range) {
  std::mt19937 random(static_cast<uint32_t>(columns));
  std::normal_distribution<float> normal;
  const std::string bytes = testing::RandomWeights(type, rows, columns, random);
  std::vector<float> x(columns);
  float largest = 0;
  for (size_t i = 0; i < columns; ++i) {
    x[i] = normal(random) * (wide_range && i % 37 == 0 ? 1000.0F : 1.0F);
    largest = std::max(largest, std::abs(x[i]));
  }
  Activation activation;
  QuantizeActivation(x, &activation);
  std::vector<float> y(rows, NAN);
  const size_t begin = rows > 1 ? 1 : 0;
  MultiplyRowsWith(isa, {type, Data(bytes), columns, begin, rows}, activation, y.data());
  for (size_t r = begin; r < rows; ++r) {
    double expected = 0;
    double bound = 0;
    for (size_t i = 0; i < columns; ++i) {
      const double w = ReferenceWeight(type, Data(bytes) + r * RowBytes(type, columns), i);
      expected += w * static_cast<double>(x[i]);
      bound += std::abs(w) * (std::abs(static_cast<double>(x[i])) * 0x1p-22 +
                              static_cast<double>(largest) * 0x1p-14);
    }
    ASSERT_NEAR(static_cast<double>(y[r - begin]), expected, bound)
        << GetTensorTypeInfo(type).name << " " << columns << " columns, row " << r;
  }
}

TEST(Quant, ProductsMatchTheReferenceOnEveryInstructionSet) {
  for (const MatvecIsa isa : {MatvecIsa::kPortable, MatvecIsa::kAvx2}) {
    if (!IsSupported(isa)) {
      continue;
    }
    for (const TensorType type : kAllTypes) {
      const size_t block = GetTensorTypeInfo(type).block_elements;
      for (const size_t columns : {size_t{256}, size_t{512}, size_t{1536}}) {
        for (const size_t rows : {size_t{1}, size_t{2}, size_t{7}}) {
          CheckProduct(type, isa, columns, rows, false);
          CheckProduct(type, isa, columns, rows, true);
        }
      }
      CheckProduct(type, isa, block == 1 ? 13 : block, 3, false);
      CheckProduct(type, isa, block == 1 ? 100 : 3 * block, 4, true);
    }
  }
}

TEST(Quant, ExtremeWeightsDoNotOverflow) {
  // The largest products the formats allow: all bits set, and the smallest numbers.
  for (const TensorType type : {TensorType::kQ8_0, TensorType::kQ4_K, TensorType::kQ6_K}) {
    for (const char fill : {'\x7f', '\x80', '\x00', '\xff'}) {
      constexpr size_t kColumns = 256;
      std::string bytes(RowBytes(type, kColumns), fill);
      const TensorTypeInfo& info = GetTensorTypeInfo(type);
      for (size_t b = 0; b < bytes.size(); b += info.block_bytes) {
        const size_t at = type == TensorType::kQ6_K ? 208 : 0;
        const std::string one = {'\x00', '\x3c'};
        bytes.replace(b + at, 2, one);
        if (type == TensorType::kQ4_K) {
          bytes.replace(b + 2, 2, one);
        }
      }
      const std::vector<float> x(kColumns, 3.0F);
      double expected = 0;
      for (size_t i = 0; i < kColumns; ++i) {
        expected += 3.0 * ReferenceWeight(type, Data(bytes), i);
      }
      Activation activation;
      QuantizeActivation(x, &activation);
      for (const MatvecIsa isa : {MatvecIsa::kPortable, MatvecIsa::kAvx2}) {
        if (IsSupported(isa)) {
          float y = 0;
          MultiplyRowsWith(isa, {type, Data(bytes), kColumns, 0, 1}, activation, &y);
          EXPECT_NEAR(static_cast<double>(y), expected, std::abs(expected) * 1e-4 + 1e-3);
        }
      }
    }
  }
}

TEST(Quant, ZeroActivationGivesZero) {
  std::mt19937 random(2);
  const std::string bytes = testing::RandomWeights(TensorType::kQ4_1, 1, 64, random);
  const std::vector<float> x(64, 0.0F);
  Activation activation;
  QuantizeActivation(x, &activation);
  float y = 1;
  MultiplyRows({TensorType::kQ4_1, Data(bytes), 64, 0, 1}, activation, &y);
  EXPECT_EQ(y, 0.0F);
}

}  // namespace
}  // namespace hipattn_run
