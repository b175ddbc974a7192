// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Anchors of a delta correction: which rows they are, and what they cost.
#include "core/mask/anchors.h"

#include <gtest/gtest.h>

#include <vector>

namespace hipattn::core {
namespace {

std::vector<uint64_t> AnchorsOf(uint32_t begin, uint32_t end, uint32_t interval) {
  const Anchors anchors(begin, interval);
  std::vector<uint64_t> positions;
  for (uint64_t pos = anchors.Next(begin); pos < end;
       pos = anchors.Next(static_cast<uint32_t>(pos) + 1)) {
    positions.push_back(pos);
  }
  return positions;
}

TEST(Anchors, AreTheFirstRowAndMultiplesOfTheInterval) {
  EXPECT_EQ(AnchorsOf(0, 50, 16), (std::vector<uint64_t>{0, 16, 32, 48}));
  EXPECT_EQ(AnchorsOf(5, 50, 16), (std::vector<uint64_t>{5, 16, 32, 48}));
  EXPECT_EQ(AnchorsOf(32, 48, 16), (std::vector<uint64_t>{32}));
  EXPECT_EQ(AnchorsOf(7, 9, 1), (std::vector<uint64_t>{7, 8}));
  EXPECT_EQ(AnchorsOf(7, 9, UINT32_MAX), (std::vector<uint64_t>{7}));
  EXPECT_TRUE(AnchorsOf(0, 50, 0).empty());
}

// A slice begins with an anchor only where its position says so.
TEST(Anchors, OfASliceAreThoseOfTheChunk) {
  const Anchors anchors(5, 16);
  EXPECT_EQ(anchors.Next(6), 16U);
  EXPECT_EQ(anchors.Next(16), 16U);
  EXPECT_EQ(anchors.Next(17), 32U);
}

TEST(Anchors, CostTheirShareOfDenseAttention) {
  for (const uint32_t interval : {1U, 2U, 16U, 64U}) {
    const PrefillShape shape = {8192, 8192};
    EXPECT_LE(Anchors(0, interval).Tiles(shape), CausalTiles(shape) / interval + 1) << interval;
    EXPECT_GE(Anchors(0, interval).Tiles(shape) * interval * 51, CausalTiles(shape) * 50)
        << interval;
  }
  EXPECT_EQ(Anchors(0, 64).Tiles({64, 64}), 1U) << "one row of 64 keys, rounded up";
  EXPECT_EQ(Anchors(0, 64).Tiles({63, 127}), 1U) << "a slice";
  EXPECT_EQ(Anchors(1, 64).Tiles({62, 64}), 0U) << "a slice without an anchor";
  EXPECT_EQ(Anchors(0, 0).Tiles({64, 64}), 0U);
}

}  // namespace
}  // namespace hipattn::core
