// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The blocks that a plan needs are those with a key that a row attends, for any tiles and masks.
#include "core/mask/mask_blocks.h"

#include "core/mask/block_tiles.h"
#include "core/mask/line_tiles.h"
#include "tests/support/kv_fixture.h"
#include "tests/support/mask_paint.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace hipattn::core {
namespace {

using hipattn::testing::BuiltMask;
using hipattn::testing::Paint;

// Of any tiles, against the painted pairs.
void ExpectBlocks(const std::vector<const BuiltMask*>& built, uint32_t block_tokens) {
  const PrefillShape& shape = built[0]->shape;
  std::vector<PrefillMask> masks;
  std::vector<std::vector<uint8_t>> paints;
  for (const BuiltMask* mask : built) {
    masks.push_back(mask->mask);
    paints.push_back(Paint(*mask));
  }
  for (uint32_t first = 0; first < masks[0].num_tiles; ++first) {
    for (uint32_t end = first; end <= masks[0].num_tiles; ++end) {
      std::set<uint32_t> want;
      for (const std::vector<uint8_t>& paint : paints) {
        for (uint32_t row = first * kRowTile; row < std::min(end * kRowTile, shape.q_len); ++row) {
          for (uint32_t key = 0; key < shape.kv_len; ++key) {
            if (paint[size_t{row} * shape.kv_len + key] != 0) {
              want.insert(key / block_tokens);
            }
          }
        }
      }
      EXPECT_EQ(BlocksNeeded(masks, {first, end}, block_tokens),
                std::vector<uint32_t>(want.begin(), want.end()))
          << "tiles " << first << " to " << end << ", blocks of " << block_tokens;
    }
  }
}

TEST(MaskBlocks, AreThoseThatSomeRowReads) {
  const PrefillShape shape = {300, 777};
  const BuiltMask lines(LineTiles(shape, {{3, 100, 101, 500, 776}}, {{0, 90, 400, 700}}));
  const BuiltMask columns(LineTiles(shape, {{3, 550, 600, 700}}, {}));
  const BuiltMask ends(BlockTiles(shape, {5, 33}, nullptr));
  const BuiltMask nothing(LineTiles(shape, {}, {}));
  for (const uint32_t block_tokens : {16U, 32U, 64U}) {
    ExpectBlocks({&lines, &nothing, &ends}, block_tokens);
    ExpectBlocks({&lines}, block_tokens);
    ExpectBlocks({&columns}, block_tokens);
    ExpectBlocks({&ends}, block_tokens);
  }
  EXPECT_TRUE(BlocksNeeded({&nothing.mask, 1}, {0, nothing.mask.num_tiles}, 16).empty());
}

}  // namespace
}  // namespace hipattn::core
