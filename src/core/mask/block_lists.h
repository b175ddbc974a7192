// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The key blocks that rows of a chunk attend, as selectors of blocks find them.
#ifndef HIPATTN_CORE_MASK_BLOCK_LISTS_H_
#define HIPATTN_CORE_MASK_BLOCK_LISTS_H_

#include <cstdint>
#include <span>
#include <vector>

namespace hipattn::core {

// Block n is the keys [n * block_tokens, (n + 1) * block_tokens) of the text. List i is that of the
// row tiles i * tiles_per_list .. (i + 1) * tiles_per_list - 1 of the chunk: two for selectors
// whose query blocks have 128 rows.
struct BlockLists {
  uint32_t block_tokens = 64;
  uint32_t tiles_per_list = 1;
  std::vector<uint32_t> ptr = {0};  // [num_lists + 1], places in blocks
  std::vector<int32_t> blocks;      // each list ascending

  uint32_t num_lists() const { return static_cast<uint32_t>(ptr.size()) - 1; }
  std::span<const int32_t> List(uint32_t i) const {
    return std::span(blocks).subspan(ptr[i], ptr[i + 1] - ptr[i]);
  }
  void EndList() { ptr.push_back(static_cast<uint32_t>(blocks.size())); }
};

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_MASK_BLOCK_LISTS_H_
