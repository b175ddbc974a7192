// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "engine/lists.h"

#include "base/int_math.h"
#include "core/plan.h"
#include "engine/block_ops.h"

#include <algorithm>

namespace hipattn::engine {
namespace {

// list->ranges and positions -> what ops read.
Status ResolveSlots(EngineState& engine, const HeadStore& store, RowList* list) {
  const uint32_t block_tokens = engine.options.block_tokens;
  HIPATTN_RETURN_IF_ERROR(list->kv_ranges.Grow(*engine.device, list->ranges.size()));
  const uint32_t* slots = store.slots();
  device::KvRange* out = list->kv_ranges.data();
  for (const core::TokenRange& range : list->ranges) {
    const int64_t block = range.begin / block_tokens;
    const int64_t first = block * block_tokens;
    *out++ = {slots[block],
              static_cast<uint16_t>(range.begin - first),
              static_cast<uint16_t>(range.end - first)};
  }
  HIPATTN_RETURN_IF_ERROR(list->kv_positions.Grow(*engine.device, list->positions.size()));
  std::copy(list->positions.begin(), list->positions.end(), list->kv_positions.data());
  return Status::Ok();
}

void TruePositions(RowList* list) {
  list->positions.clear();
  for (const core::TokenRange& range : list->ranges) {
    list->positions.push_back(range.begin);
  }
}

}  // namespace

Status PlanList(EngineState& engine,
                const SequenceState& sequence,
                const ListRow& row,
                const HeadState& head,
                RowList* list) {
  const uint32_t block_tokens = engine.options.block_tokens;
  const core::LeafList selected = {head.leaves, head.leaf_tokens};
  const bool extended = !sequence.keys_rotated && row.last_pos >= engine.options.trained_tokens;
  if (extended) {
    const core::ExtendedRow frame = {row.row,
                                     row.last_row,
                                     sequence.options.sink_tokens,
                                     row.anchor - sequence.options.window_tokens + 1};
    core::PlanExtendedRow(frame, selected, block_tokens, &list->ranges, &list->positions);
  } else {
    core::PlanRow(row.row, selected, block_tokens, &list->ranges);
    list->positions.clear();
    if (!sequence.keys_rotated) {
      TruePositions(list);
    }
  }
  return ResolveSlots(engine, head.store, list);
}

Status PlanFixed(EngineState& engine,
                 const core::Partition& row,
                 const HeadStore& store,
                 RowList* list) {
  core::PlanRow(row, {{}, engine.options.block_tokens}, engine.options.block_tokens, &list->ranges);
  list->positions.clear();
  return ResolveSlots(engine, store, list);
}

Status PlanAll(EngineState& engine, uint64_t num_tokens, const HeadStore& store, RowList* list) {
  const auto end = static_cast<int64_t>(num_tokens);
  core::PlanRow(
      {0, 0, end}, {{}, engine.options.block_tokens}, engine.options.block_tokens, &list->ranges);
  TruePositions(list);
  return ResolveSlots(engine, store, list);
}

Status RunDecodeJobs(EngineState& engine, uint32_t count, DType out_dtype) {
  if (count == 0) {
    return Status::Ok();
  }
  const EngineOptions& options = engine.options;
  device::DecodeParams params = {};
  params.jobs = engine.scratch.decode_jobs.data();
  params.num_jobs = count;
  params.group = options.group();
  params.scale = options.softmax_scale;
  params.softcap = options.logit_softcap;
  params.out_dtype = out_dtype;
  uint64_t floats = 0;
  for (uint32_t i = 0; i < count; ++i) {
    floats +=
        device::DecodeWorkspaceFloats(params.jobs[i].num_ranges, params.group, options.head_dim);
  }
  HIPATTN_RETURN_IF_ERROR(engine.scratch.decode_workspace.Grow(*engine.device, floats));
  params.workspace = engine.scratch.decode_workspace.data();
  return RunOverBlocks(engine, params);
}

Status RunRotatedJobs(EngineState& engine, uint32_t count) {
  if (count == 0) {
    return Status::Ok();
  }
  const EngineOptions& options = engine.options;
  const device::RotatedParams params = {{},
                                        engine.rope,
                                        engine.scratch.rotated_jobs.data(),
                                        count,
                                        options.group(),
                                        options.softmax_scale,
                                        options.logit_softcap,
                                        options.io()};
  return RunOverBlocks(engine, params);
}

Status DenseLse(Call* call, const Part& part, uint64_t row, uint64_t pos) {
  EngineState& engine = call->engine;
  const EngineOptions& options = engine.options;
  AttendScratch& scratch = engine.scratch;
  HIPATTN_RETURN_IF_ERROR(scratch.truth_out.Grow(*engine.device, call->q_row_stride()));
  HIPATTN_RETURN_IF_ERROR(scratch.truth_lse.Grow(*engine.device, options.num_q_heads));
  HIPATTN_RETURN_IF_ERROR(scratch.decode_jobs.Grow(*engine.device, options.num_kv_heads));
  HIPATTN_RETURN_IF_ERROR(scratch.rotated_jobs.Grow(*engine.device, options.num_kv_heads));
  scratch.truth_lists.resize(options.num_kv_heads);
  const bool stored = part.sequence->keys_rotated;
  for (uint32_t h = 0; h < options.num_kv_heads; ++h) {
    const HeadState& head = part.layer->heads[h];
    float* out = scratch.truth_out.data() + uint64_t{h} * options.group() * options.head_dim;
    float* lse = scratch.truth_lse.data() + h * options.group();
    const auto tokens = static_cast<uint32_t>(pos + 1);
    if (stored) {
      scratch.decode_jobs[h] = {nullptr,
                                head.store.slots(),
                                CeilDiv(tokens, options.block_tokens),
                                tokens,
                                call->Q(row, h),
                                out,
                                lse};
      continue;
    }
    HIPATTN_RETURN_IF_ERROR(PlanAll(engine, tokens, head.store, &scratch.truth_lists[h]));
    const RowList& list = scratch.truth_lists[h];
    scratch.rotated_jobs[h] = {list.kv_ranges.data(),
                               list.kv_positions.data(),
                               list.size(),
                               static_cast<uint32_t>(pos),
                               call->Q(row, h),
                               out,
                               lse};
  }
  return stored ? RunDecodeJobs(engine, options.num_kv_heads, options.io())
                : RunRotatedJobs(engine, options.num_kv_heads);
}

}  // namespace hipattn::engine
