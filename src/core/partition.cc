// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/partition.h"

#include <algorithm>

namespace hipattn::core {

Partition SplitPartition(int64_t query_pos,
                         int64_t kv_len,
                         const PartitionSizes& sizes,
                         int64_t anchor_pos) {
  Partition part{};
  part.end = std::min(query_pos + 1, kv_len);
  part.window_begin =
      std::min(std::max<int64_t>(anchor_pos - sizes.window_tokens + 1, 0), part.end);
  part.sink_end = std::min(sizes.sink_tokens, part.window_begin);
  return part;
}

}  // namespace hipattn::core
