// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Which blocks of the text a prefill reads: what has to be there before its kernel runs.
#ifndef HIPATTN_CORE_MASK_MASK_BLOCKS_H_
#define HIPATTN_CORE_MASK_MASK_BLOCKS_H_

#include "base/prefill_mask.h"

#include <cstdint>
#include <span>
#include <vector>

namespace hipattn::core {

struct RowTiles {
  uint32_t begin;
  uint32_t end;
};

// Blocks of block_tokens keys of which the rows of these tiles attend a key by any of the masks (of
// the q heads that share a kv head), ascending. Exact to the tile: a windowed range counts whole.
// Reads the masks' arrays, so they lie in memory of the host. REQUIRES: tiles of every mask.
std::vector<uint32_t> BlocksNeeded(std::span<const PrefillMask> masks,
                                   const RowTiles& tiles,
                                   uint32_t block_tokens);

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_MASK_MASK_BLOCKS_H_
