// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "engine/prefill_step.h"

#include "core/query_blocks.h"
#include "engine/block_ops.h"
#include "engine/call.h"
#include "engine/hip_prefill.h"
#include "engine/lists.h"
#include "engine/masked_prefill.h"

#include <algorithm>

namespace hipattn::engine {
namespace {

bool IsHip(const Part& part) {
  return part.options.prefill() == PrefillMode::kHip;
}

// All sequences whose keys are stored as they are attended, in one submission.
Status RunDense(Call& call) {
  EngineState& engine = call.engine;
  const EngineOptions& options = call.options();
  Scratch<device::PrefillJob>& jobs = engine.scratch.prefill_jobs;
  HIPATTN_RETURN_IF_ERROR(jobs.Grow(*engine.device, call.parts.size() * options.num_kv_heads));
  uint32_t count = 0;
  for (const Part& part : call.parts) {
    if (part.decode || IsHip(part) || !part.sequence->keys_rotated || IsMasked(call, part)) {
      continue;
    }
    for (uint32_t h = 0; h < options.num_kv_heads; ++h) {
      jobs[count++] = {part.layer->heads[h].store.slots(),
                       call.Q(part.first_row, h),
                       call.Out(part.first_row, h),
                       call.Lse(part.first_row, h),
                       static_cast<uint32_t>(part.first_pos),
                       part.num_rows};
    }
  }
  if (count == 0) {
    return Status::Ok();
  }
  const Timer timer(&call.stats.attend_ns);
  const device::PrefillParams params = {{},
                                        jobs.data(),
                                        count,
                                        options.group(),
                                        call.q_row_stride(),
                                        call.q_row_stride(),
                                        options.num_q_heads,
                                        options.softmax_scale,
                                        options.logit_softcap,
                                        options.io()};
  return RunOverBlocks(engine, params);
}

// From so many q heads per kv head on a HIP prefill attends row by row: the decode kernel reads a
// key once for the whole group, and a mask's tile of 64 rows attends 63 keys of other rows'
// windows. At 4 heads both take as long, at 8 rows take 12 % less (docs/measurements/prefill.md).
constexpr uint32_t kRowsGroup = 8;

// One query block of one sequence, row by row.
class BlockStep {
 public:
  BlockStep(Call* call, const Part& part, const core::RowRange& block)
      : call_(*call), engine_(call->engine), part_(part), block_(block) {}

  Status Run() {
    if (IsHip(part_)) {
      HIPATTN_RETURN_IF_ERROR(Search());
    }
    HIPATTN_RETURN_IF_ERROR(PlanRows());
    HIPATTN_RETURN_IF_ERROR(part_.sequence->keys_rotated ? Attend() : AttendRotated());
    return IsHip(part_) ? CorrectHip(&call_, part_, block_) : Status::Ok();
  }

 private:
  uint32_t kv_heads() const { return call_.options().num_kv_heads; }
  uint32_t num_rows() const { return block_.end - block_.begin; }
  RowList& List(size_t row, size_t kv_head) {
    return engine_.scratch.prefill_lists[row * kv_heads() + kv_head];
  }

  Status Search() {
    const Timer timer(&call_.stats.search_ns);
    part_.layer->search_kept = false;
    std::vector<SearchRead> reads(kv_heads());
    const bool reads_keys = SearchReadsKeys(part_.sequence->options);
    HIPATTN_RETURN_IF_ERROR(
        BringQueries(&call_, part_, part_.first_row + block_.begin, num_rows()));
    for (uint32_t h = 0; h < kv_heads(); ++h) {
      HIPATTN_RETURN_IF_ERROR(PlaceSketches(&call_, part_, h));
    }
    Status status = SearchTasks(engine_, reads_keys, kv_heads(), [&](size_t h) {
      return SearchBlock(&call_, part_, block_, static_cast<uint32_t>(h), &reads[h]);
    });
    CountReads(reads, &call_.stats);
    return status;
  }

  Status PlanRows() {
    std::vector<RowList>& lists = engine_.scratch.prefill_lists;
    lists.resize(std::max<size_t>(lists.size(), size_t{num_rows()} * kv_heads()));
    const core::Partition last = PartitionOf(part_, block_.end - 1);
    return ParallelTasks(engine_, size_t{num_rows()} * kv_heads(), [&](size_t i) {
      const size_t row = block_.begin + i / kv_heads();
      const HeadState& head = part_.layer->heads[i % kv_heads()];
      RowList* list = &List(i / kv_heads(), i % kv_heads());
      if (!IsHip(part_)) {
        return PlanAll(engine_, part_.first_pos + row + 1, head.store, list);
      }
      const auto first_pos = static_cast<int64_t>(part_.first_pos + block_.begin);
      return PlanList(engine_,
                      *part_.sequence,
                      {PartitionOf(part_, row), last, first_pos, part_.first_pos + block_.end - 1},
                      head,
                      list);
    });
  }

  Status Attend() {
    const Timer timer(&call_.stats.attend_ns);
    const size_t count = size_t{num_rows()} * kv_heads();
    HIPATTN_RETURN_IF_ERROR(engine_.scratch.decode_jobs.Grow(*engine_.device, count));
    for (size_t i = 0; i < count; ++i) {
      const auto r = static_cast<uint32_t>(i / kv_heads());
      const auto h = static_cast<uint32_t>(i % kv_heads());
      const uint64_t row = part_.first_row + block_.begin + r;
      device::DecodeJob job = {};
      job.ranges = List(r, h).kv_ranges.data();
      job.num_ranges = List(r, h).size();
      job.q = call_.Q(row, h);
      job.out = call_.Out(row, h);
      job.lse = call_.Lse(row, h);
      engine_.scratch.decode_jobs[i] = job;
    }
    return RunDecodeJobs(engine_, static_cast<uint32_t>(count), call_.options().io());
  }

  // Over keys that are stored un-rotated.
  Status AttendRotated() {
    const Timer timer(&call_.stats.attend_ns);
    const size_t most = size_t{num_rows()} * kv_heads();
    HIPATTN_RETURN_IF_ERROR(engine_.scratch.rotated_jobs.Grow(*engine_.device, most));
    uint32_t count = 0;
    for (uint32_t r = 0; r < num_rows(); ++r) {
      const uint64_t row = part_.first_row + block_.begin + r;
      const auto pos = static_cast<uint32_t>(part_.first_pos + block_.begin + r);
      for (uint32_t h = 0; h < kv_heads(); ++h, ++count) {
        const RowList& list = List(r, h);
        engine_.scratch.rotated_jobs[count] = {list.kv_ranges.data(),
                                               list.kv_positions.data(),
                                               list.size(),
                                               pos,
                                               call_.Q(row, h),
                                               call_.Out(row, h),
                                               call_.Lse(row, h)};
      }
    }
    return RunRotatedJobs(engine_, count);
  }

  Call& call_;
  EngineState& engine_;
  const Part& part_;
  const core::RowRange block_;
};

// Every row has a list of its own.
Status RunByRows(Call* call, const Part& part) {
  for (const core::RowRange& block :
       core::QueryBlocks(static_cast<int64_t>(part.first_pos), part.num_rows, kPrefillBlockRows)) {
    HIPATTN_RETURN_IF_ERROR(call->CheckCancelled());
    HIPATTN_RETURN_IF_ERROR(BlockStep(call, part, block).Run());
  }
  return Status::Ok();
}

Status RunPart(Call* call, const Part& part) {
  if (IsMasked(*call, part)) {
    return RunMasked(call, part);
  }
  if (part.decode) {
    return Status::Ok();
  }
  const bool hip_by_rows = IsHip(part) && call->options().group() >= kRowsGroup;
  if (!part.sequence->keys_rotated || hip_by_rows) {
    return RunByRows(call, part);
  }
  return IsHip(part) ? RunHip(call, part) : Status::Ok();
}

}  // namespace

Status RunPrefill(Call* call) {
  const bool prefills =
      std::any_of(call->parts.begin(), call->parts.end(), [](const Part& p) { return !p.decode; });
  const offload::TraceSpan span(prefills ? call->engine.trace.get() : nullptr, "prefill");
  HIPATTN_RETURN_IF_ERROR(RunDense(*call));
  for (const Part& part : call->parts) {
    HIPATTN_RETURN_IF_ERROR(RunPart(call, part));
  }
  return Status::Ok();
}

}  // namespace hipattn::engine
