// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "engine/masked_prefill.h"

#include "engine/block_ops.h"
#include "engine/delta.h"
#include "engine/lists.h"
#include "engine/masked_wave.h"
#include "engine/prefill_options.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace hipattn::engine {
namespace {

// Heads that are in memory at once, or one kv head's.
constexpr uint32_t kWaveHeads = 8;
// Rows of a slice: a multiple of the query blocks of every selector, and what XAttention's own
// program takes at a time. At a million tokens a head's block scores are 2 MB of it, and a mask is
// never above 15 MB: a range per 65 keys and tile, and every key a column.
constexpr uint32_t kSliceRows = 2048;

// Of a row tile, among num_rows.
uint32_t LastRow(uint32_t num_rows, uint32_t tile) {
  return std::min((tile + 1) * kRowTile, num_rows) - 1;
}

// The sampled rows' lse beside those of dense attention.
Status VerifyRecall(Call* call, const Part& part) {
  const AttendScratch& scratch = call->engine.scratch;
  const uint32_t num_q_heads = call->options().num_q_heads;
  for (uint32_t tile = 0; tile < core::NumRowTiles(ShapeOf(part)); ++tile) {
    HIPATTN_RETURN_IF_ERROR(call->CheckCancelled());
    const std::span<const float> sparse =
        std::span(scratch.sampled_lse).subspan(size_t{tile} * num_q_heads, num_q_heads);
    const auto is_dense = [](float lse) { return std::isnan(lse); };
    if (!std::all_of(sparse.begin(), sparse.end(), is_dense)) {
      const uint64_t row = LastRow(part.num_rows, tile);
      HIPATTN_RETURN_IF_ERROR(DenseLse(call, part, part.first_row + row, part.first_pos + row));
    }
    for (uint32_t h = 0; h < num_q_heads; ++h) {
      call->stats.prefill_recall_sum +=
          is_dense(sparse[h]) ? 1.0 : std::exp(double{sparse[h]} - scratch.truth_lse[h]);
    }
    call->stats.prefill_recall_count += num_q_heads;
  }
  return Status::Ok();
}

}  // namespace

Status MaskedWave::Run() {
  std::vector<MaskedHead>& heads = engine_.scratch.masked_heads;
  if (heads.size() < num_heads_) {
    heads.resize(num_heads_);
  }
  {
    const Timer timer(&call_.stats.search_ns);
    HIPATTN_RETURN_IF_ERROR(Choose());
  }
  for (uint32_t i = 0; i < num_heads_; ++i) {
    if (!ChoosesBySlice(i)) {
      call_.stats.prefill_tiles += Head(i).dense ? core::CausalTiles(shape_) : Head(i).tiles;
    }
  }
  call_.stats.prefill_dense_tiles += uint64_t{num_heads_} * core::CausalTiles(shape_);
  HIPATTN_RETURN_IF_ERROR(AttendDense({0, shape_}, true));
  for (uint32_t row = 0; row < part_.num_rows; row += kSliceRows) {
    HIPATTN_RETURN_IF_ERROR(call_.CheckCancelled());
    const uint32_t num_rows = std::min(kSliceRows, part_.num_rows - row);
    const uint32_t kv_len = static_cast<uint32_t>(part_.first_pos) + row + num_rows;
    HIPATTN_RETURN_IF_ERROR(RunSlice({row, {num_rows, kv_len}}));
  }
  return Status::Ok();
}

Status MaskedWave::Choose() {
  for (uint32_t i = 0; i < num_heads_; ++i) {
    SetKind(i);
  }
  HIPATTN_RETURN_IF_ERROR(EstimateLines());
  const bool flex = options().prefill() == PrefillMode::kFlex;
  if (flex) {  // whose plan needs the means; where sizes decide, dense heads need none
    HIPATTN_RETURN_IF_ERROR(PoolBlocks());
    HIPATTN_RETURN_IF_ERROR(ScoreProbe());
  }
  HIPATTN_RETURN_IF_ERROR(ParallelTasks(
      engine_, num_heads_, [&](size_t i) { return Decide(static_cast<uint32_t>(i)); }));
  if (!flex) {
    HIPATTN_RETURN_IF_ERROR(PoolBlocks());
  }
  return PackColumns();
}

Status MaskedWave::RunSlice(const Slice& slice) {
  {
    const Timer timer(&call_.stats.search_ns);
    HIPATTN_RETURN_IF_ERROR(ScoreBlocks(slice, device::BlockScore::kPooled));
    HIPATTN_RETURN_IF_ERROR(ScoreBlocks(slice, device::BlockScore::kMass));
    HIPATTN_RETURN_IF_ERROR(ScoreAntidiagonals(slice));
    HIPATTN_RETURN_IF_ERROR(ParallelTasks(
        engine_, num_heads_, [&](size_t i) { return MakeMask(static_cast<uint32_t>(i), slice); }));
  }
  for (uint32_t i = 0; i < num_heads_; ++i) {
    if (ChoosesBySlice(i)) {
      call_.stats.prefill_tiles +=
          Head(i).slice_dense ? core::CausalTiles(slice.shape) : Head(i).tiles;
    }
  }
  HIPATTN_RETURN_IF_ERROR(AttendDense(slice, false));
  HIPATTN_RETURN_IF_ERROR(AttendMasks(slice));
  return options().prefill_delta_interval == 0 ? Status::Ok() : Correct(slice);
}

Status MaskedWave::AttendDense(const Slice& slice, bool whole_chunk) {
  const EngineOptions& engine_options = call_.options();
  Scratch<device::PrefillJob>& jobs = engine_.scratch.prefill_jobs;
  HIPATTN_RETURN_IF_ERROR(jobs.Grow(*engine_.device, num_heads_));
  uint32_t count = 0;
  for (uint32_t i = 0; i < num_heads_; ++i) {
    if (whole_chunk ? Head(i).dense : Head(i).slice_dense) {
      jobs[count++] = {Slots(i),
                       Q(i, slice.first_row),
                       Out(i, slice.first_row),
                       Lse(i, slice.first_row),
                       slice.shape.kv_len - slice.shape.q_len,
                       slice.shape.q_len};
    }
  }
  if (count == 0) {
    return Status::Ok();
  }
  const Timer timer(&call_.stats.attend_ns);
  const device::PrefillParams params = {{},
                                        jobs.data(),
                                        count,
                                        1,
                                        call_.q_row_stride(),
                                        call_.q_row_stride(),
                                        engine_options.num_q_heads,
                                        engine_options.softmax_scale,
                                        engine_options.logit_softcap,
                                        engine_options.io()};
  return RunOverBlocks(engine_, params);
}

Status MaskedWave::AttendMasks(const Slice& slice) {
  const EngineOptions& engine_options = call_.options();
  device::Device& device = *engine_.device;
  Scratch<device::SparsePrefillJob>& jobs = engine_.scratch.sparse_prefill_jobs;
  HIPATTN_RETURN_IF_ERROR(jobs.Grow(device, num_heads_));
  const bool own_lse = options().verify_recall != 0 && call_.args.lse == nullptr;
  const uint64_t lse_stride = own_lse ? num_heads_ : engine_options.num_q_heads;
  if (own_lse) {
    HIPATTN_RETURN_IF_ERROR(
        engine_.scratch.slice_lse.Grow(device, uint64_t{slice.shape.q_len} * num_heads_));
  }
  const auto lse_of = [&](uint32_t i) {
    return own_lse ? engine_.scratch.slice_lse.data() + i : Lse(i, slice.first_row);
  };
  const uint32_t blocks = CeilDiv(slice.shape.kv_len, device::kPoolTokens);
  Scratch<float>& log_tokens = engine_.scratch.log_tokens;
  HIPATTN_RETURN_IF_ERROR(log_tokens.Grow(device, blocks));
  std::fill_n(log_tokens.data(), blocks, std::log(static_cast<float>(device::kPoolTokens)));
  uint32_t count = 0;
  for (uint32_t i = 0; i < num_heads_; ++i) {
    const MaskedHead& head = Head(i);
    if (head.dense || head.slice_dense) {
      continue;
    }
    device::SparsePrefillJob job = {};
    job.slots = Slots(i);
    job.q = Q(i, slice.first_row);
    job.out = Out(i, slice.first_row);
    job.lse = lse_of(i);
    job.first_pos = slice.shape.kv_len - slice.shape.q_len;
    job.num_rows = slice.shape.q_len;
    job.num_heads = 1;
    job.mask = head.mask;
    job.columns = head.panel.data();
    if (Is(i, MaskKind::kFlash)) {
      job.means = {Means(i), log_tokens.data(), head.pruned_ptr.data(), head.pruned.data(), blocks};
    }
    jobs[count++] = job;
  }
  if (count == 0) {
    return Status::Ok();
  }
  const Timer timer(&call_.stats.attend_ns);
  const device::SparsePrefillParams params = {{},
                                              jobs.data(),
                                              count,
                                              call_.q_row_stride(),
                                              call_.q_row_stride(),
                                              lse_stride,
                                              engine_options.softmax_scale,
                                              engine_options.logit_softcap,
                                              options().prefill_skip_threshold,
                                              engine_options.io()};
  HIPATTN_RETURN_IF_ERROR(RunOverBlocks(engine_, params));
  for (uint32_t i = 0; options().verify_recall != 0 && i < num_heads_; ++i) {
    if (!Head(i).dense && !Head(i).slice_dense) {
      SampleLse(i, slice, lse_of(i), lse_stride);
    }
  }
  return Status::Ok();
}

Status MaskedWave::Correct(const Slice& slice) {
  std::vector<DeltaHead> heads;
  for (uint32_t i = 0; i < num_heads_; ++i) {
    MaskedHead& head = Head(i);
    if (head.dense) {
      continue;
    }
    HIPATTN_RETURN_IF_ERROR(head.delta.Grow(*engine_.device, call_.options().head_dim));
    if (head.slice_dense) {  // the next slice's first rows lack nothing either
      std::fill_n(head.delta.data(), call_.options().head_dim, 0.0F);
    } else {
      heads.push_back({KvHead(i) * group() + i % group(), head.delta.data()});
    }
  }
  const core::RowRange rows = {slice.first_row, slice.first_row + slice.shape.q_len};
  return CorrectRows(&call_, part_, rows, heads);
}

void MaskedWave::SampleLse(uint32_t i, const Slice& slice, const float* lse, uint64_t stride) {
  const uint32_t num_q_heads = call_.options().num_q_heads;
  const uint32_t q_head = KvHead(i) * group() + i % group();
  for (uint32_t tile = 0; tile < core::NumRowTiles(slice.shape); ++tile) {
    const size_t at = size_t{slice.first_row / kRowTile + tile} * num_q_heads + q_head;
    engine_.scratch.sampled_lse[at] = lse[LastRow(slice.shape.q_len, tile) * stride];
  }
}

bool IsMasked(const Call& call, const Part& part) {
  return !part.decode && PrefillsMasked(part.options.prefill()) &&
         core::WhyDense(ShapeOf(part), call.args.layer, kPrefillDenseRules) ==
             core::DenseReason::kNone;
}

Status RunMasked(Call* call, const Part& part) {
  const EngineOptions& options = call->options();
  const bool verify = part.options.verify_recall != 0;
  if (verify) {
    call->engine.scratch.sampled_lse.assign(
        size_t{core::NumRowTiles(ShapeOf(part))} * options.num_q_heads,
        std::numeric_limits<float>::quiet_NaN());
  }
  const uint32_t wave = std::max(1U, kWaveHeads / options.group());
  for (uint32_t first = 0; first < options.num_kv_heads; first += wave) {
    HIPATTN_RETURN_IF_ERROR(call->CheckCancelled());
    HIPATTN_RETURN_IF_ERROR(
        MaskedWave(call, part, first, std::min(wave, options.num_kv_heads - first)).Run());
  }
  return verify ? VerifyRecall(call, part) : Status::Ok();
}

}  // namespace hipattn::engine
