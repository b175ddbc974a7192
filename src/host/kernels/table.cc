// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "host/kernels/table.h"

#include "host/kernels/kernels.h"

#define HIPATTN_NAME_INNER_(set) #set
#define HIPATTN_NAME_(set) HIPATTN_NAME_INNER_(set)

namespace hipattn::host::HIPATTN_ISA {

const device::OpTable* Table() {
  static constexpr device::OpTable kTable = {
      .name = HIPATTN_NAME_(HIPATTN_ISA),
      .append_kv = AppendKv,
      .load_q = LoadQ,
      .summarize_blocks = SummarizeBlocks,
      .score_nodes = ScoreNodes,
      .estimate_nodes = EstimateNodes,
      .write_sketches = WriteSketches,
      .score_sketches = ScoreSketches,
      .score_keys = ScoreKeys,
      .sparse_decode = SparseDecode,
      .attend_rotated = AttendRotated,
      .dense_prefill = DensePrefill,
      .sparse_prefill = SparsePrefill,
      .pack_columns = PackColumns,
      .estimate_lines = EstimateLines,
      .pool_blocks = PoolBlocks,
      .score_blocks = ScoreBlocks,
      .score_antidiagonals = ScoreAntidiagonals,
      .apply_deltas = ApplyDeltas,
      .merge_states = MergeStates,
  };
  return &kTable;
}

}  // namespace hipattn::host::HIPATTN_ISA
