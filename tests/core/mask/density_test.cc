// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// When dense attention runs in a pattern's place, and shapes that are none.
#include "core/mask/density.h"

#include <gtest/gtest.h>

namespace hipattn::core {
namespace {

TEST(PrefillShape, RefusesChunksThatAreNone) {
  EXPECT_TRUE(CheckShape({1, 1}).ok());
  EXPECT_TRUE(CheckShape({3, INT32_MAX}).ok());
  EXPECT_EQ(CheckShape({0, 3}).code(), StatusCode::kInvalidArgument);
  EXPECT_NE(CheckShape({5, 3}).message().find("q_len is 5"), std::string::npos);
  EXPECT_NE(CheckShape({5, 0x80000000U}).message().find("kv_len is 2147483648"), std::string::npos);
}

TEST(PrefillShape, CountsTheTilesOfDenseAttention) {
  EXPECT_EQ(CausalTiles({1, 1}), 1U);
  EXPECT_EQ(CausalTiles({64, 64}), 1U);
  EXPECT_EQ(CausalTiles({65, 65}), 3U);
  EXPECT_EQ(CausalTiles({100, 357}), 6U + 6U) << "limits 321 and 357";
  EXPECT_EQ(CausalTiles({1 << 20, 1 << 20}), (uint64_t{16384} * 16385) / 2);
}

TEST(Density, TheFirstReasonThatHoldsIsGiven) {
  const PrefillShape chunk = {64, 128};  // 2 tiles
  EXPECT_EQ(WhyDense(chunk, 3, 1, {4, 128, 9.0}), DenseReason::kLayer);
  EXPECT_EQ(WhyDense({1, 128}, 4, 1, {4, 128, 9.0}), DenseReason::kDecode);
  EXPECT_EQ(WhyDense(chunk, 4, 1, {4, 128, 9.0}), DenseReason::kShort);
  EXPECT_EQ(WhyDense(chunk, 4, 1, {4, 127, 9.0}), DenseReason::kDensity);
  EXPECT_EQ(WhyDense(chunk, 4, 1, {4, 127, 2.0}), DenseReason::kDensity) << "as dear as dense";
  EXPECT_EQ(WhyDense(chunk, 4, 1, {4, 127, 1.9}), DenseReason::kNone);
  EXPECT_EQ(WhyDense(chunk, 4, 5, {4, 127, 0.0}), DenseReason::kNone) << "the rule is off";
  EXPECT_EQ(WhyDense(chunk, 4, {4, 127, 9.0}), DenseReason::kNone) << "nothing was estimated";
  EXPECT_STREQ(DenseReasonName(DenseReason::kDensity), "density");
  EXPECT_DOUBLE_EQ(Density(chunk, 5), 2.5);
}

}  // namespace
}  // namespace hipattn::core
