// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Block-sparse heads: budgets, ties, forced blocks and the compatible mode.
#include "core/pattern/block_select.h"

#include "core/mask/block_tiles.h"
#include "core/pattern/own_blocks.h"
#include "tests/support/kv_fixture.h"
#include "tests/support/mask_paint.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace hipattn::core {
namespace {

using hipattn::testing::BuiltMask;
using hipattn::testing::Random;

std::vector<float> Scores(const PrefillShape& shape, uint32_t levels, Random* random) {
  std::vector<float> scores(size_t{NumRowTiles(shape)} * NumKeyBlocks(shape, kRowTile));
  std::generate(scores.begin(), scores.end(), [&] {
    return static_cast<float>(random->Below(levels)) - 3.0F;
  });
  return scores;
}

TEST(PrefillAcceptance, T9_AsManyBlocksAsThereAreIsDense) {
  Random random(9);
  TopScores scratch;
  for (const PrefillShape shape : {PrefillShape{1000, 1000}, {100, 357}, {1, 1}, {65, 65}}) {
    for (const BlockMode mode : {BlockMode::kForced, BlockMode::kCompat}) {
      const BlockLists lists = SelectBlocks(
          shape, Scores(shape, 9, &random), NumKeyBlocks(shape, kRowTile), mode, &scratch);
      const BuiltMask built(BlockTiles(shape, {}, &lists));
      const std::vector<uint8_t> paint = testing::Paint(built);
      for (uint32_t row = 0; row < shape.q_len; ++row) {
        for (uint32_t key = 0; key <= shape.kv_len - shape.q_len + row; ++key) {
          ASSERT_EQ(paint[size_t{row} * shape.kv_len + key], 1);
        }
      }
      EXPECT_EQ(built.size.computed_tiles, CausalTiles(shape));
    }
  }
}

TEST(PrefillAcceptance, T9_OneBlockOfTheCompatibleModeIsTheBestAndTheLowest) {
  Random random(10);
  TopScores scratch;
  const PrefillShape shape = {1000, 1000};
  for (const uint32_t levels : {1U, 2U, 1000U}) {
    const std::vector<float> scores = Scores(shape, levels, &random);
    const BlockLists lists = SelectBlocks(shape, scores, 1, BlockMode::kCompat, &scratch);
    for (uint32_t tile = 0; tile < 16; ++tile) {
      const auto row = scores.begin() + tile * 16;
      ASSERT_EQ(lists.List(tile).size(), 1U);
      EXPECT_EQ(lists.List(tile)[0], std::max_element(row, row + tile + 1) - row);
    }
    EXPECT_TRUE(SelectBlocks(shape, scores, 0, BlockMode::kCompat, &scratch).blocks.empty());
  }
}

TEST(PrefillAcceptance, T9_ForcedBlocksLeaveNoRowEmpty) {
  Random random(11);
  TopScores scratch;
  for (const PrefillShape shape : {PrefillShape{1000, 1000}, {100, 357}, {30, 330}, {1, 1}}) {
    for (const uint32_t num_blocks : {0U, 1U, 2U, 5U}) {
      const BlockLists lists =
          SelectBlocks(shape, Scores(shape, 9, &random), num_blocks, BlockMode::kForced, &scratch);
      const BuiltMask built(BlockTiles(shape, {}, &lists));
      const std::vector<uint8_t> paint = testing::Paint(built);
      for (uint32_t row = 0; row < shape.q_len; ++row) {
        const uint32_t pos = shape.kv_len - shape.q_len + row;
        EXPECT_EQ(paint[size_t{row} * shape.kv_len + pos], 1) << "itself";
        EXPECT_EQ(paint[size_t{row} * shape.kv_len], 1) << "key 0";
      }
      for (uint32_t tile = 0; tile < NumRowTiles(shape); ++tile) {
        const OwnBlocks own = OwnBlocksOf(shape, tile, kRowTile);
        const uint32_t forced = own.last - own.first + (own.first > 0 ? 2 : 1);
        EXPECT_EQ(lists.List(tile).size(), std::min(std::max(num_blocks, forced), own.last + 1));
      }
    }
  }
}

TEST(OwnBlocks, AreThoseOfTheRowsPositions) {
  const PrefillShape shape = {100, 357};  // positions 257 to 356
  EXPECT_EQ(OwnBlocksOf(shape, 0, 64).first, 4U);
  EXPECT_EQ(OwnBlocksOf(shape, 0, 64).last, 5U) << "position 320";
  EXPECT_EQ(OwnBlocksOf(shape, 1, 64).first, 5U);
  EXPECT_EQ(OwnBlocksOf(shape, 1, 64).last, 5U) << "position 356";
}

}  // namespace
}  // namespace hipattn::core
