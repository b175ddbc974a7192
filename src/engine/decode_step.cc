// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "engine/decode_step.h"

#include "base/int_math.h"
#include "core/refresh.h"
#include "engine/audit.h"
#include "engine/block_ops.h"
#include "engine/call.h"
#include "engine/index_ops.h"
#include "engine/lists.h"
#include "engine/recall.h"
#include "engine/select.h"

#include <algorithm>
#include <cmath>

namespace hipattn::engine {
namespace {

// One sequence's row of a wave.
struct Row {
  const Part* part;
  uint64_t row;  // of the call
  uint64_t pos;
  StepMode mode = StepMode::kDense;
  uint32_t stage = 0;  // searched: the stage to begin at; the number of stages = keep all
  bool searches = false;
  core::Partition partition{};
  const float* host_q = nullptr;  // [num_q_heads][head_dim] where it is searched with on the host
};

// One kv head of a row; with min_recall its budget may grow.
struct Task {
  Row* row;
  uint32_t kv_head;
  uint32_t budget_tokens;
  bool scans = false;      // all sketches choose, because what the tree keeps does not do
  bool reselects = false;  // the last search's scores choose
  SearchRead read = {};

  HeadState& head() const { return row->part->layer->heads[kv_head]; }
};

core::Partition PartitionAt(const AttentionOptions& options, uint64_t pos, int64_t anchor) {
  const auto p = static_cast<int64_t>(pos);
  return core::SplitPartition(p, p + 1, {options.sink_tokens, options.window_tokens}, anchor);
}

// The stage a step begins at, among `stages` (D16, D34); `stages` = the selection is kept.
uint32_t FirstStage(const Call& call, const Row& row, uint32_t stages) {
  const LayerState& layer = *row.part->layer;
  const AttentionOptions& options = row.part->sequence->options;
  if (!layer.selected) {
    return 0;
  }
  if (options.search_kind() == Search::kStaged) {
    return core::RefreshStage(kStagedIntervals, layer.step);
  }
  return core::TreeRefreshes(options.refresh_interval, call.args.layer, layer.step) ? 0 : stages;
}

void Classify(const Call& call, Row* row) {
  LayerState& layer = *row->part->layer;
  const AttentionOptions& options = row->part->sequence->options;
  if (call.args.external_blocks != nullptr) {
    row->mode = StepMode::kExternal;
    row->partition = PartitionAt(options, row->pos, static_cast<int64_t>(row->pos));
    return;
  }
  if (DecodesDense(options, row->pos)) {
    row->mode = StepMode::kDense;
    return;
  }
  row->mode = StepMode::kSearched;
  const auto stages = static_cast<uint32_t>(
      options.search_kind() == Search::kStaged ? std::size(kStagedIntervals) : 1);
  row->stage = FirstStage(call, *row, stages);
  row->searches = row->stage < stages;
  if (row->stage == 0) {
    layer.anchor = static_cast<int64_t>(row->pos);
    DecideModes(call, *row->part);
  }
  row->partition = PartitionAt(options, row->pos, layer.anchor);
}

class Wave {
 public:
  Wave(Call* call, std::vector<Row> rows)
      : call_(*call), engine_(call->engine), rows_(std::move(rows)) {}

  Status Run();

 private:
  // SelectAll, AttendAll: the heads in `tasks`.
  Status BringRows();
  Status SelectAll(std::vector<Task>& tasks);
  Status SelectOne(Task* task);
  Status AttendAll(const std::vector<Task>& tasks);
  Status AttendStored(const std::vector<Task>& tasks);
  Status AttendRotated(const std::vector<Task>& tasks);
  Status VerifyRecall();
  Status SaveSearch(const Row& row);
  Status GrowBudgets(std::vector<Task>* tasks);
  Status Grow(Task* task, bool* grown);
  Status FinishRow(const Row& row);
  std::vector<Task> AllTasks();
  float* StepLse(const Row& row, uint32_t kv_head) const {
    return row.part->layer->step_lse.data() + kv_head * call_.options().group();
  }

  Call& call_;
  EngineState& engine_;
  std::vector<Row> rows_;
};

std::vector<Task> Wave::AllTasks() {
  std::vector<Task> tasks;
  for (Row& row : rows_) {
    for (uint32_t h = 0; h < call_.options().num_kv_heads; ++h) {
      tasks.push_back({&row, h, row.part->sequence->options.budget_tokens});
    }
  }
  return tasks;
}

Status Wave::Run() {
  for (Row& row : rows_) {
    Classify(call_, &row);
    HIPATTN_RETURN_IF_ERROR(
        row.part->layer->step_lse.Grow(*engine_.device, call_.options().num_q_heads));
  }
  HIPATTN_RETURN_IF_ERROR(BringRows());
  std::vector<Task> tasks = AllTasks();
  HIPATTN_RETURN_IF_ERROR(SelectAll(tasks));
  HIPATTN_RETURN_IF_ERROR(AttendAll(tasks));
  for (const Row& row : rows_) {
    if (row.searches) {
      HIPATTN_RETURN_IF_ERROR(SaveSearch(row));
    }
  }
  HIPATTN_RETURN_IF_ERROR(GrowBudgets(&tasks));
  HIPATTN_RETURN_IF_ERROR(VerifyRecall());
  for (const Row& row : rows_) {
    HIPATTN_RETURN_IF_ERROR(FinishRow(row));
    if (row.mode == StepMode::kSearched) {
      HIPATTN_RETURN_IF_ERROR(AuditDecode(&call_, *row.part, row.row, row.pos));
    }
  }
  return Status::Ok();
}

// Copies the queries of the rows whose searches need them to the host.
Status Wave::BringRows() {
  const uint64_t floats = call_.q_row_stride();
  Scratch<float, device::MemoryKind::kPinned>& host_q = engine_.scratch.host_q;
  HIPATTN_RETURN_IF_ERROR(host_q.Grow(*engine_.device, rows_.size() * floats));
  std::vector<device::CopyPiece> pieces;
  for (Row& row : rows_) {
    if (row.searches && SearchesOnHost(*row.part->sequence)) {
      float* const copy = host_q.data() + pieces.size() * floats;
      pieces.push_back({copy, call_.Q(row.row, 0), floats * sizeof(float)});
      row.host_q = copy;
    }
  }
  return pieces.empty() ? Status::Ok() : CopyPieces(engine_, pieces);
}

Status Wave::SelectAll(std::vector<Task>& tasks) {
  if (std::all_of(tasks.begin(), tasks.end(), [](const Task& task) {
        return task.row->mode == StepMode::kDense;
      })) {
    return Status::Ok();
  }
  const Timer timer(&call_.stats.search_ns);
  const offload::TraceSpan span(engine_.trace.get(), "select");
  for (const Task& task : tasks) {
    if (task.row->searches) {
      HIPATTN_RETURN_IF_ERROR(PlaceSketches(&call_, *task.row->part, task.kv_head));
    }
  }
  const bool reads_keys = std::any_of(tasks.begin(), tasks.end(), [](const Task& task) {
    return SearchReadsKeys(task.row->part->sequence->options);
  });
  Status status = SearchTasks(engine_, reads_keys, tasks.size(), [&](size_t i) {
    return tasks[i].row->mode == StepMode::kDense ? Status::Ok() : SelectOne(&tasks[i]);
  });
  for (const Task& task : tasks) {
    call_.stats.search_keys_read += task.read.keys;
    call_.stats.search_bytes_read += task.read.bytes;
  }
  return status;
}

// Leaves the row's list in the head's ranges and kv_ranges.
Status Wave::SelectOne(Task* task) {
  const Row& row = *task->row;
  HeadState& head = task->head();
  if (row.mode == StepMode::kExternal) {
    const uint32_t count = call_.args.num_external;
    const int32_t* picks =
        call_.args.external_blocks +
        (uint64_t{row.part->index} * call_.options().num_kv_heads + task->kv_head) * count;
    head.leaves.clear();
    std::copy_if(
        picks, picks + count, std::back_inserter(head.leaves), [](int32_t b) { return b >= 0; });
    head.leaf_tokens = call_.options().block_tokens;
  } else if (row.searches) {
    offload::TraceSpan span(engine_.trace.get(), "search");
    span.Set("kv_head", task->kv_head);
    const bool scans =
        task->scans || row.part->sequence->audits.at(call_.args.layer, task->kv_head).scanned;
    const SelectContext context = {engine_, *row.part->sequence, call_.args.layer, false, scans};
    const uint64_t head_floats = uint64_t{call_.options().group()} * call_.options().head_dim;
    const BlockQuery query = {
        call_.Q(row.row, task->kv_head),
        row.host_q == nullptr ? nullptr : row.host_q + task->kv_head * head_floats,
        call_.q_row_stride(),
        row.pos,
        1,
        row.partition};
    if (task->reselects) {
      Reselect(context, task->budget_tokens / call_.options().block_tokens, &head);
    } else {
      HIPATTN_RETURN_IF_ERROR(row.stage == 0
                                  ? Select(context, query, task->budget_tokens, &head, &task->read)
                                  : ResumeStaged(context, query, row.stage, &head, &task->read));
    }
  }
  offload::TraceSpan span(engine_.trace.get(), "plan");
  span.Set("kv_head", task->kv_head);
  return PlanList(engine_,
                  *row.part->sequence,
                  {row.partition, row.partition, row.part->layer->anchor, row.pos},
                  head,
                  &head.list);
}

Status Wave::AttendAll(const std::vector<Task>& tasks) {
  const Timer timer(&call_.stats.attend_ns);
  const offload::TraceSpan span(engine_.trace.get(), "decode");
  HIPATTN_RETURN_IF_ERROR(AttendStored(tasks));
  HIPATTN_RETURN_IF_ERROR(AttendRotated(tasks));
  // The step's lse is kept beside the caller's.
  for (const Row& row : rows_) {
    if (float* lse = call_.Lse(row.row, 0); lse != nullptr) {
      const device::CopyPiece piece = {
          lse, row.part->layer->step_lse.data(), call_.options().num_q_heads * sizeof(float)};
      HIPATTN_RETURN_IF_ERROR(CopyPieces(engine_, {&piece, 1}));
    }
  }
  return Status::Ok();
}

Status Wave::AttendStored(const std::vector<Task>& tasks) {
  const EngineOptions& options = call_.options();
  HIPATTN_RETURN_IF_ERROR(engine_.scratch.decode_jobs.Grow(*engine_.device, tasks.size()));
  uint32_t count = 0;
  for (const Task& task : tasks) {
    const Row& row = *task.row;
    if (!row.part->sequence->keys_rotated) {
      continue;
    }
    device::DecodeJob job = {};
    const HeadState& head = task.head();
    if (row.mode == StepMode::kDense) {
      job.slots = head.store.slots();
      job.num_tokens = static_cast<uint32_t>(row.pos + 1);
      job.num_ranges = CeilDiv(job.num_tokens, options.block_tokens);
    } else {
      job.ranges = head.list.kv_ranges.data();
      job.num_ranges = head.list.size();
    }
    job.q = call_.Q(row.row, task.kv_head);
    job.out = call_.Out(row.row, task.kv_head);
    job.lse = StepLse(row, task.kv_head);
    call_.stats.blocks_attended += job.num_ranges;
    engine_.scratch.decode_jobs[count++] = job;
  }
  return RunDecodeJobs(engine_, count, engine_.options.io());
}

Status Wave::AttendRotated(const std::vector<Task>& tasks) {
  HIPATTN_RETURN_IF_ERROR(engine_.scratch.rotated_jobs.Grow(*engine_.device, tasks.size()));
  uint32_t count = 0;
  for (const Task& task : tasks) {
    const Row& row = *task.row;
    if (row.part->sequence->keys_rotated) {
      continue;
    }
    HeadState& head = task.head();
    if (row.mode == StepMode::kDense) {
      HIPATTN_RETURN_IF_ERROR(PlanAll(engine_, row.pos + 1, head.store, &head.list));
    }
    call_.stats.blocks_attended += head.list.size();
    engine_.scratch.rotated_jobs[count++] = {head.list.kv_ranges.data(),
                                             head.list.kv_positions.data(),
                                             head.list.size(),
                                             static_cast<uint32_t>(row.pos),
                                             call_.Q(row.row, task.kv_head),
                                             call_.Out(row.row, task.kv_head),
                                             StepLse(row, task.kv_head)};
  }
  return RunRotatedJobs(engine_, count);
}

// Keeps what the estimate of this search needs until somebody asks for it.
Status Wave::SaveSearch(const Row& row) {
  LayerState& layer = *row.part->layer;
  const uint64_t q_bytes = call_.q_row_stride() * sizeof(float);
  HIPATTN_RETURN_IF_ERROR(layer.search_q.Grow(*engine_.device, call_.q_row_stride()));
  HIPATTN_RETURN_IF_ERROR(layer.search_lse.Grow(*engine_.device, call_.options().num_q_heads));
  const device::CopyPiece pieces[] = {{layer.search_q.data(), call_.Q(row.row, 0), q_bytes},
                                      {layer.search_lse.data(),
                                       layer.step_lse.data(),
                                       call_.options().num_q_heads * sizeof(float)}};
  HIPATTN_RETURN_IF_ERROR(CopyPieces(engine_, pieces));
  if (row.host_q != nullptr) {
    HIPATTN_RETURN_IF_ERROR(layer.search_host_q.Grow(*engine_.device, call_.q_row_stride()));
    std::copy_n(row.host_q, call_.q_row_stride(), layer.search_host_q.data());
  }
  layer.search_kept = true;
  layer.search_partition = row.partition;
  layer.estimate_known = false;
  return Status::Ok();
}

// min_recall: heads that attend too little select more, at the latest all of the text.
Status Wave::GrowBudgets(std::vector<Task>* tasks) {
  std::erase_if(*tasks, [](const Task& task) {
    return !task.row->searches || task.row->part->sequence->options.min_recall <= 0.0F;
  });
  while (!tasks->empty()) {
    HIPATTN_RETURN_IF_ERROR(call_.CheckCancelled());
    std::vector<char> grown(tasks->size());
    {
      const Timer timer(&call_.stats.search_ns);
      HIPATTN_RETURN_IF_ERROR(SearchTasks(engine_, true, tasks->size(), [&](size_t i) {
        bool grows = false;
        Status status = Grow(&(*tasks)[i], &grows);
        grown[i] = grows ? 1 : 0;
        return status;
      }));
    }
    std::vector<Task> again;
    for (size_t i = 0; i < tasks->size(); ++i) {
      Task& task = (*tasks)[i];
      call_.stats.search_keys_read += task.read.keys;
      call_.stats.search_bytes_read += task.read.bytes;
      task.read = {};
      if (grown[i] != 0) {
        again.push_back(task);
      }
    }
    HIPATTN_RETURN_IF_ERROR(SelectAll(again));
    HIPATTN_RETURN_IF_ERROR(AttendAll(again));
    for (const Task& task : again) {
      HIPATTN_RETURN_IF_ERROR(SaveSearch(*task.row));
    }
    tasks->swap(again);
  }
  return Status::Ok();
}

// Sets how the task goes on; *grown is false when it attends enough.
Status Wave::Grow(Task* task, bool* grown) {
  const Part& part = *task->row->part;
  const core::Partition& partition = task->row->partition;
  const uint32_t block_tokens = call_.options().block_tokens;
  const int64_t range = partition.window_begin - partition.sink_end;
  task->read = {};
  task->reselects = false;
  *grown = false;
  if (range <= int64_t{task->budget_tokens}) {
    return Status::Ok();
  }
  HIPATTN_ASSIGN_OR_RETURN(
      const RecallNeed need,
      NeedOf(engine_, *part.sequence, call_.args.layer, task->kv_head, &task->read));
  if (need.reached) {
    return Status::Ok();
  }
  *grown = true;
  const int64_t all = RoundUp(range, int64_t{block_tokens});
  if (!part.sequence->options.keeps_sketches()) {
    task->budget_tokens = static_cast<uint32_t>(std::min(2 * int64_t{task->budget_tokens}, all));
    return Status::Ok();
  }
  const core::NodeRange blocks =
      core::MeetingNodes({partition.sink_end, partition.window_begin, kMaxTokens}, block_tokens);
  const int64_t wanted = int64_t{need.blocks} * block_tokens;
  if (wanted != 0) {
    // At least a 16th more, so that a few rounds come to an end.
    const int64_t least = RoundUp(task->budget_tokens + task->budget_tokens / 16, block_tokens);
    const auto kept = static_cast<int64_t>(task->head().walk.pending().size());
    task->budget_tokens =
        static_cast<uint32_t>(std::min(std::max(wanted, least), kept * block_tokens));
    task->reselects = true;
  } else if (task->head().walk.pending().size() < static_cast<uint64_t>(blocks.size())) {
    task->scans = true;
  } else {
    task->budget_tokens = static_cast<uint32_t>(all);
  }
  return Status::Ok();
}

// The true share: dense attention's lse beside the step's.
Status Wave::VerifyRecall() {
  const EngineOptions& options = call_.options();
  for (const Row& row : rows_) {
    LayerState& layer = *row.part->layer;
    layer.truth.clear();
    if (row.part->sequence->options.verify_recall == 0) {
      continue;
    }
    if (row.mode == StepMode::kDense) {
      layer.truth.assign(options.num_q_heads, 1.0F);
      continue;
    }
    HIPATTN_RETURN_IF_ERROR(DenseLse(&call_, *row.part, row.row, row.pos));
    for (uint32_t h = 0; h < options.num_q_heads; ++h) {
      layer.truth.push_back(
          std::min(1.0F, std::exp(layer.step_lse[h] - engine_.scratch.truth_lse[h])));
    }
  }
  return Status::Ok();
}

Status Wave::FinishRow(const Row& row) {
  LayerState& layer = *row.part->layer;
  layer.last_mode = row.mode;
  layer.last_pos = static_cast<int64_t>(row.pos);
  layer.selected = row.mode == StepMode::kSearched;
  const bool sampled = (layer.step + call_.args.layer) % call_.options().num_layers == 0;
  ++layer.step;
  if (!sampled) {
    return Status::Ok();
  }
  for (uint32_t h = 0; h < call_.options().num_q_heads; ++h) {
    HIPATTN_ASSIGN_OR_RETURN(const Recall recall,
                             RecallOf(engine_, *row.part->sequence, call_.args.layer, h));
    if (!std::isnan(recall.estimate)) {
      call_.stats.recall_sum += recall.estimate;
      ++call_.stats.recall_count;
    }
  }
  return Status::Ok();
}

}  // namespace

Status RunDecode(Call* call) {
  uint32_t most = 0;
  for (const Part& part : call->parts) {
    most = std::max(most, part.decode ? part.num_rows : 0);
  }
  for (uint32_t r = 0; r < most; ++r) {
    HIPATTN_RETURN_IF_ERROR(call->CheckCancelled());
    std::vector<Row> rows;
    for (const Part& part : call->parts) {
      if (part.decode && r < part.num_rows) {
        rows.push_back({&part, part.first_row + r, part.first_pos + r});
      }
    }
    HIPATTN_RETURN_IF_ERROR(Wave(call, std::move(rows)).Run());
  }
  return Status::Ok();
}

}  // namespace hipattn::engine
