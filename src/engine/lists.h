// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// From a selection to the lists that ops attend: token ranges, then ranges of slots.
#ifndef HIPATTN_ENGINE_LISTS_H_
#define HIPATTN_ENGINE_LISTS_H_

#include "core/partition.h"
#include "engine/call.h"

namespace hipattn::engine {

// A row whose list is wanted.
struct ListRow {
  core::Partition row;
  core::Partition last_row;  // of its query block; the row's own in a decode step
  int64_t
      anchor;  // position the window begins for: the last search's, or a prefill block's first row
  uint64_t last_pos;  // of the query block
};

// The row's sinks, window and the head's leaves, ascending.
Status PlanList(EngineState& engine,
                const SequenceState& sequence,
                const ListRow& row,
                const HeadState& head,
                RowList* list);

// Sinks and window alone, of a sequence that keeps its keys rotated.
Status PlanFixed(EngineState& engine,
                 const core::Partition& row,
                 const HeadStore& store,
                 RowList* list);

// All of [0, num_tokens) at true positions.
Status PlanAll(EngineState& engine, uint64_t num_tokens, const HeadStore& store, RowList* list);

// Runs the first `count` of scratch.decode_jobs, scratch.rotated_jobs; out of `out_dtype`, of
// io_dtype.
Status RunDecodeJobs(EngineState& engine, uint32_t count, DType out_dtype);
Status RunRotatedJobs(EngineState& engine, uint32_t count);

// lse of dense attention of one row -> scratch.truth_lse[num_q_heads].
Status DenseLse(Call* call, const Part& part, uint64_t row, uint64_t pos);

}  // namespace hipattn::engine

#endif  // HIPATTN_ENGINE_LISTS_H_
