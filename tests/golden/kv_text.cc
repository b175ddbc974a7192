// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "tests/golden/kv_text.h"

#include "base/int_math.h"

#include <algorithm>
#include <cstring>

namespace hipattn::golden {
namespace {

constexpr uint64_t kSeed = 5;  // of the slots' order

}  // namespace

device::Rope DeviceRope(const RopeSettings& rope) {
  return {static_cast<uint32_t>(rope.layout),
          static_cast<uint32_t>(2 * rope.inv_freq.size()),
          rope.inv_freq.data()};
}

RowKeys RowKeys::Clip(int64_t begin, int64_t end) const {
  RowKeys clipped;
  for (size_t i = 0; i < ranges.size(); ++i) {
    const core::TokenRange range{std::max(ranges[i].begin, begin), std::min(ranges[i].end, end)};
    if (range.begin >= range.end) {
      continue;
    }
    clipped.ranges.push_back(range);
    if (!positions.empty()) {
      clipped.positions.push_back(positions[i] + range.begin - ranges[i].begin);
    }
  }
  return clipped;
}

KvText::KvText(const Machine& machine,
               const Array& k,
               const Array& v,
               uint32_t block_tokens,
               const RopeSettings& stored_rope)
    : machine_(machine),
      num_tokens_(static_cast<uint32_t>(k.shape[0])),
      pool_({machine.kv_dtype, static_cast<uint32_t>(k.shape[2]), block_tokens},
            CeilDiv(num_tokens_, block_tokens) * static_cast<uint32_t>(k.shape[1]),
            kSeed),
      slots_(k.shape[1]) {
  std::vector<device::AppendJob> jobs;
  for (size_t head = 0; head < slots_.size(); ++head) {
    for (uint32_t block = 0; block < CeilDiv(num_tokens_, block_tokens); ++block) {
      slots_[head].push_back(pool_.TakeSlot());
    }
    const size_t first = head * head_dim();
    jobs.push_back(
        {k.floats.data() + first, v.floats.data() + first, slots_[head].data(), 0, num_tokens_});
  }
  device::AppendParams params{};
  params.pool = pool();
  params.rope = DeviceRope(stored_rope);
  params.jobs = jobs.data();
  params.num_jobs = static_cast<uint32_t>(jobs.size());
  params.io_dtype = DType::kF32;
  params.kv_row_stride = k.shape[1] * k.shape[2];
  machine.table->append_kv(machine.context, params);
}

void KvText::Attend(uint32_t kv_head,
                    const RowKeys& keys,
                    const RowQuery& query,
                    const Softmax& softmax,
                    const RopeSettings& rope) const {
  const uint32_t block = block_tokens();
  std::vector<device::KvRange> ranges;
  for (const core::TokenRange& range : keys.ranges) {
    const int64_t start = range.begin / block * block;
    ranges.push_back({slots_[kv_head][static_cast<size_t>(range.begin / block)],
                      static_cast<uint16_t>(range.begin - start),
                      static_cast<uint16_t>(range.end - start)});
  }
  const auto num_ranges = static_cast<uint32_t>(ranges.size());
  if (rope.layout != core::RopeLayout::kNone) {
    std::vector<int64_t> positions = keys.positions;
    for (size_t i = positions.size(); i < keys.ranges.size(); ++i) {
      positions.push_back(keys.ranges[i].begin);
    }
    const device::RotatedJob job{ranges.data(),
                                 positions.data(),
                                 num_ranges,
                                 static_cast<uint32_t>(query.pos),
                                 query.q,
                                 query.out,
                                 query.lse};
    const device::RotatedParams params{pool(),
                                       DeviceRope(rope),
                                       &job,
                                       1,
                                       query.group,
                                       softmax.scale,
                                       softmax.softcap,
                                       DType::kF32};
    machine_.table->attend_rotated(machine_.context, params);
    return;
  }
  const testing::AlignedBytes workspace(
      device::DecodeWorkspaceFloats(num_ranges, query.group, head_dim()) * sizeof(float));
  const device::DecodeJob job{ranges.data(), nullptr, num_ranges, 0, query.q, query.out, query.lse};
  const device::DecodeParams params{pool(),
                                    &job,
                                    1,
                                    query.group,
                                    softmax.scale,
                                    softmax.softcap,
                                    DType::kF32,
                                    workspace.floats()};
  machine_.table->sparse_decode(machine_.context, params);
}

void KvText::AttendDense(uint32_t kv_head,
                         const device::QueryRows& rows,
                         int64_t first_pos,
                         const Softmax& softmax,
                         float* out,
                         float* lse) const {
  const device::PrefillJob job{
      slots_[kv_head].data(), rows.q, out, lse, static_cast<uint32_t>(first_pos), rows.num_rows};
  device::PrefillParams params{};
  params.pool = pool();
  params.jobs = &job;
  params.num_jobs = 1;
  params.group = rows.group;
  params.q_row_stride = rows.row_stride;
  params.out_row_stride = rows.row_stride;
  params.lse_row_stride = rows.row_stride / head_dim();
  params.scale = softmax.scale;
  params.softcap = softmax.softcap;
  params.out_dtype = DType::kF32;
  machine_.table->dense_prefill(machine_.context, params);
}

void KvText::RunProbes(uint32_t kv_head,
                       const device::QueryRows& rows,
                       const RopeSettings& rope,
                       core::ProbeWalk* walk) const {
  std::vector<float> scores;
  while (!walk->done()) {
    const core::ProbeBatch& batch = walk->pending();
    scores.assign(batch.tokens.size(), 0.0F);
    // Sampled rows lie at equal distances.
    const uint64_t step = batch.rows.size() > 1 ? batch.rows[1] - batch.rows[0] : 1;
    device::ScoreKeysJob job{};
    job.slots = slots_[kv_head].data();
    job.tokens = batch.tokens.data();
    job.key_pos = batch.key_pos.data();
    job.num_tokens = static_cast<uint32_t>(batch.tokens.size());
    job.rows = {rows.q + batch.rows[0] * rows.row_stride,
                rows.row_stride * step,
                static_cast<uint32_t>(batch.rows.size()),
                rows.group};
    job.row_pos = batch.row_pos.data();
    job.scores = scores.data();
    machine_.table->score_keys(machine_.context, {pool(), DeviceRope(rope), &job, 1});
    walk->Accept(scores);
  }
}

KvSummaries::KvSummaries(const Machine& machine,
                         const KvText& text,
                         uint32_t kv_head,
                         Scorer scorer)
    : machine_(machine), scorer_(scorer), head_dim_(text.head_dim()) {
  const uint32_t num_blocks = text.num_tokens() / text.block_tokens();
  store_ = std::make_unique<testing::SummaryStore>(
      testing::KvShape{machine.kv_dtype, head_dim_, text.block_tokens()}, scorer, num_blocks);
  device::SummarizeJob job{};
  store_->Attach(&job);
  job.slots = text.slots(kv_head).data();
  job.num_blocks = num_blocks;
  machine.table->summarize_blocks(machine.context, {text.pool(), scorer, &job, 1});
}

void KvSummaries::RunTree(const device::QueryRows& rows, core::TreeWalk* walk) const {
  std::vector<float> scores;
  while (!walk->done()) {
    const std::span<const NodeGroup> groups = walk->pending();
    scores.assign(groups.size() * kFanOut, 0.0F);
    const device::ScoreJob job{store_->level(walk->level()),
                               groups.data(),
                               static_cast<uint32_t>(groups.size()),
                               rows,
                               scores.data()};
    machine_.table->score_nodes(machine_.context,
                                {&job, 1, head_dim_, ScorerHasSpread(scorer_) ? 1U : 0U});
    walk->Accept(scores.data());
  }
}

std::vector<float> KvSummaries::LogMasses(uint32_t level,
                                          std::span<const NodeGroup> groups,
                                          std::span<const float> tokens,
                                          const float* q,
                                          uint32_t group,
                                          const Softmax& softmax) const {
  std::vector<float> log_masses(group);
  const device::EstimateJob job{store_->level(level),
                                groups.data(),
                                tokens.data(),
                                static_cast<uint32_t>(groups.size()),
                                q,
                                log_masses.data()};
  machine_.table->estimate_nodes(machine_.context,
                                 {&job, 1, head_dim_, group, softmax.scale, softmax.softcap});
  return log_masses;
}

core::QuantizedVector KvSummaries::Read(uint32_t level, uint32_t node, uint32_t which) const {
  const bool has_spread = ScorerHasSpread(scorer_);
  const std::byte* group = device::SummaryGroupAddress(
      store_->level(level), device::SummaryGroupBytes(head_dim_, has_spread), node / kFanOut);
  core::QuantizedVector vector;
  const uint32_t lane = node % kFanOut;
  std::memcpy(&vector.scale, group + (which * kFanOut + lane) * sizeof(float), sizeof(float));
  const auto* lanes = reinterpret_cast<const int8_t*>(group + 2 * kFanOut * sizeof(float));
  for (uint32_t dim = 0; dim < head_dim_; ++dim) {
    vector.steps.push_back(lanes[device::SummaryPlace(has_spread, which, lane, dim)]);
  }
  return vector;
}

}  // namespace hipattn::golden
