// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The table of ops: what a device can compute. A device fills it once, when it is created; nothing
// else in the library calls a kernel. An op reads its parameters and the memory they point to, and
// writes nothing but its outputs. Ops of one stream take effect in order.
#ifndef HIPATTN_DEVICE_OPS_H_
#define HIPATTN_DEVICE_OPS_H_

#include "device/estimate_params.h"
#include "device/executor.h"
#include "device/params.h"

namespace hipattn::device {

// What an op of the CPU device runs on; a GPU's ops get their stream in native_stream instead.
struct OpContext {
  Executor* executor;
  void* native_stream;
};

template <typename Params>
using Op = void (*)(const OpContext& context, const Params& params);

struct OpTable {
  const char* name;  // of the instruction set or architecture: "avx2", "avx512", ...
  Op<AppendParams> append_kv;
  Op<LoadQParams> load_q;
  Op<SummarizeParams> summarize_blocks;
  Op<ScoreParams> score_nodes;
  Op<EstimateParams> estimate_nodes;
  Op<WriteSketchParams> write_sketches;
  Op<ScoreSketchParams> score_sketches;
  Op<ScoreKeysParams> score_keys;
  Op<DecodeParams> sparse_decode;
  Op<RotatedParams> attend_rotated;
  Op<PrefillParams> dense_prefill;
  Op<SparsePrefillParams> sparse_prefill;
  Op<PackParams> pack_columns;
  Op<LinesParams> estimate_lines;
  Op<PoolParams> pool_blocks;
  Op<BlockScoreParams> score_blocks;
  Op<AntidiagonalParams> score_antidiagonals;
  Op<DeltaParams> apply_deltas;
  Op<MergeParams> merge_states;
};

}  // namespace hipattn::device

#endif  // HIPATTN_DEVICE_OPS_H_
