// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/mask/block_tiles.h"
#include "core/mask/line_tiles.h"
#include "core/pattern/flash_select.h"
#include "core/pattern/own_blocks.h"
#include "core/pattern/xattention_select.h"
#include "engine/block_ops.h"
#include "engine/masked_wave.h"
#include "engine/prefill_options.h"

#include <algorithm>
#include <cmath>

namespace hipattn::engine {
namespace {

// XAttention's rows and keys of a cell: the more accurate of its two, at 1 / 16 of dense attention.
constexpr uint32_t kStride = 8;

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

// What the pruned blocks of a mean correction cost: 64 of them are a tile.
uint64_t MeanTilesOf(const core::BlockRuns& pruned) {
  uint64_t tiles = 0;
  for (size_t tile = 0; tile + 1 < pruned.ptr.size(); ++tile) {
    uint32_t blocks = 0;
    for (uint32_t run = pruned.ptr[tile]; run < pruned.ptr[tile + 1]; ++run) {
      blocks += pruned.runs[run].end - pruned.runs[run].begin;
    }
    tiles += CeilDiv(blocks, kRowTile);
  }
  return tiles;
}

MaskKind KindOf(core::PatternType type) {
  return type == core::PatternType::kAShape          ? MaskKind::kEnds
         : type == core::PatternType::kVerticalSlash ? MaskKind::kLines
                                                     : MaskKind::kBlocks;
}

core::FlexOptions FlexOptionsOf(const AttentionOptions& options) {
  core::FlexOptions flex;
  flex.gamma = double{options.prefill_threshold};
  return flex;
}

core::FlexEstimate FlexEstimateOf(const MaskedHead& head, uint32_t kv_len, uint32_t probe_rows) {
  return {{head.vertical.data(), kv_len},
          {head.slash.data(), kv_len},
          probe_rows,
          {head.scores.data(), CeilDiv(kv_len, device::kPoolTokens)}};
}

// score_blocks divides a tile's sum by 64 rows whatever their number, which changes no ranking of
// block-sparse heads. FlexPrefill takes a softmax of the scores and wants the mean.
float MeanFactor(uint32_t rows) {
  return static_cast<float>(kRowTile) / static_cast<float>(rows);
}

}  // namespace

void MaskedWave::SetKind(uint32_t i) {
  MaskedHead& head = Head(i);
  std::copy_n(options().prefill_sizes, 2, head.sizes);
  switch (options().prefill()) {
    case PrefillMode::kAShape:
      head.kind = MaskKind::kEnds;
      return;
    case PrefillMode::kVerticalSlash:
      head.kind = MaskKind::kLines;
      return;
    case PrefillMode::kBlockSparse:
      head.kind = MaskKind::kBlocks;
      return;
    case PrefillMode::kFlex:
      head.kind = MaskKind::kFlex;
      return;
    case PrefillMode::kXAttention:
      head.kind = MaskKind::kXAttention;
      return;
    case PrefillMode::kFlashV2:
      head.kind = MaskKind::kFlash;
      return;
    default:
      break;
  }
  const uint32_t q_head = KvHead(i) * group() + i % group();
  const core::PatternEntry entry =
      engine_.patterns.Lookup(call_.args.layer, q_head, call_.options().first_q_head);
  const core::HeadPattern pattern = entry.Pattern();
  head.kind = KindOf(pattern.type);
  head.sizes[0] = pattern.a;
  head.sizes[1] = pattern.b;
}

bool MaskedWave::IsScored(uint32_t i, device::BlockScore score) const {
  if (Head(i).dense) {
    return false;
  }
  return score == device::BlockScore::kMass
             ? Is(i, MaskKind::kFlash)
             : Is(i, MaskKind::kBlocks) || (Is(i, MaskKind::kFlex) && Head(i).flex.query_aware);
}

// FlexPrefill's probe is its last query block.
uint32_t MaskedWave::ProbeRows() const {
  const uint32_t rows = options().prefill() == PrefillMode::kFlex ? core::FlexOptions{}.block_tokens
                                                                  : options().prefill_last_q;
  return std::min(rows, part_.num_rows);
}

// What the chunk's last rows weigh, of the heads that attend lines.
Status MaskedWave::EstimateLines() {
  device::Device& device = *engine_.device;
  const uint32_t rows = ProbeRows();
  Scratch<device::LinesJob>& jobs = engine_.scratch.lines_jobs;
  HIPATTN_RETURN_IF_ERROR(jobs.Grow(device, num_heads_));
  uint32_t count = 0;
  for (uint32_t i = 0; i < num_heads_; ++i) {
    if (!Is(i, MaskKind::kLines) && !Is(i, MaskKind::kFlex)) {
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
  const EngineOptions& engine_options = call_.options();
  const device::LinesParams params = {{},
                                      jobs.data(),
                                      count,
                                      call_.q_row_stride(),
                                      engine_options.softmax_scale,
                                      engine_options.logit_softcap};
  return RunOverBlocks(engine_, params);
}

// Means of the kv heads that have a head whose blocks are scored.
Status MaskedWave::PoolBlocks() {
  device::Device& device = *engine_.device;
  Scratch<device::PoolJob>& jobs = engine_.scratch.pool_jobs;
  HIPATTN_RETURN_IF_ERROR(jobs.Grow(device, num_heads_));
  const uint32_t blocks = CeilDiv(shape_.kv_len, device::kPoolTokens);
  const auto scores = [&](uint32_t i) {
    return Is(i, MaskKind::kFlex) || IsScored(i, device::BlockScore::kPooled) ||
           IsScored(i, device::BlockScore::kMass);
  };
  uint32_t count = 0;
  for (uint32_t first = 0; first < num_heads_; first += group()) {
    uint32_t i = first;
    while (i < first + group() && !scores(i)) {
      ++i;
    }
    if (i < first + group()) {
      HIPATTN_RETURN_IF_ERROR(Head(first).means.Grow(
          device, device::ColumnPanelElements(blocks, call_.options().head_dim)));
      jobs[count++] = {Slots(first), shape_.kv_len, 0, Head(first).means.data()};
    }
  }
  if (count == 0) {
    return Status::Ok();
  }
  const device::PoolParams params = {{}, jobs.data(), count};
  return RunOverBlocks(engine_, params);
}

// FlexPrefill's guess of what the probe rows weigh: their mean against the blocks' means.
Status MaskedWave::ScoreProbe() {
  device::Device& device = *engine_.device;
  const uint32_t rows = ProbeRows();
  const uint32_t blocks = CeilDiv(shape_.kv_len, device::kPoolTokens);
  Scratch<device::BlockScoreJob>& jobs = engine_.scratch.block_score_jobs;
  HIPATTN_RETURN_IF_ERROR(jobs.Grow(device, num_heads_));
  uint32_t count = 0;
  for (uint32_t i = 0; i < num_heads_; ++i) {
    if (!Is(i, MaskKind::kFlex)) {
      continue;
    }
    HIPATTN_RETURN_IF_ERROR(Head(i).scores.Grow(device, blocks));
    jobs[count++] = {Q(i, part_.num_rows - rows),
                     shape_.kv_len - rows,
                     rows,
                     Means(i),
                     blocks,
                     Head(i).scores.data()};
  }
  if (count == 0) {
    return Status::Ok();
  }
  const float per_row = MeanFactor(rows);
  const device::BlockScoreParams params = {jobs.data(),
                                           count,
                                           call_.q_row_stride(),
                                           call_.options().head_dim,
                                           call_.options().softmax_scale * per_row,
                                           device::BlockScore::kPooled};
  return LaunchAndSync(engine_, device.ops().score_blocks, params);
}

// Lines of the head, and whether its mask is worth it where lines or sizes alone decide that.
Status MaskedWave::Decide(uint32_t i) {
  MaskedHead& head = Head(i);
  head.dense = false;
  head.slice_dense = false;
  if (Is(i, MaskKind::kFlex)) {
    const core::FlexEstimate estimate = FlexEstimateOf(head, shape_.kv_len, ProbeRows());
    const core::FlexOptions flex = FlexOptionsOf(options());
    head.flex = core::PlanFlex(shape_, estimate, flex);
    head.flex_lines = core::PickFlexLines(estimate, head.flex, flex, &head.top);
  }
  if (ChoosesBySlice(i)) {
    return Status::Ok();
  }
  if (Is(i, MaskKind::kLines)) {
    core::SelectLines({head.vertical.data(), shape_.kv_len},
                      {head.slash.data(), shape_.kv_len},
                      {head.sizes[0], head.sizes[1]},
                      &head.top,
                      &head.lines);
  }
  if (Is(i, MaskKind::kBlocks)) {
    head.tiles = BlockTilesOf(shape_, head.sizes[0]);
  } else {
    HIPATTN_ASSIGN_OR_RETURN(const core::MaskSize size, core::MeasureMask(*SourceOf(i, shape_)));
    head.tiles = size.computed_tiles;
  }
  head.tiles += anchors_.Tiles(shape_);
  head.dense = core::WhyDense(shape_, call_.args.layer, head.tiles, kPrefillDenseRules) !=
               core::DenseReason::kNone;
  return Status::Ok();
}

// Keys and values of the verticals, once for all slices.
Status MaskedWave::PackColumns() {
  device::Device& device = *engine_.device;
  Scratch<device::PackJob>& jobs = engine_.scratch.pack_jobs;
  HIPATTN_RETURN_IF_ERROR(jobs.Grow(device, num_heads_));
  uint32_t count = 0;
  for (uint32_t i = 0; i < num_heads_; ++i) {
    MaskedHead& head = Head(i);
    if (!Is(i, MaskKind::kLines) || head.dense) {
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
  const device::PackParams params = {{}, jobs.data(), count};
  return RunOverBlocks(engine_, params);
}

Status MaskedWave::ScoreBlocks(const Slice& slice, device::BlockScore score) {
  device::Device& device = *engine_.device;
  Scratch<device::BlockScoreJob>& jobs = engine_.scratch.block_score_jobs;
  HIPATTN_RETURN_IF_ERROR(jobs.Grow(device, num_heads_));
  const uint32_t blocks = CeilDiv(slice.shape.kv_len, device::kPoolTokens);
  uint32_t count = 0;
  for (uint32_t i = 0; i < num_heads_; ++i) {
    if (!IsScored(i, score)) {
      continue;
    }
    Scratch<float>& scores = Head(i).scores;
    HIPATTN_RETURN_IF_ERROR(scores.Grow(device, uint64_t{core::NumRowTiles(slice.shape)} * blocks));
    jobs[count++] = {Q(i, slice.first_row),
                     slice.shape.kv_len - slice.shape.q_len,
                     slice.shape.q_len,
                     Means(i),
                     blocks,
                     scores.data()};
  }
  if (count == 0) {
    return Status::Ok();
  }
  const device::BlockScoreParams params = {jobs.data(),
                                           count,
                                           call_.q_row_stride(),
                                           call_.options().head_dim,
                                           call_.options().softmax_scale,
                                           score};
  return LaunchAndSync(engine_, device.ops().score_blocks, params);
}

Status MaskedWave::ScoreAntidiagonals(const Slice& slice) {
  device::Device& device = *engine_.device;
  Scratch<device::AntidiagonalJob>& jobs = engine_.scratch.antidiagonal_jobs;
  HIPATTN_RETURN_IF_ERROR(jobs.Grow(device, num_heads_));
  const uint64_t num_scores = uint64_t{core::NumQueryBlocks(slice.shape, core::kXAttentionBlock)} *
                              core::NumKeyBlocks(slice.shape, core::kXAttentionBlock);
  const uint64_t workspace = device::AntidiagonalWorkspaceFloats(
      slice.shape.kv_len, slice.shape.q_len, kStride, call_.options().head_dim);
  uint32_t count = 0;
  for (uint32_t i = 0; i < num_heads_; ++i) {
    if (!Is(i, MaskKind::kXAttention)) {
      continue;
    }
    HIPATTN_RETURN_IF_ERROR(Head(i).scores.Grow(device, num_scores));
    HIPATTN_RETURN_IF_ERROR(Head(i).workspace.Grow(device, workspace));
    jobs[count++] = {Slots(i),
                     Q(i, slice.first_row),
                     slice.shape.kv_len - slice.shape.q_len,
                     slice.shape.q_len,
                     Head(i).scores.data(),
                     Head(i).workspace.data()};
  }
  if (count == 0) {
    return Status::Ok();
  }
  const device::AntidiagonalParams params = {
      {}, jobs.data(), count, call_.q_row_stride(), kStride, call_.options().softmax_scale};
  return RunOverBlocks(engine_, params);
}

void MaskedWave::ChooseBlocks(uint32_t i, const Slice& slice) {
  MaskedHead& head = Head(i);
  const uint64_t num_scores =
      uint64_t{core::NumRowTiles(slice.shape)} * CeilDiv(slice.shape.kv_len, device::kPoolTokens);
  if (Is(i, MaskKind::kBlocks)) {
    head.blocks = core::SelectBlocks(slice.shape,
                                     {head.scores.data(), num_scores},
                                     head.sizes[0],
                                     core::BlockMode::kForced,
                                     &head.top);
  } else if (Is(i, MaskKind::kFlex)) {
    const std::span<float> scores(head.scores.data(), head.flex.query_aware ? num_scores : 0);
    const uint32_t last_rows = slice.shape.q_len % kRowTile;
    if (last_rows != 0 && !scores.empty()) {
      const std::span<float> last = scores.last(CeilDiv(slice.shape.kv_len, device::kPoolTokens));
      std::transform(last.begin(), last.end(), last.begin(), [=](float score) {
        return score * MeanFactor(last_rows);
      });
    }
    head.blocks =
        core::SelectFlex(slice.shape, head.flex_lines, scores, FlexOptionsOf(options()), &head.top);
  } else if (Is(i, MaskKind::kXAttention)) {
    const uint64_t num_masses =
        uint64_t{core::NumQueryBlocks(slice.shape, core::kXAttentionBlock)} *
        core::NumKeyBlocks(slice.shape, core::kXAttentionBlock);
    head.blocks = core::SelectXAttention(slice.shape,
                                         {head.scores.data(), num_masses},
                                         double{options().prefill_threshold},
                                         &head.top);
  } else if (Is(i, MaskKind::kFlash)) {
    core::FlashOptions flash;
    flash.alpha = double{options().prefill_threshold};
    // The tiles that keep everything are the chunk's last.
    const uint32_t behind = CeilDiv(part_.num_rows - slice.first_row - slice.shape.q_len, kRowTile);
    flash.dense_tiles -= std::min(flash.dense_tiles, behind);
    head.blocks = core::SelectFlash(slice.shape, {head.scores.data(), num_scores}, flash);
  }
}

// The blocks that count as their means, beside those that are kept.
Status MaskedWave::KeepPruned(uint32_t i, const Slice& slice) {
  MaskedHead& head = Head(i);
  const core::BlockRuns pruned = core::PrunedRuns(slice.shape, head.blocks);
  HIPATTN_RETURN_IF_ERROR(head.pruned_ptr.Grow(*engine_.device, pruned.ptr.size()));
  HIPATTN_RETURN_IF_ERROR(head.pruned.Grow(*engine_.device, pruned.runs.size()));
  std::copy(pruned.ptr.begin(), pruned.ptr.end(), head.pruned_ptr.data());
  std::copy(pruned.runs.begin(), pruned.runs.end(), head.pruned.data());
  head.tiles += MeanTilesOf(pruned);
  return Status::Ok();
}

std::unique_ptr<core::TileSource> MaskedWave::SourceOf(uint32_t i,
                                                       const core::PrefillShape& shape) const {
  MaskedHead& head = Head(i);
  if (Is(i, MaskKind::kEnds)) {
    return std::make_unique<core::BlockTiles>(
        shape, core::MaskEnds{head.sizes[0], head.sizes[1]}, nullptr);
  }
  if (Is(i, MaskKind::kLines)) {
    return std::make_unique<core::LineTiles>(shape, head.lines.verticals, head.lines.slashes);
  }
  return std::make_unique<core::BlockTiles>(shape, core::MaskEnds{}, &head.blocks);
}

Status MaskedWave::MakeMask(uint32_t i, const Slice& slice) {
  MaskedHead& head = Head(i);
  if (head.dense) {
    return Status::Ok();
  }
  ChooseBlocks(i, slice);
  const std::unique_ptr<core::TileSource> source = SourceOf(i, slice.shape);
  HIPATTN_ASSIGN_OR_RETURN(const core::MaskSize size, core::MeasureMask(*source));
  if (ChoosesBySlice(i)) {
    head.tiles = size.computed_tiles + anchors_.Tiles(slice.shape);
    if (Is(i, MaskKind::kFlash)) {
      HIPATTN_RETURN_IF_ERROR(KeepPruned(i, slice));
    }
    head.slice_dense =
        core::WhyDense(slice.shape, call_.args.layer, head.tiles, kPrefillDenseRules) !=
        core::DenseReason::kNone;
  }
  HIPATTN_RETURN_IF_ERROR(head.mask_memory.Grow(*engine_.device, size.bytes()));
  head.mask = core::FillMask(*source, size, head.mask_memory.data());
  return Status::Ok();
}

}  // namespace hipattn::engine
