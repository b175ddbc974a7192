// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/query_blocks.h"

namespace hipattn::core {

std::vector<RowRange> QueryBlocks(int64_t first_pos, uint32_t num_rows, uint32_t block_q) {
  std::vector<RowRange> blocks;
  uint32_t begin = 0;
  while (begin < num_rows) {
    const auto to_edge =
        static_cast<uint32_t>(int64_t{block_q} - (first_pos + begin) % int64_t{block_q});
    const uint32_t end = to_edge < num_rows - begin ? begin + to_edge : num_rows;
    blocks.push_back({begin, end});
    begin = end;
  }
  return blocks;
}

std::vector<uint32_t> SampleRows(uint32_t num_rows, uint32_t stride) {
  std::vector<uint32_t> rows;
  for (uint32_t row = (num_rows - 1) % stride; row < num_rows; row += stride) {
    rows.push_back(row);
  }
  return rows;
}

}  // namespace hipattn::core
