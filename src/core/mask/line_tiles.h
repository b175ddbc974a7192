// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Vertical-slash lines as tiles (prefill SPEC 5). A vertical is a key that every later row attends,
// a slash s the pairs of row i and key i - s. A tile of 64 rows attends a slash by 64 keys that the
// rows share: in ascending order each slash whose keys are not all covered yet adds 64 more. So a
// tile attends every line, and keys beside them.
//
// Seen from the tile's end the ranges are the same for every tile but where slashes leave the text:
// they are found once, and each tile walks only the slashes that differ.
#ifndef HIPATTN_CORE_MASK_LINE_TILES_H_
#define HIPATTN_CORE_MASK_LINE_TILES_H_

#include "core/mask/tile_source.h"

#include <cstdint>
#include <span>
#include <vector>

namespace hipattn::core {

class LineTiles : public TileSource {
 public:
  // Lines in any order; those below 0 or from kv_len on are dropped, repeats count once.
  LineTiles(const PrefillShape& shape,
            std::span<const int32_t> verticals,
            std::span<const int32_t> slashes);

  void Ranges(uint32_t tile, std::vector<MaskRange>* ranges) const override;
  std::span<const uint32_t> columns() const override { return verticals_; }

 private:
  // Of the range that slashes_[first_slash] opens in a tile that has all slashes.
  struct Run {
    uint32_t first_slash;
    uint32_t num_tiles;
  };

  std::vector<uint32_t> verticals_;  // ascending
  std::vector<uint32_t> slashes_;    // descending
  std::vector<Run> runs_;            // in the order of their ranges
};

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_MASK_LINE_TILES_H_
