// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What a sparse prefill attends, as every selector says it and every kernel reads it: per q head
// and row tile ascending ranges of keys, and beside them single columns that all tiles share.
//
// Row tile m is the rows 64 m .. 64 m + 63 of the chunk. Its ranges are range_ptr[m] to
// range_ptr[m + 1]: ascending, disjoint, not empty, none behind the tile's last row.
//
// n ranges leave n + 1 gaps: before, between and behind them. Interval t of the tile, in row
// range_ptr[m] + m + t, names the columns in gap t: columns[begin] .. columns[end - 1]. Empty ones
// are kept.
//
// Row i attends key j <= i when a range of its tile holds j (a windowed range: and i - j < window),
// or one of its tile's intervals does. Nothing is in both, so nothing is attended twice.
#ifndef HIPATTN_BASE_PREFILL_MASK_H_
#define HIPATTN_BASE_PREFILL_MASK_H_

#include <cstdint>

namespace hipattn {

inline constexpr uint32_t kRowTile = 64;

struct MaskRange {
  uint32_t begin, end;  // positions of keys
  uint32_t windowed;    // 1: each row attends only the keys less than `window` behind it
};

struct ColumnInterval {
  uint32_t begin, end;  // places in columns
};

// One q head's mask. Plain arrays in device memory.
struct PrefillMask {
  const uint32_t* range_ptr;  // [num_tiles + 1]
  const MaskRange* ranges;
  const ColumnInterval* intervals;  // [range_ptr[num_tiles] + num_tiles]
  const uint32_t* columns;          // [num_columns] positions of keys, ascending
  uint32_t num_tiles, num_columns;
  uint32_t window;
};

}  // namespace hipattn

#endif  // HIPATTN_BASE_PREFILL_MASK_H_
