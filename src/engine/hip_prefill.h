// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// HiP's prefill: a search per query block of 64 rows at absolute multiples of 64 (SPEC D7), and
// where keys are stored as they are attended and groups are small, masks of sinks, window and
// leaves that a kv head's group shares. Masks are made for slices of rows, which changes nothing
// but their size.
#ifndef HIPATTN_ENGINE_HIP_PREFILL_H_
#define HIPATTN_ENGINE_HIP_PREFILL_H_

#include "core/partition.h"
#include "core/query_blocks.h"
#include "engine/call.h"
#include "engine/select.h"

namespace hipattn::engine {

// What row `row` of the part sees.
core::Partition PartitionOf(const Part& part, uint64_t row);

// Searches for one query block and kv head; the selection is in its HeadState.
Status SearchBlock(
    Call* call, const Part& part, const core::RowRange& block, uint32_t kv_head, SearchRead* read);

// Adds what the searches read to the call's stats.
void CountReads(std::span<const SearchRead> reads, CallStats* stats);

// Delta correction of rows of the part, in order, where its options ask for it.
Status CorrectHip(Call* call, const Part& part, const core::RowRange& rows);

// REQUIRES: part.sequence->keys_rotated.
Status RunHip(Call* call, const Part& part);

}  // namespace hipattn::engine

#endif  // HIPATTN_ENGINE_HIP_PREFILL_H_
