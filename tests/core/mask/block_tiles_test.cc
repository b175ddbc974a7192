// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Sinks, windows and blocks as masks, pair by pair against what their header says.
#include "core/mask/block_tiles.h"

#include "tests/support/kv_fixture.h"
#include "tests/support/mask_paint.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace hipattn::core {
namespace {

using hipattn::testing::BuiltMask;
using hipattn::testing::ExpectWellFormed;
using hipattn::testing::Paint;
using hipattn::testing::Random;

std::vector<uint8_t> Plain(const PrefillShape& shape,
                           const MaskEnds& ends,
                           const BlockLists* lists) {
  std::vector<uint8_t> paint(size_t{shape.q_len} * shape.kv_len, 0);
  for (uint32_t row = 0; row < shape.q_len; ++row) {
    const uint32_t pos = shape.kv_len - shape.q_len + row;
    for (uint32_t key = 0; key <= pos; ++key) {
      bool attended = key < ends.sink_tokens || pos - key < ends.window_tokens;
      if (lists != nullptr) {
        const auto list = lists->List(row / kRowTile / lists->tiles_per_list);
        const auto block = static_cast<int32_t>(key / lists->block_tokens);
        attended = attended || std::find(list.begin(), list.end(), block) != list.end();
      }
      paint[size_t{row} * shape.kv_len + key] = attended ? 1 : 0;
    }
  }
  return paint;
}

void ExpectPlain(const PrefillShape& shape, const MaskEnds& ends, const BlockLists* lists) {
  const BuiltMask built(BlockTiles(shape, ends, lists));
  ExpectWellFormed(built);
  EXPECT_EQ(Paint(built), Plain(shape, ends, lists))
      << "q_len " << shape.q_len << ", kv_len " << shape.kv_len << ", sinks " << ends.sink_tokens
      << ", window " << ends.window_tokens;
}

// Also T8: sinks and window meet, nothing is counted twice.
TEST(PrefillAcceptance, T7_AShapesAreExactForEachRow) {
  const MaskEnds shapes[] = {{0, 0},
                             {0, 1},
                             {5, 0},
                             {1, 64},
                             {100, 800},
                             {128, 3968},
                             {64, 64},
                             {129, 1},
                             {1000, 30},
                             {UINT32_MAX, UINT32_MAX}};
  for (const uint32_t n : {1U, 63U, 64U, 65U, 129U, 1023U, 1025U}) {
    for (const MaskEnds& ends : shapes) {
      ExpectPlain({n, n}, ends, nullptr);
      ExpectPlain({1 + n / 3, n}, ends, nullptr);
    }
  }
}

// SPEC 3.3: tiles of the joined ranges [0, n_init) and [first - n_local + 1, limit).
TEST(BlockTiles, AShapesCountTheirTilesJoined) {
  const BuiltMask apart(BlockTiles({256, 256}, {10, 20}, nullptr));
  // Tiles 0: [0, 64). 1: [0, 10), [45, 128). 2: [0, 10), [109, 192). 3: [0, 10), [173, 256).
  EXPECT_EQ(apart.size.computed_tiles, 1U + 3 * (1 + 2));
  const BuiltMask touching(BlockTiles({256, 256}, {45, 20}, nullptr));
  EXPECT_EQ(touching.size.computed_tiles, 1U + 2 + 2 * (1 + 2)) << "[0, 45) and [45, 128) are 2";
}

TEST(BlockTiles, AWindowThatEveryRowSeesWholeIsNoWindow) {
  const BuiltMask built(BlockTiles({200, 200}, {0, 200}, nullptr));
  for (uint32_t tile = 0; tile < built.mask.num_tiles; ++tile) {
    ASSERT_EQ(built.Ranges(tile).size(), 1U);
    EXPECT_EQ(built.Ranges(tile)[0].windowed, 0U);
  }
}

TEST(BlockTiles, BlocksSinksAndWindowsTogether) {
  Random random(4);
  for (int i = 0; i < 300 && !::testing::Test::HasFailure(); ++i) {
    const uint32_t kv_len = 1 + random.Below(700);
    const PrefillShape shape = {1 + random.Below(kv_len), kv_len};
    BlockLists lists;
    lists.block_tokens = uint32_t{16} << random.Below(4);
    lists.tiles_per_list = 1 + random.Below(2);
    const uint32_t one_in = 1 + random.Below(6);
    for (uint32_t list = 0; list < CeilDiv(NumRowTiles(shape), lists.tiles_per_list); ++list) {
      for (uint32_t block = 0; block < CeilDiv(kv_len, lists.block_tokens) + 1; ++block) {
        if (random.Below(one_in) == 0) {
          lists.blocks.push_back(static_cast<int32_t>(block));
        }
      }
      lists.EndList();
    }
    ExpectPlain(
        shape, {random.Below(3) * random.Below(90), random.Below(2) * random.Below(200)}, &lists);
  }
}

// SPEC 7.1: a block-sparse head's tiles are its chosen blocks, the last one cut or not.
TEST(BlockTiles, BlocksOf64AreOneTileEach) {
  BlockLists lists;
  for (int32_t tile = 0; tile < 4; ++tile) {
    for (int32_t block = 0; block <= tile; block += 1 + tile / 2) {
      lists.blocks.push_back(block);
    }
    lists.EndList();
  }
  const BuiltMask built(BlockTiles({200, 200}, {}, &lists));
  EXPECT_EQ(built.size.computed_tiles, lists.blocks.size());
}

}  // namespace
}  // namespace hipattn::core
