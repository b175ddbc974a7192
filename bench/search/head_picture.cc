// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "head_picture.h"

#include <algorithm>

namespace pattern_search {

Result<TileMasses> MassesOf(const HeadInput& input,
                            uint32_t head_dim,
                            const std::optional<hipattn::core::HeadPattern>& pattern,
                            HeadAttention* attention) {
  const size_t rows = input.q.size() / head_dim;
  const size_t tiles = (rows + kPictureTile - 1) / kPictureTile;
  TileMasses masses(tiles);
  for (size_t tile = 0; tile < tiles; ++tile) {
    masses[tile].resize(tile + 1);
  }
  HeadInput probe = {input.q, input.k, {}};
  // As many tiles at a time as the head has channels.
  for (size_t first = 0; first < tiles; first += head_dim) {
    const size_t count = std::min<size_t>(head_dim, tiles - first);
    probe.v.assign(rows * head_dim, 0.0F);
    for (size_t key = first * kPictureTile; key < std::min(rows, (first + count) * kPictureTile);
         ++key) {
      probe.v[key * head_dim + key / kPictureTile - first] = 1.0F;
    }
    const Result<Attended> attended = attention->Run(probe, pattern);
    if (!attended.ok()) {
      return attended.status();
    }
    for (size_t row = 0; row < rows; ++row) {
      const size_t tile = row / kPictureTile;
      const auto tile_rows =
          static_cast<float>(std::min<size_t>(kPictureTile, rows - tile * kPictureTile));
      for (size_t key_tile = first; key_tile < std::min(first + count, tile + 1); ++key_tile) {
        masses[tile][key_tile] +=
            attended.value().out[row * head_dim + key_tile - first] / tile_rows;
      }
    }
  }
  return masses;
}

}  // namespace pattern_search
