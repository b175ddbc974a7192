// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/pattern/flash_select.h"

#include "core/pattern/own_blocks.h"

#include <algorithm>

namespace hipattn::core {
namespace {

BlockLists NoLists() {
  BlockLists lists;
  lists.block_tokens = kFlashBlock;
  lists.tiles_per_list = kFlashBlock / kRowTile;
  return lists;
}

}  // namespace

BlockLists SelectFlash(const PrefillShape& shape,
                       std::span<const float> scores,
                       const FlashOptions& options) {
  BlockLists lists = NoLists();
  const size_t row_size = NumKeyBlocks(shape, kFlashBlock);
  const uint32_t num_queries = NumQueryBlocks(shape, kFlashBlock);
  for (uint32_t m = 0; m < num_queries; ++m) {
    const OwnBlocks own = OwnBlocksOf(shape, m, kFlashBlock);
    const std::span<const float> row = scores.subspan(m * row_size, own.last + 1);
    double best = 0.0;
    for (const float score : row) {
      best = std::max(best, double{score});
    }
    const int64_t first_row = int64_t{shape.kv_len} - shape.q_len + int64_t{m} * kFlashBlock;
    for (uint32_t block = 0; block <= own.last; ++block) {
      const int64_t begin = int64_t{block} * kFlashBlock;
      const bool near = begin + kFlashBlock > first_row - int64_t{options.window_tokens} + 1;
      const bool forced = block >= own.first || begin < options.sink_tokens || near ||
                          m + uint64_t{options.dense_tiles} >= num_queries || options.alpha <= 0.0;
      if (forced || row[block] >= options.alpha * best) {
        lists.blocks.push_back(static_cast<int32_t>(block));
      }
    }
    lists.EndList();
  }
  return lists;
}

BlockLists PrunedBlocks(const PrefillShape& shape, const BlockLists& kept) {
  BlockLists pruned = NoLists();
  for (uint32_t m = 0; m < kept.num_lists(); ++m) {
    const std::span<const int32_t> list = kept.List(m);
    auto next = list.begin();
    const auto whole = static_cast<int32_t>(OwnBlocksOf(shape, m, kFlashBlock).first);
    for (int32_t block = 0; block < whole; ++block) {
      next = std::lower_bound(next, list.end(), block);
      if (next == list.end() || *next != block) {
        pruned.blocks.push_back(block);
      }
    }
    pruned.EndList();
  }
  return pruned;
}

}  // namespace hipattn::core
