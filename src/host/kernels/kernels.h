// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The ops of one instruction set. This header and every kernel source are compiled once per set,
// with HIPATTN_ISA naming the set and the namespace. What each op computes and how its data lie:
// device/params.h.
//
// Rules for a kernel source
//   - It defines one op, and everything else in an anonymous namespace or as static: a function
//   with external linkage outside
//     the set's namespace could be linked in its AVX-512 form into an older CPU's path.
//   - It uses no templates of the standard library, for the same reason.
//   - Its results depend on its parameters alone: not on the number of threads, nor on the other
//   jobs of a call.
#ifndef HIPATTN_HOST_KERNELS_KERNELS_H_
#define HIPATTN_HOST_KERNELS_KERNELS_H_

#include "device/ops.h"

namespace hipattn::host::HIPATTN_ISA {

void AppendKv(const device::OpContext& context, const device::AppendParams& params);
void LoadQ(const device::OpContext& context, const device::LoadQParams& params);
void SummarizeBlocks(const device::OpContext& context, const device::SummarizeParams& params);
void ScoreNodes(const device::OpContext& context, const device::ScoreParams& params);
void EstimateNodes(const device::OpContext& context, const device::EstimateParams& params);
void WriteSketches(const device::OpContext& context, const device::WriteSketchParams& params);
void ScoreSketches(const device::OpContext& context, const device::ScoreSketchParams& params);
void ScoreKeys(const device::OpContext& context, const device::ScoreKeysParams& params);
void SparseDecode(const device::OpContext& context, const device::DecodeParams& params);
void AttendRotated(const device::OpContext& context, const device::RotatedParams& params);
void DensePrefill(const device::OpContext& context, const device::PrefillParams& params);
void SparsePrefill(const device::OpContext& context, const device::SparsePrefillParams& params);
void PackColumns(const device::OpContext& context, const device::PackParams& params);
void EstimateLines(const device::OpContext& context, const device::LinesParams& params);
void PoolBlocks(const device::OpContext& context, const device::PoolParams& params);
void ScoreBlocks(const device::OpContext& context, const device::BlockScoreParams& params);
void ScoreAntidiagonals(const device::OpContext& context, const device::AntidiagonalParams& params);
void ApplyDeltas(const device::OpContext& context, const device::DeltaParams& params);
void MergeStates(const device::OpContext& context, const device::MergeParams& params);

}  // namespace hipattn::host::HIPATTN_ISA

#endif  // HIPATTN_HOST_KERNELS_KERNELS_H_
