// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Which keys a query sees, and in which class each of them is (SPEC D1, D2, D18).
#ifndef HIPATTN_CORE_PARTITION_H_
#define HIPATTN_CORE_PARTITION_H_

#include <cstdint>

namespace hipattn::core {

// Neighbouring ranges: sinks [0, sink_end), searchable [sink_end, window_begin), window
// [window_begin, end). Every visible key is in exactly one of them.
struct Partition {
  int64_t sink_end;
  int64_t window_begin;
  int64_t end;
};

struct PartitionSizes {
  int64_t sink_tokens = 0;
  int64_t window_tokens = 0;
};

// Of the query at query_pos over kv_len cached keys. The window begins where it began for the query
// at anchor_pos <= query_pos, the position of the last full search (D18).
Partition SplitPartition(int64_t query_pos,
                         int64_t kv_len,
                         const PartitionSizes& sizes,
                         int64_t anchor_pos);

// The same with the query as its own anchor.
inline Partition SplitPartition(int64_t query_pos, int64_t kv_len, const PartitionSizes& sizes) {
  return SplitPartition(query_pos, kv_len, sizes, query_pos);
}

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_PARTITION_H_
