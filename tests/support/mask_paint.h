// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Masks of a sparse prefill for tests: built into memory of their own, and painted pair by pair.
#ifndef HIPATTN_TESTS_SUPPORT_MASK_PAINT_H_
#define HIPATTN_TESTS_SUPPORT_MASK_PAINT_H_

#include "core/mask/mask_build.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <span>
#include <vector>

namespace hipattn::testing {

// A source's mask, in exactly the bytes that were announced: one more is seen by AddressSanitizer.
struct BuiltMask {
  explicit BuiltMask(const core::TileSource& source)
      : shape(source.shape()),
        size(core::MeasureMask(source).value()),
        words(size.bytes() / sizeof(uint32_t)),
        mask(core::FillMask(source, size, reinterpret_cast<std::byte*>(words.data()))) {}
  BuiltMask(const BuiltMask&) = delete;
  BuiltMask& operator=(const BuiltMask&) = delete;

  std::span<const MaskRange> Ranges(uint32_t tile) const {
    return {mask.ranges + mask.range_ptr[tile], mask.range_ptr[tile + 1] - mask.range_ptr[tile]};
  }
  std::span<const ColumnInterval> Intervals(uint32_t tile) const {
    return {mask.intervals + mask.range_ptr[tile] + tile, Ranges(tile).size() + 1};
  }
  std::vector<int32_t> Columns(uint32_t tile) const {
    std::vector<int32_t> columns;
    for (const ColumnInterval& gap : Intervals(tile)) {
      columns.insert(columns.end(), mask.columns + gap.begin, mask.columns + gap.end);
    }
    return columns;
  }

  core::PrefillShape shape;
  core::MaskSize size;
  std::vector<uint32_t> words;
  PrefillMask mask;
};

// How often each pair [q_len][kv_len] is attended, as prefill_mask.h says.
inline std::vector<uint8_t> Paint(const BuiltMask& built) {
  const core::PrefillShape& shape = built.shape;
  std::vector<uint8_t> paint(size_t{shape.q_len} * shape.kv_len, 0);
  for (uint32_t row = 0; row < shape.q_len; ++row) {
    const uint32_t pos = shape.kv_len - shape.q_len + row;
    uint8_t* line = paint.data() + size_t{row} * shape.kv_len;
    for (const MaskRange& range : built.Ranges(row / kRowTile)) {
      for (uint32_t key = range.begin; key < range.end && key <= pos; ++key) {
        if (range.windowed == 0 || pos - key < built.mask.window) {
          ++line[key];
        }
      }
    }
    for (const int32_t key : built.Columns(row / kRowTile)) {
      if (static_cast<uint32_t>(key) <= pos) {
        ++line[key];
      }
    }
  }
  return paint;
}

// What prefill_mask.h says of every mask.
inline void ExpectWellFormed(const BuiltMask& built) {
  ASSERT_EQ(built.mask.num_tiles, core::NumRowTiles(built.shape));
  EXPECT_EQ(built.mask.range_ptr[0], 0U);
  EXPECT_EQ(built.mask.range_ptr[built.mask.num_tiles], built.size.num_ranges);
  for (uint32_t tile = 0; tile < built.mask.num_tiles; ++tile) {
    uint32_t done = 0;
    for (const MaskRange& range : built.Ranges(tile)) {
      EXPECT_GE(range.begin, done) << "tile " << tile;
      EXPECT_LT(range.begin, range.end) << "tile " << tile;
      EXPECT_LE(range.windowed, 1U);
      done = range.end;
    }
    EXPECT_LE(done, core::TileLimit(built.shape, tile)) << "tile " << tile;
    const std::span<const MaskRange> ranges = built.Ranges(tile);
    const std::span<const ColumnInterval> gaps = built.Intervals(tile);
    for (size_t i = 0; i < gaps.size(); ++i) {
      const uint32_t begin = i == 0 ? 0 : ranges[i - 1].end;
      const uint32_t end = i < ranges.size() ? ranges[i].begin : core::TileLimit(built.shape, tile);
      ASSERT_LE(gaps[i].begin, gaps[i].end);
      ASSERT_LE(gaps[i].end, built.mask.num_columns);
      for (uint32_t place = gaps[i].begin; place < gaps[i].end; ++place) {
        EXPECT_GE(built.mask.columns[place], begin);
        EXPECT_LT(built.mask.columns[place], end);
      }
    }
  }
}

}  // namespace hipattn::testing

#endif  // HIPATTN_TESTS_SUPPORT_MASK_PAINT_H_
