// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/rope.h"

#include "tests/core/walk_support.h"

#include <gtest/gtest.h>

#include <cmath>

namespace hipattn::core {
namespace {

TEST(Rope, FrequenciesFallFromOneByThePowerLaw) {
  const std::vector<double> inv_freq = RopeInvFreq(64, 10000.0);
  ASSERT_EQ(inv_freq.size(), 32U);
  EXPECT_DOUBLE_EQ(inv_freq[0], 1.0);
  EXPECT_DOUBLE_EQ(inv_freq[16], 0.01);
}

TEST(Rope, PairsAreHalvesApartOrNeighbours) {
  const std::vector<double> inv_freq = {std::acos(0.0)};  // a quarter turn per position
  std::vector<float> half = {1, 2, 3};
  ApplyRope(RopeLayout::kHalf, inv_freq, 1, half);
  EXPECT_NEAR(half[0], -2, 1e-6);
  EXPECT_NEAR(half[1], 1, 1e-6);
  EXPECT_EQ(half[2], 3) << "dimensions behind the pairs stay";
  const std::vector<double> two = {std::acos(0.0), 0.0};
  std::vector<float> interleaved = {1, 2, 5, 7};
  ApplyRope(RopeLayout::kInterleaved, two, 1, interleaved);
  EXPECT_NEAR(interleaved[0], -2, 1e-6);
  EXPECT_NEAR(interleaved[1], 1, 1e-6);
  EXPECT_EQ(interleaved[2], 5);
  std::vector<float> none = {1, 2};
  ApplyRope(RopeLayout::kNone, inv_freq, 9, none);
  EXPECT_EQ(none, (std::vector<float>{1, 2}));
}

TEST(Rope, ProductsDependOnTheDistanceEvenAtAMillion) {
  Random random(1);
  const std::vector<double> inv_freq = RopeInvFreq(64, 500000.0);
  const std::vector<float> q = random.Normals(64);
  const std::vector<float> k = random.Normals(64);
  const auto score = [&](RopeLayout layout, int64_t at) {
    std::vector<float> turned_q = q;
    std::vector<float> turned_k = k;
    ApplyRope(layout, inv_freq, at + 77, turned_q);
    ApplyRope(layout, inv_freq, at, turned_k);
    double sum = 0;
    for (size_t i = 0; i < 64; ++i) {
      sum += double{turned_q[i]} * turned_k[i];
    }
    return sum;
  };
  for (const RopeLayout layout : {RopeLayout::kHalf, RopeLayout::kInterleaved}) {
    // Each product of turned values is off by a few units in the last place; f32 angles would be
    // off by 0.06 rad at 10^6.
    EXPECT_NEAR(score(layout, 0), score(layout, 1000000), 64 * 8 * 0x1p-24 * 4);
  }
}

}  // namespace
}  // namespace hipattn::core
