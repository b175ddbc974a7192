// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Query blocks of a chunk against the key blocks of the text. Query blocks count from the chunk's
// first row, key blocks from key 0: where the chunk begins inside a key block, a query block's
// positions lie in two of them.
#ifndef HIPATTN_CORE_PATTERN_OWN_BLOCKS_H_
#define HIPATTN_CORE_PATTERN_OWN_BLOCKS_H_

#include "base/int_math.h"
#include "core/mask/prefill_shape.h"

#include <algorithm>
#include <cstdint>

namespace hipattn::core {

// The key blocks that a query block's own positions lie in; its rows see the blocks up to `last`.
struct OwnBlocks {
  uint32_t first;
  uint32_t last;
};

// Query and key blocks have `block_tokens` rows and keys.
constexpr OwnBlocks OwnBlocksOf(const PrefillShape& shape,
                                uint32_t query_block,
                                uint32_t block_tokens) {
  const uint32_t before = shape.kv_len - shape.q_len;
  const uint32_t row = query_block * block_tokens;
  const uint32_t rows_end = std::min(row + block_tokens, shape.q_len);
  return {(before + row) / block_tokens, (before + rows_end - 1) / block_tokens};
}

constexpr uint32_t NumQueryBlocks(const PrefillShape& shape, uint32_t block_tokens) {
  return CeilDiv(shape.q_len, block_tokens);
}
constexpr uint32_t NumKeyBlocks(const PrefillShape& shape, uint32_t block_tokens) {
  return CeilDiv(shape.kv_len, block_tokens);
}

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_PATTERN_OWN_BLOCKS_H_
