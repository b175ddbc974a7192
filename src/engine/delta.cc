// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "engine/delta.h"

#include "core/mask/anchors.h"
#include "engine/lists.h"

#include <algorithm>
#include <vector>

namespace hipattn::engine {
namespace {

// Anchors whose dense rows are in memory at once: a thousand jobs where a model has 32 kv heads.
constexpr uint32_t kPieceAnchors = 32;

// Neighbouring rows with few anchors.
struct Piece {
  core::RowRange rows;            // of the part
  std::vector<uint32_t> anchors;  // counted from the piece's first row
};

std::vector<Piece> CutPieces(const Part& part, const core::RowRange& rows) {
  const auto begin = static_cast<uint32_t>(part.first_pos);
  const core::Anchors anchors(begin, part.options.prefill_delta_interval);
  std::vector<Piece> pieces = {{rows, {}}};
  for (uint64_t pos = anchors.Next(begin + rows.begin); pos < begin + rows.end;
       pos = anchors.Next(static_cast<uint32_t>(pos) + 1)) {
    const uint32_t row = static_cast<uint32_t>(pos) - begin;
    if (pieces.back().anchors.size() == kPieceAnchors) {
      pieces.back().rows.end = row;
      pieces.push_back({{row, rows.end}, {}});
    }
    pieces.back().anchors.push_back(row - pieces.back().rows.begin);
  }
  return pieces;
}

class PieceCorrection {
 public:
  PieceCorrection(Call* call,
                  const Part& part,
                  const Piece& piece,
                  std::span<const DeltaHead> heads)
      : call_(*call), engine_(call->engine), part_(part), piece_(piece), heads_(heads) {}

  Status Run() {
    HIPATTN_RETURN_IF_ERROR(AttendAnchors());
    return Apply();
  }

 private:
  uint32_t group() const { return call_.options().group(); }
  uint32_t head_dim() const { return call_.options().head_dim; }
  size_t num_anchors() const { return piece_.anchors.size(); }

  // Dense attention of the anchors, for whole groups -> anchor_out[kv head][anchor][group][dim].
  Status AttendAnchors() {
    device::Device& device = *engine_.device;
    AttendScratch& scratch = engine_.scratch;
    const size_t most = num_anchors() * heads_.size();
    HIPATTN_RETURN_IF_ERROR(scratch.decode_jobs.Grow(device, most));
    HIPATTN_RETURN_IF_ERROR(scratch.anchor_out.Grow(device, most * group() * head_dim()));
    uint32_t count = 0;
    for (size_t i = 0; i < heads_.size(); ++i) {
      const uint32_t kv_head = heads_[i].q_head / group();
      if (i > 0 && heads_[i - 1].q_head / group() == kv_head) {
        continue;
      }
      for (const uint32_t anchor : piece_.anchors) {
        const uint64_t row = piece_.rows.begin + anchor;
        const auto tokens = static_cast<uint32_t>(part_.first_pos + row + 1);
        scratch.decode_jobs[count] = {
            nullptr,
            part_.layer->heads[kv_head].store.slots(),
            CeilDiv(tokens, call_.options().block_tokens),
            tokens,
            call_.Q(part_.first_row + row, kv_head),
            scratch.anchor_out.data() + size_t{count} * group() * head_dim(),
            nullptr};
        ++count;
      }
    }
    return RunDecodeJobs(engine_, count, DType::kF32);
  }

  Status Apply() {
    AttendScratch& scratch = engine_.scratch;
    HIPATTN_RETURN_IF_ERROR(scratch.delta_jobs.Grow(*engine_.device, heads_.size()));
    HIPATTN_RETURN_IF_ERROR(scratch.anchor_rows.Grow(*engine_.device, num_anchors()));
    std::copy(piece_.anchors.begin(), piece_.anchors.end(), scratch.anchor_rows.data());
    const size_t row_floats = size_t{group()} * head_dim();
    size_t kv_heads_before = 0;
    for (size_t i = 0; i < heads_.size(); ++i) {
      const uint32_t kv_head = heads_[i].q_head / group();
      const uint32_t in_group = heads_[i].q_head % group();
      if (i > 0 && heads_[i - 1].q_head / group() != kv_head) {
        ++kv_heads_before;
      }
      scratch.delta_jobs[i] = {scratch.anchor_out.data() +
                                   kv_heads_before * num_anchors() * row_floats +
                                   size_t{in_group} * head_dim(),
                               call_.Out(part_.first_row + piece_.rows.begin, kv_head) +
                                   size_t{in_group} * head_dim() * DTypeBytes(call_.options().io()),
                               heads_[i].delta};
    }
    const device::DeltaParams params = {scratch.delta_jobs.data(),
                                        static_cast<uint32_t>(heads_.size()),
                                        scratch.anchor_rows.data(),
                                        static_cast<uint32_t>(num_anchors()),
                                        piece_.rows.end - piece_.rows.begin,
                                        head_dim(),
                                        row_floats,
                                        call_.q_row_stride(),
                                        call_.options().io()};
    return LaunchAndSync(engine_, engine_.device->ops().apply_deltas, params);
  }

  Call& call_;
  EngineState& engine_;
  const Part& part_;
  const Piece& piece_;
  const std::span<const DeltaHead> heads_;
};

}  // namespace

Status CorrectRows(Call* call,
                   const Part& part,
                   const core::RowRange& rows,
                   std::span<const DeltaHead> heads) {
  if (part.options.prefill_delta_interval == 0 || heads.empty()) {
    return Status::Ok();
  }
  const Timer timer(&call->stats.attend_ns);
  for (const Piece& piece : CutPieces(part, rows)) {
    HIPATTN_RETURN_IF_ERROR(call->CheckCancelled());
    HIPATTN_RETURN_IF_ERROR(PieceCorrection(call, part, piece, heads).Run());
  }
  return Status::Ok();
}

}  // namespace hipattn::engine
