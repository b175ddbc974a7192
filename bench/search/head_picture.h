// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Which tiles of keys a head attends, seen from outside: values that are 1 in one tile and 0
// elsewhere make the output the softmax mass of that tile.
#ifndef HIPATTN_BENCH_SEARCH_HEAD_PICTURE_H_
#define HIPATTN_BENCH_SEARCH_HEAD_PICTURE_H_

#include "head_attention.h"

#include <vector>

namespace pattern_search {

// Rows and keys of a tile.
inline constexpr uint32_t kPictureTile = 64;

// [row tiles][key tiles up to the row tile's own] mean mass of a row of the tile; 0: not attended,
// or without any mass. The values of `input` do not matter.
using TileMasses = std::vector<std::vector<float>>;

Result<TileMasses> MassesOf(const HeadInput& input,
                            uint32_t head_dim,
                            const std::optional<hipattn::core::HeadPattern>& pattern,
                            HeadAttention* attention);

}  // namespace pattern_search

#endif  // HIPATTN_BENCH_SEARCH_HEAD_PICTURE_H_
