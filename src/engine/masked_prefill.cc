// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "engine/masked_prefill.h"

#include "core/mask/block_tiles.h"
#include "core/mask/line_tiles.h"
#include "core/pattern/own_blocks.h"
#include "engine/prefill_options.h"

#include <algorithm>
#include <memory>

namespace hipattn::engine {
namespace {

// Heads that are in memory at once, or one kv head's.
constexpr uint32_t kWaveHeads = 8;
// Rows of a slice: a multiple of the row tile. At a million tokens a block-sparse head's scores are
// 2 MB of it, a mask of 33 ranges per tile less than 100 KB.
constexpr uint32_t kSliceRows = 2048;

core::PrefillShape ShapeOf(const Part& part) {
  return {part.num_rows, static_cast<uint32_t>(part.first_pos) + part.num_rows};
}

core::HeadPattern PatternOf(const Call& call, const Part& part, uint32_t q_head) {
  const AttentionOptions& options = part.sequence->options;
  const uint32_t* sizes = options.prefill_sizes;
  switch (options.prefill()) {
    case PrefillMode::kAShape:
      return {core::PatternType::kAShape, sizes[0], sizes[1]};
    case PrefillMode::kVerticalSlash:
      return {core::PatternType::kVerticalSlash, sizes[0], sizes[1]};
    case PrefillMode::kBlockSparse:
      return {core::PatternType::kBlockSparse, sizes[0], 0};
    default:
      return call.engine.patterns.Lookup(call.args.layer, q_head).Pattern();
  }
}

// Of a block-sparse head, which forces block 0 and each tile's own.
uint64_t BlockTilesOf(const core::PrefillShape& shape, uint32_t num_blocks) {
  uint64_t tiles = 0;
  for (uint32_t tile = 0; tile < core::NumRowTiles(shape); ++tile) {
    const core::OwnBlocks own = core::OwnBlocksOf(shape, tile, kRowTile);
    const uint32_t forced = own.last - own.first + 1 + (own.first > 0 ? 1 : 0);
    tiles += std::min(own.last + 1, std::max(num_blocks, forced));
  }
  return tiles;
}

// The q heads of a few kv heads and one part's rows.
class MaskedWave {
 public:
  MaskedWave(Call* call, const Part& part, uint32_t first_kv_head, uint32_t num_kv_heads)
      : call_(*call),
        engine_(call->engine),
        part_(part),
        shape_(ShapeOf(part)),
        first_kv_head_(first_kv_head),
        num_heads_(num_kv_heads * call->options().group()) {}

  Status Run();

 private:
  uint32_t group() const { return call_.options().group(); }
  uint32_t KvHead(uint32_t i) const { return first_kv_head_ + i / group(); }
  MaskedHead& Head(uint32_t i) const { return engine_.scratch.masked_heads[i]; }
  const uint32_t* Slots(uint32_t i) const { return part_.layer->heads[KvHead(i)].store.slots(); }
  // Of one q head: row `row` of the part.
  const float* Q(uint32_t i, uint32_t row) const {
    return call_.Q(part_.first_row + row, KvHead(i)) + i % group() * call_.options().head_dim;
  }
  void* Out(uint32_t i, uint32_t row) const {
    return call_.Out(part_.first_row + row, KvHead(i)) +
           size_t{i % group()} * call_.options().head_dim * DTypeBytes(call_.options().io());
  }
  float* Lse(uint32_t i, uint32_t row) const {
    float* lse = call_.Lse(part_.first_row + row, KvHead(i));
    return lse == nullptr ? nullptr : lse + i % group();
  }
  bool IsLines(uint32_t i) const {
    return Head(i).pattern.type == core::PatternType::kVerticalSlash;
  }
  bool IsBlocks(uint32_t i) const {
    return Head(i).pattern.type == core::PatternType::kBlockSparse;
  }

  Status EstimateLines();
  Status PoolBlocks();
  Status Decide(uint32_t i);
  Status PackColumns();
  Status RunDense();
  Status RunSlice(uint32_t first_row, uint32_t num_rows);
  Status ScoreBlocks(uint32_t first_row, const core::PrefillShape& slice);
  Status MakeMask(uint32_t i, const core::PrefillShape& slice);
  // What head i attends of a chunk, or of a slice of it.
  std::unique_ptr<core::TileSource> SourceOf(uint32_t i, const core::PrefillShape& shape) const;
  Status AttendMasks(uint32_t first_row, uint32_t num_rows);

  Call& call_;
  EngineState& engine_;
  const Part& part_;
  const core::PrefillShape shape_;
  const uint32_t first_kv_head_;
  const uint32_t num_heads_;
};

Status MaskedWave::Run() {
  std::vector<MaskedHead>& heads = engine_.scratch.masked_heads;
  if (heads.size() < num_heads_) {
    heads.resize(num_heads_);
  }
  for (uint32_t i = 0; i < num_heads_; ++i) {
    Head(i).pattern = PatternOf(call_, part_, KvHead(i) * group() + i % group());
  }
  {
    const Timer timer(&call_.stats.search_ns);
    HIPATTN_RETURN_IF_ERROR(EstimateLines());
    HIPATTN_RETURN_IF_ERROR(ParallelTasks(
        engine_, num_heads_, [&](size_t i) { return Decide(static_cast<uint32_t>(i)); }));
    HIPATTN_RETURN_IF_ERROR(PoolBlocks());
    HIPATTN_RETURN_IF_ERROR(PackColumns());
  }
  HIPATTN_RETURN_IF_ERROR(RunDense());
  for (uint32_t row = 0; row < part_.num_rows; row += kSliceRows) {
    HIPATTN_RETURN_IF_ERROR(call_.CheckCancelled());
    HIPATTN_RETURN_IF_ERROR(RunSlice(row, std::min(kSliceRows, part_.num_rows - row)));
  }
  return Status::Ok();
}

// What the chunk's last rows weigh, of the heads that attend lines.
Status MaskedWave::EstimateLines() {
  device::Device& device = *engine_.device;
  const uint32_t rows = std::min(part_.sequence->options.prefill_last_q, part_.num_rows);
  Scratch<device::LinesJob>& jobs = engine_.scratch.lines_jobs;
  HIPATTN_RETURN_IF_ERROR(jobs.Grow(device, num_heads_));
  uint32_t count = 0;
  for (uint32_t i = 0; i < num_heads_; ++i) {
    if (!IsLines(i)) {
      continue;
    }
    MaskedHead& head = Head(i);
    HIPATTN_RETURN_IF_ERROR(head.vertical.Grow(device, shape_.kv_len));
    HIPATTN_RETURN_IF_ERROR(head.slash.Grow(device, shape_.kv_len));
    HIPATTN_RETURN_IF_ERROR(head.probe_lse.Grow(device, rows));
    HIPATTN_RETURN_IF_ERROR(
        head.workspace.Grow(device, device::LinesWorkspaceFloats(shape_.kv_len, rows)));
    jobs[count++] = {Slots(i),
                     Q(i, part_.num_rows - rows),
                     shape_.kv_len - rows,
                     rows,
                     head.vertical.data(),
                     head.slash.data(),
                     head.probe_lse.data(),
                     head.workspace.data()};
  }
  if (count == 0) {
    return Status::Ok();
  }
  const EngineOptions& options = call_.options();
  const device::LinesParams params = {engine_.pool.view(),
                                      jobs.data(),
                                      count,
                                      call_.q_row_stride(),
                                      options.softmax_scale,
                                      options.logit_softcap};
  return LaunchAndSync(engine_, device.ops().estimate_lines, params);
}

// Lines of the head, and whether its mask is worth it.
Status MaskedWave::Decide(uint32_t i) {
  MaskedHead& head = Head(i);
  uint64_t tiles = 0;
  if (IsLines(i)) {
    core::SelectLines({head.vertical.data(), shape_.kv_len},
                      {head.slash.data(), shape_.kv_len},
                      {head.pattern.a, head.pattern.b},
                      &head.top,
                      &head.lines);
  }
  if (IsBlocks(i)) {
    tiles = BlockTilesOf(shape_, head.pattern.a);
  } else {
    HIPATTN_ASSIGN_OR_RETURN(const core::MaskSize size, core::MeasureMask(*SourceOf(i, shape_)));
    tiles = size.computed_tiles;
  }
  const core::DenseReason reason =
      core::WhyDense(shape_, call_.args.layer, tiles, kPrefillDenseRules);
  head.dense = reason != core::DenseReason::kNone;
  head.tiles = head.dense ? core::CausalTiles(shape_) : tiles;
  return Status::Ok();
}

std::unique_ptr<core::TileSource> MaskedWave::SourceOf(uint32_t i,
                                                       const core::PrefillShape& shape) const {
  MaskedHead& head = Head(i);
  switch (head.pattern.type) {
    case core::PatternType::kAShape:
      return std::make_unique<core::BlockTiles>(
          shape, core::MaskEnds{head.pattern.a, head.pattern.b}, nullptr);
    case core::PatternType::kVerticalSlash:
      return std::make_unique<core::LineTiles>(shape, head.lines.verticals, head.lines.slashes);
    case core::PatternType::kBlockSparse:
      return std::make_unique<core::BlockTiles>(shape, core::MaskEnds{}, &head.blocks);
  }
  return nullptr;
}

// Means of the kv heads that have a head which attends blocks.
Status MaskedWave::PoolBlocks() {
  device::Device& device = *engine_.device;
  const uint32_t head_dim = call_.options().head_dim;
  Scratch<device::PoolJob>& jobs = engine_.scratch.pool_jobs;
  HIPATTN_RETURN_IF_ERROR(jobs.Grow(device, num_heads_));
  const uint32_t blocks = CeilDiv(shape_.kv_len, device::kPoolTokens);
  uint32_t count = 0;
  for (uint32_t first = 0; first < num_heads_; first += group()) {
    const auto wants = [&](uint32_t i) { return IsBlocks(i) && !Head(i).dense; };
    uint32_t i = first;
    while (i < first + group() && !wants(i)) {
      ++i;
    }
    if (i < first + group()) {
      HIPATTN_RETURN_IF_ERROR(
          Head(first).means.Grow(device, device::ColumnPanelElements(blocks, head_dim)));
      jobs[count++] = {Slots(first), shape_.kv_len, 0, Head(first).means.data()};
    }
  }
  if (count == 0) {
    return Status::Ok();
  }
  const device::PoolParams params = {engine_.pool.view(), jobs.data(), count};
  return LaunchAndSync(engine_, device.ops().pool_blocks, params);
}

// Keys and values of the verticals, once for all slices.
Status MaskedWave::PackColumns() {
  device::Device& device = *engine_.device;
  Scratch<device::PackJob>& jobs = engine_.scratch.pack_jobs;
  HIPATTN_RETURN_IF_ERROR(jobs.Grow(device, num_heads_));
  uint32_t count = 0;
  for (uint32_t i = 0; i < num_heads_; ++i) {
    MaskedHead& head = Head(i);
    if (!IsLines(i) || head.dense) {
      continue;
    }
    const auto columns = static_cast<uint32_t>(head.lines.verticals.size());
    const uint64_t bytes = device::ColumnPanelElements(columns, call_.options().head_dim) *
                           DTypeBytes(call_.options().kv());
    HIPATTN_RETURN_IF_ERROR(head.panel.Grow(device, bytes));
    HIPATTN_RETURN_IF_ERROR(head.positions.Grow(device, columns));
    std::copy(head.lines.verticals.begin(), head.lines.verticals.end(), head.positions.data());
    jobs[count++] = {Slots(i), head.positions.data(), columns, head.panel.data()};
  }
  if (count == 0) {
    return Status::Ok();
  }
  const device::PackParams params = {engine_.pool.view(), jobs.data(), count};
  return LaunchAndSync(engine_, device.ops().pack_columns, params);
}

// The heads whose mask is not worth it.
Status MaskedWave::RunDense() {
  const EngineOptions& options = call_.options();
  Scratch<device::PrefillJob>& jobs = engine_.scratch.prefill_jobs;
  HIPATTN_RETURN_IF_ERROR(jobs.Grow(*engine_.device, num_heads_));
  uint32_t count = 0;
  for (uint32_t i = 0; i < num_heads_; ++i) {
    call_.stats.prefill_tiles += Head(i).tiles;
    if (Head(i).dense) {
      jobs[count++] = {Slots(i),
                       Q(i, 0),
                       Out(i, 0),
                       Lse(i, 0),
                       static_cast<uint32_t>(part_.first_pos),
                       part_.num_rows};
    }
  }
  call_.stats.prefill_dense_tiles += uint64_t{num_heads_} * core::CausalTiles(shape_);
  if (count == 0) {
    return Status::Ok();
  }
  const Timer timer(&call_.stats.attend_ns);
  const device::PrefillParams params = {engine_.pool.view(),
                                        jobs.data(),
                                        count,
                                        1,
                                        call_.q_row_stride(),
                                        call_.q_row_stride(),
                                        options.num_q_heads,
                                        options.softmax_scale,
                                        options.logit_softcap,
                                        options.io()};
  return LaunchAndSync(engine_, engine_.device->ops().dense_prefill, params);
}

Status MaskedWave::RunSlice(uint32_t first_row, uint32_t num_rows) {
  const core::PrefillShape slice = {num_rows,
                                    static_cast<uint32_t>(part_.first_pos) + first_row + num_rows};
  {
    const Timer timer(&call_.stats.search_ns);
    HIPATTN_RETURN_IF_ERROR(ScoreBlocks(first_row, slice));
    HIPATTN_RETURN_IF_ERROR(ParallelTasks(
        engine_, num_heads_, [&](size_t i) { return MakeMask(static_cast<uint32_t>(i), slice); }));
  }
  return AttendMasks(first_row, num_rows);
}

Status MaskedWave::ScoreBlocks(uint32_t first_row, const core::PrefillShape& slice) {
  device::Device& device = *engine_.device;
  Scratch<device::BlockScoreJob>& jobs = engine_.scratch.block_score_jobs;
  HIPATTN_RETURN_IF_ERROR(jobs.Grow(device, num_heads_));
  const uint32_t blocks = CeilDiv(slice.kv_len, device::kPoolTokens);
  uint32_t count = 0;
  for (uint32_t i = 0; i < num_heads_; ++i) {
    MaskedHead& head = Head(i);
    if (!IsBlocks(i) || head.dense) {
      continue;
    }
    HIPATTN_RETURN_IF_ERROR(head.scores.Grow(device, uint64_t{core::NumRowTiles(slice)} * blocks));
    jobs[count++] = {Q(i, first_row),
                     slice.kv_len - slice.q_len,
                     slice.q_len,
                     Head(i / group() * group()).means.data(),
                     blocks,
                     head.scores.data()};
  }
  if (count == 0) {
    return Status::Ok();
  }
  const device::BlockScoreParams params = {jobs.data(),
                                           count,
                                           call_.q_row_stride(),
                                           call_.options().head_dim,
                                           call_.options().softmax_scale,
                                           device::BlockScore::kPooled};
  return LaunchAndSync(engine_, device.ops().score_blocks, params);
}

Status MaskedWave::MakeMask(uint32_t i, const core::PrefillShape& slice) {
  MaskedHead& head = Head(i);
  if (head.dense) {
    return Status::Ok();
  }
  if (IsBlocks(i)) {
    const uint64_t scores =
        uint64_t{core::NumRowTiles(slice)} * CeilDiv(slice.kv_len, device::kPoolTokens);
    head.blocks = core::SelectBlocks(
        slice, {head.scores.data(), scores}, head.pattern.a, core::BlockMode::kForced, &head.top);
  }
  const std::unique_ptr<core::TileSource> source = SourceOf(i, slice);
  HIPATTN_ASSIGN_OR_RETURN(const core::MaskSize size, core::MeasureMask(*source));
  HIPATTN_RETURN_IF_ERROR(head.mask_memory.Grow(*engine_.device, size.bytes()));
  head.mask = core::FillMask(*source, size, head.mask_memory.data());
  return Status::Ok();
}

Status MaskedWave::AttendMasks(uint32_t first_row, uint32_t num_rows) {
  const EngineOptions& options = call_.options();
  Scratch<device::SparsePrefillJob>& jobs = engine_.scratch.sparse_prefill_jobs;
  HIPATTN_RETURN_IF_ERROR(jobs.Grow(*engine_.device, num_heads_));
  uint32_t count = 0;
  for (uint32_t i = 0; i < num_heads_; ++i) {
    const MaskedHead& head = Head(i);
    if (head.dense) {
      continue;
    }
    device::SparsePrefillJob job = {};
    job.slots = Slots(i);
    job.q = Q(i, first_row);
    job.out = Out(i, first_row);
    job.lse = Lse(i, first_row);
    job.first_pos = static_cast<uint32_t>(part_.first_pos) + first_row;
    job.num_rows = num_rows;
    job.num_heads = 1;
    job.mask = head.mask;
    job.columns = head.panel.data();
    jobs[count++] = job;
  }
  if (count == 0) {
    return Status::Ok();
  }
  const Timer timer(&call_.stats.attend_ns);
  const device::SparsePrefillParams params = {engine_.pool.view(),
                                              jobs.data(),
                                              count,
                                              call_.q_row_stride(),
                                              call_.q_row_stride(),
                                              options.num_q_heads,
                                              options.softmax_scale,
                                              options.logit_softcap,
                                              part_.sequence->options.prefill_skip_threshold,
                                              options.io()};
  return LaunchAndSync(engine_, engine_.device->ops().sparse_prefill, params);
}

}  // namespace

bool IsMasked(const Call& call, const Part& part) {
  return !part.decode && PrefillsMasked(part.sequence->options.prefill()) &&
         core::WhyDense(ShapeOf(part), call.args.layer, kPrefillDenseRules) ==
             core::DenseReason::kNone;
}

Status RunMasked(Call* call, const Part& part) {
  const EngineOptions& options = call->options();
  const uint32_t wave = std::max(1U, kWaveHeads / options.group());
  for (uint32_t first = 0; first < options.num_kv_heads; first += wave) {
    HIPATTN_RETURN_IF_ERROR(call->CheckCancelled());
    HIPATTN_RETURN_IF_ERROR(
        MaskedWave(call, part, first, std::min(wave, options.num_kv_heads - first)).Run());
  }
  return Status::Ok();
}

}  // namespace hipattn::engine
