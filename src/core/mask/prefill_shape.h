// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The rows of a prefill chunk and the keys that they see (prefill SPEC 1.2 and 1.3, in
// tests/golden/reference/minference).
//
// The chunk's row r sits at position kv_len - q_len + r and sees the keys up to there. Row tile m
// is the rows 64 m .. 64 m + 63 of the chunk, not of the text: a chunk that begins at no multiple
// of 64 has tiles that lie across blocks of 64 keys.
#ifndef HIPATTN_CORE_MASK_PREFILL_SHAPE_H_
#define HIPATTN_CORE_MASK_PREFILL_SHAPE_H_

#include "base/int_math.h"
#include "base/prefill_mask.h"
#include "base/status.h"

#include <algorithm>
#include <cstdint>

namespace hipattn::core {

struct PrefillShape {
  uint32_t q_len = 0;
  uint32_t kv_len = 0;  // with the chunk's own keys
};

// kInvalidArgument unless 1 <= q_len <= kv_len < 2^31. What follows needs a shape that passed.
Status CheckShape(const PrefillShape& shape);

constexpr uint32_t NumRowTiles(const PrefillShape& shape) {
  return CeilDiv(shape.q_len, kRowTile);
}

// Of the tile's first row.
constexpr uint32_t TilePosition(const PrefillShape& shape, uint32_t tile) {
  return shape.kv_len - shape.q_len + tile * kRowTile;
}

// As if the last tile had all its rows: may lie behind kv_len.
constexpr uint32_t TileEnd(const PrefillShape& shape, uint32_t tile) {
  return TilePosition(shape, tile) + kRowTile;
}

// How many keys the tile's last row sees.
constexpr uint32_t TileLimit(const PrefillShape& shape, uint32_t tile) {
  return std::min(TileEnd(shape, tile), shape.kv_len);
}

// 64 x 64 tiles that dense attention computes: each row tile's limit in 64s, rounded up.
uint64_t CausalTiles(const PrefillShape& shape);

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_MASK_PREFILL_SHAPE_H_
