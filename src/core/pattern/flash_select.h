// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// FlashPrefill and its second version (arXiv 2603.06199 and 2608.19758): key blocks whose score is
// near the best of their row tile. The scores are the op score_blocks' business: each query against
// the mean key, exponentials summed over the tile. Tiles and blocks have 64 rows and keys, the
// paper's 128. The second version lets what is not kept count as one mean key and value with the
// weight of the block: PrunedRuns names those.
#ifndef HIPATTN_CORE_PATTERN_FLASH_SELECT_H_
#define HIPATTN_CORE_PATTERN_FLASH_SELECT_H_

#include "core/mask/block_lists.h"
#include "core/mask/prefill_shape.h"

#include <cstdint>
#include <span>
#include <vector>

namespace hipattn::core {

struct FlashOptions {
  double alpha = 0.1;            // a block is kept from this share of the best on; 0: all are
  uint32_t sink_tokens = 256;    // blocks with one of them are kept
  uint32_t window_tokens = 512;  // those with a key less than this behind the tile's first row
  uint32_t dense_tiles = 2;      // the chunk's last tiles keep everything
};

// log_scores: [row tiles][blocks of 64 keys] natural logs, -inf where there is nothing, of which a
// tile's up to its own last are read; NaN is kept out. The tile's own blocks are kept.
BlockLists SelectFlash(const PrefillShape& shape,
                       std::span<const float> log_scores,
                       const FlashOptions& options);

// Runs of block numbers, per row tile ascending and disjoint: as the op sparse_prefill takes them.
struct BlockRuns {
  std::vector<uint32_t> ptr = {0};  // [num_tiles + 1], places in runs
  std::vector<ColumnInterval> runs;
};

// What the lists leave out of the blocks that every row of a tile sees whole: those of the mean
// correction. REQUIRES: `kept` has blocks of 64 keys and a list per row tile.
BlockRuns PrunedRuns(const PrefillShape& shape, const BlockLists& kept);

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_PATTERN_FLASH_SELECT_H_
