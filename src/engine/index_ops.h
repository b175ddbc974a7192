// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Ops that score summaries and sketches run where those lie: what is in the host tier the host's
// threads score with the CPU's ops, on a copy of the query; the rest is a launch on the device.
// Their scores are the same bits everywhere (docs/search.md), so where a part lies is not seen in a
// selection.
#ifndef HIPATTN_ENGINE_INDEX_OPS_H_
#define HIPATTN_ENGINE_INDEX_OPS_H_

#include "engine/call.h"
#include "engine/state.h"

#include <cstdint>

namespace hipattn::engine {

// Rows of queries as ops of the device read them, and the same in memory of the host where a part
// of the index lies there; else nullptr.
struct SearchRows {
  device::QueryRows rows;
  const float* host_q = nullptr;

  device::QueryRows For(bool on_host) const {
    device::QueryRows chosen = rows;
    chosen.q = on_host ? host_q : rows.q;
    return chosen;
  }
};

// Runs an op of the tables over params.jobs, which the host reads and the device sees, and waits
// for it. on_host: everything the jobs name is in the host's memory.
template <typename Params>
Status RunIndexOp(EngineState& engine,
                  bool on_host,
                  device::Op<Params> device::OpTable::*op,
                  const Params& params) {
  if (!on_host) {
    return LaunchAndSync(engine, engine.device->ops().*op, params);
  }
  (engine.host_ops->*op)({&engine.device->executor(), nullptr}, params);
  return Status::Ok();
}

// The same for a single job.
template <typename Params, typename Job>
Status RunIndexOp(EngineState& engine,
                  bool on_host,
                  device::Op<Params> device::OpTable::*op,
                  const Job& job,
                  const Params& params) {
  if (!on_host) {
    return LaunchOneAndSync(engine, engine.device->ops().*op, job, params);
  }
  Params one = params;
  one.jobs = &job;
  one.num_jobs = 1;
  return RunIndexOp(engine, on_host, op, one);
}

// Whether a sequence's searches need queries on the host.
inline bool SearchesOnHost(const SequenceState& sequence) {
  return sequence.context.summaries && sequence.context.host_memory != nullptr;
}

// Sees to it that a scanned head's sketches, of all blocks that the part's index will have, are on
// the device where there is room, and those of another are not. Before searches; one at a time.
Status PlaceSketches(Call* call, const Part& part, uint32_t kv_head);

// Copies the queries of `count` rows of the call to the host, for call->HostQ, where the part's
// searches need them; the rows before are forgotten.
Status BringQueries(Call* call, const Part& part, uint64_t first_row, uint64_t count);

}  // namespace hipattn::engine

#endif  // HIPATTN_ENGINE_INDEX_OPS_H_
