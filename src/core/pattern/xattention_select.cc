// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/pattern/xattention_select.h"

#include "core/pattern/own_blocks.h"

#include <numeric>
#include <vector>

namespace hipattn::core {

BlockLists SelectXAttention(const PrefillShape& shape,
                            std::span<const float> mass,
                            double threshold,
                            TopScores* scratch) {
  BlockLists lists;
  lists.block_tokens = kXAttentionBlock;
  lists.tiles_per_list = kXAttentionBlock / kRowTile;
  const size_t row_size = NumKeyBlocks(shape, kXAttentionBlock);
  std::vector<float> others;
  std::vector<int32_t> kept;
  for (uint32_t m = 0; m < NumQueryBlocks(shape, kXAttentionBlock); ++m) {
    const OwnBlocks own = OwnBlocksOf(shape, m, kXAttentionBlock);
    const std::span<const float> row = mass.subspan(m * row_size, own.last + 1);
    scratch->Load(row);
    scratch->Force(0, 1);
    scratch->Force(own.first, own.last + 1);
    const auto first_own = row.begin() + own.first;
    others.assign(own.first > 0 ? row.begin() + 1 : first_own, first_own);
    const double total = std::accumulate(row.begin(), row.end(), 0.0);
    const double missing =
        threshold * total - (total - std::accumulate(others.begin(), others.end(), 0.0));
    uint32_t count = scratch->num_forced();
    if (missing > 0.0) {
      count +=
          1 + static_cast<uint32_t>(CountWhile(&others, [=](double sum) { return sum < missing; }));
    }
    scratch->Keep(count, &kept);
    lists.blocks.insert(lists.blocks.end(), kept.begin(), kept.end());
    lists.EndList();
  }
  return lists;
}

}  // namespace hipattn::core
