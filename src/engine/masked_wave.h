// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// A few q heads of one part's rows while they attend masks: masked_choice.cc says what each head
// attends, masked_prefill.cc runs it.
//
// What a head's lines or sizes decide is decided once for the chunk: whether it is dense, and its
// columns. FlexPrefill, XAttention and FlashPrefill choose slice by slice, and so decide slice by
// slice whether their mask is worth it.
#ifndef HIPATTN_ENGINE_MASKED_WAVE_H_
#define HIPATTN_ENGINE_MASKED_WAVE_H_

#include "core/mask/anchors.h"
#include "core/mask/prefill_shape.h"
#include "core/mask/tile_source.h"
#include "engine/call.h"

#include <cstdint>
#include <memory>

namespace hipattn::engine {

class MaskedWave {
 public:
  // The q heads of num_kv_heads kv heads. The call and the part outlive it.
  MaskedWave(Call* call, const Part& part, uint32_t first_kv_head, uint32_t num_kv_heads)
      : call_(*call),
        engine_(call->engine),
        part_(part),
        shape_(ShapeOf(part)),
        anchors_(static_cast<uint32_t>(part.first_pos), part.options.prefill_delta_interval),
        first_kv_head_(first_kv_head),
        num_heads_(num_kv_heads * call->options().group()) {}

  Status Run();

 private:
  // Rows of the chunk, and what they see.
  struct Slice {
    uint32_t first_row = 0;
    core::PrefillShape shape;
  };

  uint32_t group() const { return call_.options().group(); }
  const AttentionOptions& options() const { return part_.options; }
  uint32_t KvHead(uint32_t i) const { return first_kv_head_ + i / group(); }
  MaskedHead& Head(uint32_t i) const { return engine_.scratch.masked_heads[i]; }
  const uint32_t* Slots(uint32_t i) const { return part_.layer->heads[KvHead(i)].store.slots(); }
  // Means of the head's kv head.
  const float* Means(uint32_t i) const { return Head(i / group() * group()).means.data(); }
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
  bool Is(uint32_t i, MaskKind kind) const { return Head(i).kind == kind; }
  bool ChoosesBySlice(uint32_t i) const {
    return Is(i, MaskKind::kFlex) || Is(i, MaskKind::kXAttention) || Is(i, MaskKind::kFlash);
  }
  // Whether the head's blocks are scored for every slice, and how.
  bool IsScored(uint32_t i, device::BlockScore score) const;

  // masked_choice.cc: for the chunk
  void SetKind(uint32_t i);
  uint32_t ProbeRows() const;
  Status EstimateLines();
  Status PoolBlocks();
  Status ScoreProbe();
  Status Decide(uint32_t i);
  Status PackColumns();
  // for a slice
  Status ScoreBlocks(const Slice& slice, device::BlockScore score);
  Status ScoreAntidiagonals(const Slice& slice);
  Status MakeMask(uint32_t i, const Slice& slice);
  void ChooseBlocks(uint32_t i, const Slice& slice);
  Status KeepPruned(uint32_t i, const Slice& slice);
  // What head i attends of a chunk, or of a slice of it.
  std::unique_ptr<core::TileSource> SourceOf(uint32_t i, const core::PrefillShape& shape) const;

  // masked_prefill.cc
  Status Choose();
  Status RunSlice(const Slice& slice);
  // The heads that are dense: for the chunk, or for this slice alone.
  Status AttendDense(const Slice& slice, bool whole_chunk);
  Status AttendMasks(const Slice& slice);
  // Delta correction of the heads that attended a mask.
  Status Correct(const Slice& slice);
  // Keeps the lse of each row tile's last row; lse[row * stride] is that of the slice's row.
  void SampleLse(uint32_t i, const Slice& slice, const float* lse, uint64_t stride);

  Call& call_;
  EngineState& engine_;
  const Part& part_;
  const core::PrefillShape shape_;
  const core::Anchors anchors_;
  const uint32_t first_kv_head_;
  const uint32_t num_heads_;
};

}  // namespace hipattn::engine

#endif  // HIPATTN_ENGINE_MASKED_WAVE_H_
