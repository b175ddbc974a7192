// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/pattern/block_select.h"

#include "core/pattern/own_blocks.h"

#include <algorithm>
#include <vector>

namespace hipattn::core {

BlockLists SelectBlocks(const PrefillShape& shape,
                        std::span<const float> scores,
                        uint32_t num_blocks,
                        BlockMode mode,
                        TopScores* scratch) {
  BlockLists lists;
  std::vector<int32_t> kept;
  const size_t row_size = NumKeyBlocks(shape, kRowTile);
  for (uint32_t tile = 0; tile < NumRowTiles(shape); ++tile) {
    const OwnBlocks own = OwnBlocksOf(shape, tile, kRowTile);
    scratch->Load(scores.subspan(tile * row_size, own.last + 1));
    if (mode == BlockMode::kForced) {
      scratch->Force(0, 1);
      scratch->Force(own.first, own.last + 1);
    }
    scratch->Keep(std::max(num_blocks, scratch->num_forced()), &kept);
    lists.blocks.insert(lists.blocks.end(), kept.begin(), kept.end());
    lists.EndList();
  }
  return lists;
}

}  // namespace hipattn::core
