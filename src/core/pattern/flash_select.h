// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// FlashPrefill and its second version (arXiv 2603.06199 and 2608.19758): key blocks whose score is
// near the best of their query block. The scores are an op's business: each query against the mean
// key, exponentials summed over the query block, normalised. The second version lets what is not
// kept count as one mean key and value with the weight of the block: PrunedBlocks names those.
#ifndef HIPATTN_CORE_PATTERN_FLASH_SELECT_H_
#define HIPATTN_CORE_PATTERN_FLASH_SELECT_H_

#include "core/mask/block_lists.h"
#include "core/mask/prefill_shape.h"

#include <cstdint>
#include <span>

namespace hipattn::core {

// Of query and of key blocks.
inline constexpr uint32_t kFlashBlock = 128;

struct FlashOptions {
  double alpha = 0.1;          // a block is kept from this share of the best on; 0: all are
  uint32_t sink_tokens = 256;  // blocks with one of them are kept
  uint32_t window_tokens =
      512;                   // those with a key less than this behind the query block's first row
  uint32_t dense_tiles = 2;  // the chunk's last query blocks keep everything
};

// scores: [query blocks][key blocks], of which a query block's up to its own last are read; NaN is
// kept out. The block's own are kept.
BlockLists SelectFlash(const PrefillShape& shape,
                       std::span<const float> scores,
                       const FlashOptions& options);

// What the lists leave out of the blocks that every row of a query block sees whole: the mean
// correction's. REQUIRES: `kept` has lists of kFlashBlock rows and keys.
BlockLists PrunedBlocks(const PrefillShape& shape, const BlockLists& kept);

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_PATTERN_FLASH_SELECT_H_
