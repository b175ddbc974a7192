// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/search/probe_walk.h"

#include "core/query_blocks.h"

namespace hipattn::core {

void ProbeBatch::Reset(const ProbeBlock& block, uint32_t query_stride, const ScanFrame& frame) {
  tokens.clear();
  key_pos.clear();
  rows = SampleRows(block.num_rows, query_stride);
  row_pos.clear();
  const int64_t first_pos = block.last_pos + 1 - block.num_rows;
  for (const uint32_t row : rows) {
    row_pos.push_back(frame.QueryPosition(first_pos + row));
  }
}

void ProbeBatch::AddKey(const ScanFrame& frame, int64_t token, int64_t candidate, Side side) {
  tokens.push_back(static_cast<uint32_t>(token));
  key_pos.push_back(frame.KeyPosition(token, candidate, side));
}

}  // namespace hipattn::core
