// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The comparator itself: a lenient one would let every other suite pass.
#include "tests/support/compare.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

namespace hipattn::testing {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

using Numbers = std::vector<float>;

TEST(Compare, BoundIsAbsolutePlusRelative) {
  EXPECT_TRUE(Near(Numbers{1.5F, 102}, Numbers{1, 100}, {1, 0.01}));
  EXPECT_FALSE(Near(Numbers{1, 102.1F}, Numbers{1, 100}, {1, 0.01}));
  EXPECT_TRUE(Near(Numbers{}, Numbers{}, {}));
  EXPECT_FALSE(Near(Numbers{1}, Numbers{1, 1}, {1, 1}));
}

TEST(Compare, SpecialNumbersStandAtTheSamePlaces) {
  EXPECT_TRUE(Near(Numbers{kNan, kInf, -kInf}, Numbers{kNan, kInf, -kInf}, {}));
  for (const float other : {0.0F, kInf, -kInf, kNan}) {
    for (const float want : {0.0F, kInf, -kInf, kNan}) {
      const bool is_same = SameBits(Numbers{other}, Numbers{want});
      EXPECT_EQ(static_cast<bool>(Near(Numbers{other}, Numbers{want}, {1e30, 1})), is_same);
    }
  }
}

TEST(Compare, NamesTheWorstIndex) {
  const ::testing::AssertionResult result =
      Near(Numbers{1.1F, 5, 1.2F}, Numbers{1, 1, 1}, {0.01, 0});
  EXPECT_NE(std::string(result.message()).find("[1]"), std::string::npos);
}

TEST(Compare, BitsTellZerosApart) {
  EXPECT_FALSE(SameBits(Numbers{0.0F}, Numbers{-0.0F}));
  EXPECT_FALSE(SameBits(Numbers{1}, Numbers{1, 2}));
}

}  // namespace
}  // namespace hipattn::testing
