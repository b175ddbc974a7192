// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/pattern/flash_select.h"

#include "core/pattern/own_blocks.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace hipattn::core {
BlockLists SelectFlash(const PrefillShape& shape,
                       std::span<const float> log_scores,
                       const FlashOptions& options) {
  BlockLists lists;
  const size_t row_size = NumKeyBlocks(shape, kRowTile);
  const uint32_t num_tiles = NumRowTiles(shape);
  const double log_alpha = options.alpha > 0.0 ? std::log(options.alpha) : 0.0;
  for (uint32_t tile = 0; tile < num_tiles; ++tile) {
    const OwnBlocks own = OwnBlocksOf(shape, tile, kRowTile);
    const std::span<const float> row = log_scores.subspan(tile * row_size, own.last + 1);
    float best = -std::numeric_limits<float>::infinity();
    for (const float score : row) {
      best = std::max(best, score);  // a NaN stays on the right, and loses
    }
    const int64_t first_row = TilePosition(shape, tile);
    for (uint32_t block = 0; block <= own.last; ++block) {
      const int64_t begin = int64_t{block} * kRowTile;
      const bool near = begin + kRowTile > first_row - int64_t{options.window_tokens} + 1;
      const bool forced = block >= own.first || begin < options.sink_tokens || near ||
                          tile + uint64_t{options.dense_tiles} >= num_tiles || options.alpha <= 0.0;
      const bool scored = !std::isinf(best) && row[block] >= best + log_alpha;
      if (forced || scored) {
        lists.blocks.push_back(static_cast<int32_t>(block));
      }
    }
    lists.EndList();
  }
  return lists;
}

BlockRuns PrunedRuns(const PrefillShape& shape, const BlockLists& kept) {
  BlockRuns pruned;
  for (uint32_t tile = 0; tile < kept.num_lists(); ++tile) {
    const uint32_t whole = OwnBlocksOf(shape, tile, kRowTile).first;  // blocks before it are
    uint32_t done = 0;
    const auto end_run = [&](uint32_t end) {
      if (done < end) {
        pruned.runs.push_back({done, end});
      }
    };
    for (const int32_t block : kept.List(tile)) {
      end_run(std::min(static_cast<uint32_t>(block), whole));
      done = static_cast<uint32_t>(block) + 1;
    }
    end_run(whole);
    pruned.ptr.push_back(static_cast<uint32_t>(pruned.runs.size()));
  }
  return pruned;
}

}  // namespace hipattn::core
