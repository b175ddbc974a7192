// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Sinks, window and lists of key blocks as tiles: A-shape has the first two (prefill SPEC 3), the
// selectors of blocks the third (SPEC 6), HiP's prefill all three.
//
// Row i attends key j <= i when j < sink_tokens, or i - j < window_tokens, or a block of its tile
// holds j; blocks end at the text's end. Sinks and window are exact for each row, whatever the
// tile: a range is windowed where the window decides about some of the tile's rows.
#ifndef HIPATTN_CORE_MASK_BLOCK_TILES_H_
#define HIPATTN_CORE_MASK_BLOCK_TILES_H_

#include "core/mask/block_lists.h"
#include "core/mask/tile_source.h"

#include <cstdint>
#include <vector>

namespace hipattn::core {

struct MaskEnds {
  uint32_t sink_tokens = 0;    // any number; above kv_len is kv_len
  uint32_t window_tokens = 0;  // with the row itself; 0: none
};

class BlockTiles : public TileSource {
 public:
  // `lists` is kept and must outlive the source; nullptr: no blocks. REQUIRES: a list for every row
  // tile, each ascending and without negative blocks, block_tokens > 0.
  BlockTiles(const PrefillShape& shape, const MaskEnds& ends, const BlockLists* lists)
      : TileSource(shape),
        sink_tokens_(std::min(ends.sink_tokens, shape.kv_len)),
        window_tokens_(std::min(ends.window_tokens, shape.kv_len)),
        lists_(lists) {}

  void Ranges(uint32_t tile, std::vector<MaskRange>* ranges) const override;
  uint32_t window() const override { return window_tokens_; }

 private:
  void AddWindow(uint32_t begin, uint32_t end, uint32_t tile, std::vector<MaskRange>* ranges) const;

  uint32_t sink_tokens_;
  uint32_t window_tokens_;
  const BlockLists* lists_;
};

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_MASK_BLOCK_TILES_H_
