// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "host/ref/reference_table.h"

namespace hipattn::host {

const device::OpTable& ReferenceOps() {
  static constexpr device::OpTable kTable = {
      .name = "reference",
      .append_kv = ref::AppendKv,
      .load_q = ref::LoadQ,
      .summarize_blocks = ref::SummarizeBlocks,
      .score_nodes = ref::ScoreNodes,
      .estimate_nodes = ref::EstimateNodes,
      .write_sketches = ref::WriteSketches,
      .score_sketches = ref::ScoreSketches,
      .score_keys = ref::ScoreKeys,
      .sparse_decode = ref::SparseDecode,
      .attend_rotated = ref::AttendRotated,
      .dense_prefill = ref::DensePrefill,
      .sparse_prefill = ref::SparsePrefill,
      .pack_columns = ref::PackColumns,
      .estimate_lines = ref::EstimateLines,
      .pool_blocks = ref::PoolBlocks,
      .score_blocks = ref::ScoreBlocks,
      .score_antidiagonals = ref::ScoreAntidiagonals,
      .apply_deltas = ref::ApplyDeltas,
      .merge_states = ref::MergeStates,
  };
  return kTable;
}

}  // namespace hipattn::host
