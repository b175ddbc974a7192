// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "base/int_math.h"

#include <gtest/gtest.h>

namespace hipattn {
namespace {

TEST(IntMath, CeilDivAndRoundUp) {
  for (uint64_t b : {1U, 2U, 3U, 8U, 17U}) {
    for (uint64_t a = 0; a < 100; ++a) {
      uint64_t want = 0;
      while (want * b < a) {
        ++want;
      }
      EXPECT_EQ(CeilDiv(a, b), want) << a << " / " << b;
      EXPECT_EQ(RoundUp(a, b), want * b);
    }
  }
  EXPECT_EQ(CeilDiv<uint64_t>(UINT64_MAX, 2), uint64_t{1} << 63) << "must not overflow on the way";
}

TEST(IntMath, CheckedProductsAndSums) {
  uint64_t value = 5;
  EXPECT_TRUE(CheckedMul(uint64_t{1} << 32, (uint64_t{1} << 32) - 1, &value));
  EXPECT_EQ(value, UINT64_MAX - UINT32_MAX);
  EXPECT_FALSE(CheckedMul(uint64_t{1} << 32, uint64_t{1} << 32, &value));
  EXPECT_EQ(value, UINT64_MAX - UINT32_MAX) << "untouched on overflow";
  EXPECT_TRUE(CheckedAdd(UINT64_MAX - 1, 1, &value));
  EXPECT_EQ(value, UINT64_MAX);
  EXPECT_FALSE(CheckedAdd(UINT64_MAX, 1, &value));
  EXPECT_EQ(value, UINT64_MAX);
  EXPECT_TRUE(CheckedMul(0, UINT64_MAX, &value));
  EXPECT_EQ(value, 0U);
}

}  // namespace
}  // namespace hipattn
