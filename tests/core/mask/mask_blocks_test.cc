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

TEST(MaskBlocks, AreThoseThatSomeRowReads) {
  const PrefillShape shape = {300, 777};
  const BuiltMask lines(LineTiles(shape, {{3, 100, 101, 500, 776}}, {{0, 90, 400, 700}}));
  const BuiltMask ends(BlockTiles(shape, {5, 33}, nullptr));
  const BuiltMask nothing(LineTiles(shape, {}, {}));
  const std::vector<PrefillMask> masks = {lines.mask, nothing.mask, ends.mask};
  for (const uint32_t block_tokens : {16U, 32U, 64U}) {
    for (uint32_t first = 0; first < lines.mask.num_tiles; ++first) {
      for (uint32_t end = first; end <= lines.mask.num_tiles; ++end) {
        std::set<uint32_t> want;
        for (const BuiltMask* built : {&lines, &ends}) {
          const std::vector<uint8_t> paint = Paint(*built);
          for (uint32_t row = first * kRowTile; row < std::min(end * kRowTile, shape.q_len);
               ++row) {
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
  EXPECT_TRUE(BlocksNeeded({&nothing.mask, 1}, {0, nothing.mask.num_tiles}, 16).empty());
}

}  // namespace
}  // namespace hipattn::core
