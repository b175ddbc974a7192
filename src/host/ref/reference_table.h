// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The plain reference of every op: straightforward loops in f64, or in the f32 steps the
// specification fixes (summaries, sketches, rotation, rounding to a storage type), single-threaded,
// compiled once. What the kernels of every device are tested against; never chosen to serve.
#ifndef HIPATTN_HOST_REF_REFERENCE_TABLE_H_
#define HIPATTN_HOST_REF_REFERENCE_TABLE_H_

#include "device/ops.h"

namespace hipattn::host {

// The table named "reference". Its ops ignore the context.
const device::OpTable& ReferenceOps();

namespace ref {

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

}  // namespace ref
}  // namespace hipattn::host

#endif  // HIPATTN_HOST_REF_REFERENCE_TABLE_H_
