// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// How the rows of a call are cut into query blocks (SPEC D7) and which rows of a block a search
// looks at (D8).
#ifndef HIPATTN_CORE_QUERY_BLOCKS_H_
#define HIPATTN_CORE_QUERY_BLOCKS_H_

#include <cstdint>
#include <vector>

namespace hipattn::core {

struct RowRange {
  uint32_t begin;
  uint32_t end;
};

// Blocks of the rows [0, num_rows) at positions first_pos + row: edges where the position is a
// multiple of block_q, so chunked prefill gives the same blocks when its chunks end there. At least
// one block. REQUIRES: num_rows > 0.
std::vector<RowRange> QueryBlocks(int64_t first_pos, uint32_t num_rows, uint32_t block_q);

// Rows num_rows - 1, num_rows - 1 - stride, ... in ascending order.
std::vector<uint32_t> SampleRows(uint32_t num_rows, uint32_t stride);

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_QUERY_BLOCKS_H_
