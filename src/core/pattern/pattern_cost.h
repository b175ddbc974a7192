// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What a pattern costs on one head, in FLOPs (prefill SPEC 8.2): what the search compares where
// nothing was measured.
#ifndef HIPATTN_CORE_PATTERN_PATTERN_COST_H_
#define HIPATTN_CORE_PATTERN_PATTERN_COST_H_

#include "core/mask/prefill_shape.h"
#include "core/pattern/head_pattern.h"

#include <cstdint>

namespace hipattn::core {

// Of 64 x 64 tiles: 2 head_dim for each pair's score, as many for its value. Exact below 2^53.
double KernelFlops(uint64_t computed_tiles, uint32_t head_dim);

// Of finding out what the head attends, by its chunk's last last_q rows.
double EstimateFlops(const HeadPattern& pattern,
                     const PrefillShape& shape,
                     uint32_t head_dim,
                     uint32_t last_q = 64);

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_PATTERN_PATTERN_COST_H_
