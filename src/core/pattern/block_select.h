// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Which key blocks a block-sparse head attends (prefill SPEC 6; MInference, arXiv 2407.02490,
// algorithm 3): those whose mean key has the largest product with the mean of the tile's queries.
// The scores are the op pool_blocks' business.
#ifndef HIPATTN_CORE_PATTERN_BLOCK_SELECT_H_
#define HIPATTN_CORE_PATTERN_BLOCK_SELECT_H_

#include "core/mask/block_lists.h"
#include "core/mask/prefill_shape.h"
#include "core/pattern/top_scores.h"

#include <cstdint>
#include <span>

namespace hipattn::core {

enum class BlockMode {
  kForced,  // block 0 and the tile's own one or two are kept, whatever num_blocks says
  kCompat,  // as published: none is; rows may attend nothing
};

// scores: [row tiles][blocks of 64 keys], of which each tile's up to its last own block count.
// Keeps num_blocks per tile, fewer where the tile sees fewer.
BlockLists SelectBlocks(const PrefillShape& shape,
                        std::span<const float> scores,
                        uint32_t num_blocks,
                        BlockMode mode,
                        TopScores* scratch);

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_PATTERN_BLOCK_SELECT_H_
