// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// XAttention (arXiv 2503.16428): key blocks by decreasing mass until a share of each query block's
// is kept. The mass is an op's business: softmax over sums along antidiagonals.
#ifndef HIPATTN_CORE_PATTERN_XATTENTION_SELECT_H_
#define HIPATTN_CORE_PATTERN_XATTENTION_SELECT_H_

#include "core/mask/block_lists.h"
#include "core/mask/prefill_shape.h"
#include "core/pattern/top_scores.h"

#include <cstdint>
#include <span>

namespace hipattn::core {

// Of query and of key blocks.
inline constexpr uint32_t kXAttentionBlock = 128;
inline constexpr double kXAttentionThreshold = 0.9;

// mass: [query blocks][key blocks], not negative, of which a query block's up to its own last are
// read. Block 0 and the block's own are kept, and count; then come the largest, of equal ones the
// lower, until the kept ones have `threshold` of the row.
BlockLists SelectXAttention(const PrefillShape& shape,
                            std::span<const float> mass,
                            double threshold,
                            TopScores* scratch);

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_PATTERN_XATTENTION_SELECT_H_
