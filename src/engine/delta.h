// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Delta correction (Delta Attention, arXiv 2505.11254): some rows of a chunk that attended sparsely
// are attended densely as well, and what that gives more is added to them and to the rows behind
// them, up to the next such row (core/mask/anchors.h). lse stays what it was: that of the pairs
// attended sparsely.
#ifndef HIPATTN_ENGINE_DELTA_H_
#define HIPATTN_ENGINE_DELTA_H_

#include "core/query_blocks.h"
#include "engine/call.h"

#include <cstdint>
#include <span>

namespace hipattn::engine {

// A q head whose rows attended sparsely.
struct DeltaHead {
  uint32_t q_head;
  float* delta;  // [head_dim] of the last anchor before the rows; then of the last one in them
};

// Corrects rows of the part, which are in out. The heads ascend.
Status CorrectRows(Call* call,
                   const Part& part,
                   const core::RowRange& rows,
                   std::span<const DeltaHead> heads);

}  // namespace hipattn::engine

#endif  // HIPATTN_ENGINE_DELTA_H_
