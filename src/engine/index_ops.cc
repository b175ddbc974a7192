// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "engine/index_ops.h"

namespace hipattn::engine {

Status BringQueries(Call* call, const Part& part, uint64_t first_row, uint64_t count) {
  call->host_q = nullptr;
  if (!SearchesOnHost(*part.sequence)) {
    return Status::Ok();
  }
  EngineState& engine = call->engine;
  const uint64_t floats = count * call->q_row_stride();
  HIPATTN_RETURN_IF_ERROR(engine.scratch.host_q.Grow(*engine.device, floats));
  const device::CopyPiece piece = {
      engine.scratch.host_q.data(), call->Q(first_row, 0), floats * sizeof(float)};
  HIPATTN_RETURN_IF_ERROR(CopyPieces(engine, {&piece, 1}));
  call->host_q = engine.scratch.host_q.data();
  call->host_first_row = first_row;
  return Status::Ok();
}

Status PlaceSketches(Call* call, const Part& part, uint32_t kv_head) {
  SequenceState& sequence = *part.sequence;
  if (!sequence.context.sketches || !sequence.context.SketchesOnHost()) {
    return Status::Ok();
  }
  HeadStore& store = part.layer->heads[kv_head].store;
  if (!sequence.audits.at(call->args.layer, kv_head).scanned) {
    store.DropCopy();
    return Status::Ok();
  }
  return store.CopySketches(sequence.context, part.index_blocks);
}

}  // namespace hipattn::engine
