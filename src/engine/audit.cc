// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "engine/audit.h"

#include "engine/call.h"
#include "engine/lists.h"
#include "engine/select.h"

#include <algorithm>
#include <numbers>
#include <numeric>

namespace hipattn::engine {
namespace {

bool IsAudited(const SequenceState& sequence) {
  return sequence.options.keeps_sketches() && sequence.options.audit_interval != kNone;
}

// One query row and the kv heads that are audited with it.
class RowAudit {
 public:
  RowAudit(Call* call, const Part& part, uint64_t row, uint64_t pos)
      : call_(*call), engine_(call->engine), part_(part), row_(row) {
    const AttentionOptions& options = part.sequence->options;
    const auto p = static_cast<int64_t>(pos);
    partition_ = core::SplitPartition(p, p + 1, {options.sink_tokens, options.window_tokens});
    range_ = {partition_.sink_end, partition_.window_begin, p + 1};
    blocks_ = core::MeetingNodes(range_, engine_.options.block_tokens);
  }

  Status Run(const std::vector<uint32_t>& heads);

 private:
  uint32_t group() const { return engine_.options.group(); }
  uint32_t kept_blocks() const {
    return part_.sequence->options.rerank_tokens / engine_.options.block_tokens;
  }
  Status BringRow();
  SearchRows RowsOf(uint32_t head) const;
  Status AttendOutside(const std::vector<uint32_t>& heads);
  Status WalkTree(uint32_t head, AuditScratch* scratch);
  Status ScoreBlocks(const std::vector<uint32_t>& heads);
  double LossOf(AuditScratch* scratch);

  Call& call_;
  EngineState& engine_;
  const Part& part_;
  const uint64_t row_;
  core::Partition partition_{};
  core::SearchRange range_;
  core::NodeRange blocks_;
  const float* host_q_ = nullptr;  // [num_q_heads][head_dim] where the search is on the host
};

Status RowAudit::Run(const std::vector<uint32_t>& heads) {
  if (blocks_.size() < int64_t{core::kAuditLeastShare} * kept_blocks()) {
    return Status::Ok();
  }
  const Timer timer(&call_.stats.search_ns);
  offload::TraceSpan span(engine_.trace.get(), "audit");
  span.Set("heads", heads.size());
  HIPATTN_RETURN_IF_ERROR(call_.CheckCancelled());
  std::vector<AuditScratch>& scratch = engine_.scratch.audits;
  if (scratch.size() < heads.size()) {
    scratch.resize(heads.size());
  }
  HIPATTN_RETURN_IF_ERROR(BringRow());
  HIPATTN_RETURN_IF_ERROR(AttendOutside(heads));
  HIPATTN_RETURN_IF_ERROR(ParallelTasks(
      engine_, heads.size(), [&](size_t i) { return WalkTree(heads[i], &scratch[i]); }));
  HIPATTN_RETURN_IF_ERROR(ScoreBlocks(heads));
  std::vector<double> losses(heads.size());
  HIPATTN_RETURN_IF_ERROR(ParallelTasks(engine_, heads.size(), [&](size_t i) {
    losses[i] = LossOf(&scratch[i]);
    return Status::Ok();
  }));
  for (size_t i = 0; i < heads.size(); ++i) {
    const uint64_t sketch_tokens =
        static_cast<uint64_t>(blocks_.size()) * engine_.options.block_tokens;
    call_.stats.search_keys_read += scratch[i].walk.summaries_scored() + sketch_tokens;
    call_.stats.search_bytes_read +=
        scratch[i].walk.summaries_scored() * SummaryBytes(engine_, *part_.sequence) +
        sketch_tokens / device::kSketchTokens * device::SketchBytes(engine_.options.head_dim);
    part_.sequence->audits.AddSample(call_.args.layer, heads[i], losses[i]);
  }
  return Status::Ok();
}

Status RowAudit::BringRow() {
  if (!SearchesOnHost(*part_.sequence)) {
    return Status::Ok();
  }
  Scratch<float, device::MemoryKind::kPinned>& audit_q = engine_.scratch.audit_q;
  HIPATTN_RETURN_IF_ERROR(audit_q.Grow(*engine_.device, call_.q_row_stride()));
  const device::CopyPiece piece = {
      audit_q.data(), call_.Q(row_, 0), call_.q_row_stride() * sizeof(float)};
  host_q_ = audit_q.data();
  return CopyPieces(engine_, {&piece, 1});
}

SearchRows RowAudit::RowsOf(uint32_t head) const {
  const uint64_t head_floats = uint64_t{group()} * engine_.options.head_dim;
  return {{call_.Q(row_, head), call_.q_row_stride(), 1, group()},
          host_q_ == nullptr ? nullptr : host_q_ + head * head_floats};
}

// log2 of the mass of sinks and window -> outside[group].
Status RowAudit::AttendOutside(const std::vector<uint32_t>& heads) {
  device::Device& device = *engine_.device;
  AttendScratch& scratch = engine_.scratch;
  HIPATTN_RETURN_IF_ERROR(scratch.decode_jobs.Grow(device, heads.size()));
  HIPATTN_RETURN_IF_ERROR(scratch.truth_out.Grow(device, call_.q_row_stride()));
  for (size_t i = 0; i < heads.size(); ++i) {
    AuditScratch& audit = scratch.audits[i];
    HIPATTN_RETURN_IF_ERROR(audit.outside.Grow(device, group()));
    HIPATTN_RETURN_IF_ERROR(
        PlanFixed(engine_, partition_, part_.layer->heads[heads[i]].store, &audit.list));
    device::DecodeJob job = {};
    job.ranges = audit.list.kv_ranges.data();
    job.num_ranges = audit.list.size();
    job.q = call_.Q(row_, heads[i]);
    job.out = scratch.truth_out.data() + i * group() * engine_.options.head_dim;
    job.lse = audit.outside.data();
    scratch.decode_jobs[i] = job;
  }
  HIPATTN_RETURN_IF_ERROR(
      RunDecodeJobs(engine_, static_cast<uint32_t>(heads.size()), engine_.options.io()));
  for (size_t i = 0; i < heads.size(); ++i) {
    for (uint32_t g = 0; g < group(); ++g) {
      scratch.audits[i].outside[g] *= std::numbers::log2e_v<float>;
    }
  }
  return Status::Ok();
}

double RowAudit::LossOf(AuditScratch* scratch) {
  scratch->kept.clear();
  for (const int32_t block : scratch->walk.blocks()) {
    scratch->kept.push_back(block - static_cast<int32_t>(blocks_.first));
  }
  const uint32_t best = std::max(core::kAuditTokens / engine_.options.block_tokens, 1U);
  return scratch->loss.Of({scratch->scores.data(),
                           scratch->outside.data(),
                           scratch->kept,
                           group(),
                           static_cast<uint32_t>(blocks_.size()),
                           std::min(best, kept_blocks())});
}

// What the tree keeps for the sketches to choose from.
Status RowAudit::WalkTree(uint32_t head, AuditScratch* scratch) {
  core::TreeConfig config;
  config.block_tokens = engine_.options.block_tokens;
  config.budget_tokens = part_.sequence->options.rerank_tokens;
  config.flat = part_.sequence->options.search_kind() == Search::kFlat;
  scratch->walk.Begin(config, range_);
  const SearchRows rows = RowsOf(head);
  while (!scratch->walk.done()) {
    HIPATTN_RETURN_IF_ERROR(ScoreNodes(engine_,
                                       *part_.sequence,
                                       part_.layer->heads[head].store,
                                       rows,
                                       scratch->walk,
                                       &scratch->groups,
                                       &scratch->scores));
    scratch->walk.Accept(scratch->scores.data());
  }
  return Status::Ok();
}

// Every block by its sketches, for each q head -> scores[group][blocks].
Status RowAudit::ScoreBlocks(const std::vector<uint32_t>& heads) {
  device::Device& device = *engine_.device;
  AttendScratch& scratch = engine_.scratch;
  HIPATTN_RETURN_IF_ERROR(scratch.score_sketch_jobs.Grow(device, heads.size()));
  const auto num_blocks = static_cast<uint32_t>(blocks_.size());
  const bool on_host = part_.sequence->context.SketchesOnHost();
  for (size_t i = 0; i < heads.size(); ++i) {
    AuditScratch& audit = scratch.audits[i];
    HIPATTN_RETURN_IF_ERROR(audit.scores.Grow(device, size_t{group()} * num_blocks));
    const HeadStore& store = part_.layer->heads[heads[i]].store;
    scratch.score_sketch_jobs[i] = {on_host ? store.sketch_data() : store.sketches(),
                                    nullptr,
                                    static_cast<uint32_t>(blocks_.first),
                                    num_blocks,
                                    RowsOf(heads[i]).For(on_host),
                                    audit.scores.data(),
                                    num_blocks};
  }
  const device::ScoreSketchParams params = {scratch.score_sketch_jobs.data(),
                                            static_cast<uint32_t>(heads.size()),
                                            engine_.options.head_dim,
                                            engine_.options.block_tokens,
                                            engine_.options.softmax_scale};
  return RunIndexOp(engine_, on_host, &device::OpTable::score_sketches, params);
}

}  // namespace

Status AuditPrefill(Call* call) {
  std::vector<uint32_t> heads(call->options().num_kv_heads);
  std::iota(heads.begin(), heads.end(), 0U);
  for (const Part& part : call->parts) {
    if (part.decode || !IsAudited(*part.sequence)) {
      continue;
    }
    const uint64_t end = part.first_pos + part.num_rows;
    for (uint64_t next = part.first_pos / kPrefillAuditRows * kPrefillAuditRows + kPrefillAuditRows;
         next <= end;
         next += kPrefillAuditRows) {
      const uint64_t pos = next - 1;
      HIPATTN_RETURN_IF_ERROR(
          RowAudit(call, part, part.first_row + (pos - part.first_pos), pos).Run(heads));
    }
  }
  return Status::Ok();
}

Status AuditDecode(Call* call, const Part& part, uint64_t row, uint64_t pos) {
  if (!IsAudited(*part.sequence)) {
    return Status::Ok();
  }
  const EngineOptions& options = call->options();
  const uint64_t first = uint64_t{call->args.layer} * options.num_kv_heads;
  const uint64_t num_heads = uint64_t{options.num_layers} * options.num_kv_heads;
  std::vector<uint32_t> heads;
  for (uint32_t h = 0; h < options.num_kv_heads; ++h) {
    if (core::AuditIsDue(pos, part.sequence->options.audit_interval, first + h, num_heads)) {
      heads.push_back(h);
    }
  }
  return heads.empty() ? Status::Ok() : RowAudit(call, part, row, pos).Run(heads);
}

void DecideModes(const Call& call, const Part& part) {
  part.sequence->audits.DecideLayer(call.args.layer, part.sequence->options.max_scanned_heads);
}

void CountModes(EngineState& engine, const core::AuditTable::Counts& change) {
  engine.scanned_heads.fetch_add(change.scanned, std::memory_order_relaxed);
}

void AdoptAudits(EngineState& engine, const core::AuditTable& audits, SequenceState* sequence) {
  const core::AuditTable::Counts before = sequence->audits.Count();
  sequence->audits = audits;
  const core::AuditTable::Counts after = sequence->audits.Count();
  CountModes(engine, {after.scanned - before.scanned, after.waiting - before.waiting});
}

}  // namespace hipattn::engine
