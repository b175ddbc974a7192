// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "engine/sketch_copies.h"

#include "base/int_math.h"

#include <algorithm>

namespace hipattn::engine {

bool SketchCopies::DropAll() {
  if (making_ || held_.empty()) {
    return false;
  }
  while (!held_.empty()) {
    held_.back()->Drop();
  }
  return true;
}

bool SketchCopies::Fits(uint64_t bytes) const {
  const uint64_t index_bytes = memory_.bytes() - bytes_;
  const uint64_t others = index_bytes + cache_->promised_bytes();
  return others < budget_.limit() && bytes_ + bytes <= (budget_.limit() - others) / 2;
}

Status SketchCopy::Bring(SketchCopies* copies, const Source& source) {
  if (source.blocks <= blocks_) {
    return Status::Ok();
  }
  if (copies_ == nullptr) {
    copies->held_.push_back(this);
    copies_ = copies;
  }
  copies->making_ = true;
  Status made = CatchBadAlloc([&] { return MakeRoom(source); });
  copies->making_ = false;
  if (made.code() == StatusCode::kOutOfBudget || made.code() == StatusCode::kOutOfMemory) {
    Drop();
    return Status::Ok();
  }
  HIPATTN_RETURN_IF_ERROR(made);
  return CopyMissing(source);
}

Status SketchCopy::MakeRoom(const Source& source) {
  const uint64_t chunk_bytes = source.sketch_bytes << kChunkLog2;
  const uint64_t chunks =
      CeilDiv(source.blocks * source.sketches_per_block, uint64_t{1} << kChunkLog2);
  if (chunks <= chunks_.size()) {
    return Status::Ok();
  }
  if (!copies_->Fits((chunks - chunks_.size()) * chunk_bytes)) {
    return OutOfBudget("no room for copies of sketches");
  }
  chunks_.reserve(chunks);
  HIPATTN_RETURN_IF_ERROR(pointers_.Reserve(copies_->memory_, chunks));
  while (chunks_.size() < chunks) {
    HIPATTN_ASSIGN_OR_RETURN(ChargedBuffer chunk,
                             copies_->memory_.Allocate(device::MemoryKind::kDevice, chunk_bytes));
    pointers_.Append(chunk.buffer().data());
    chunks_.push_back(std::move(chunk));
    bytes_ += chunk_bytes;
    copies_->bytes_ += chunk_bytes;
  }
  return Status::Ok();
}

Status SketchCopy::CopyMissing(const Source& source) {
  std::vector<device::CopyPiece> pieces;
  const uint64_t end = source.blocks * source.sketches_per_block;
  uint64_t at = blocks_ * source.sketches_per_block;
  while (at < end) {
    // As far as both lie in one chunk.
    const uint64_t source_chunk = uint64_t{1} << source.table.chunk_sketches_log2;
    const uint64_t count =
        std::min({end - at,
                  source_chunk - at % source_chunk,
                  (uint64_t{1} << kChunkLog2) - at % (uint64_t{1} << kChunkLog2)});
    pieces.push_back(
        {chunks_[at >> kChunkLog2].buffer().data() +
             at % (uint64_t{1} << kChunkLog2) * source.sketch_bytes,
         device::SketchAddress(source.table, source.sketch_bytes, static_cast<uint32_t>(at)),
         count * source.sketch_bytes});
    at += count;
  }
  device::Device& device = copies_->memory_.device();
  HIPATTN_ASSIGN_OR_RETURN(const device::Ticket copied, device.Copy(0, pieces));
  HIPATTN_RETURN_IF_ERROR(device.Sync(copied));
  blocks_ = source.blocks;
  return Status::Ok();
}

void SketchCopy::Drop() {
  if (copies_ == nullptr) {
    return;
  }
  std::erase(copies_->held_, this);
  copies_->bytes_ -= bytes_;
  copies_ = nullptr;
  chunks_.clear();
  pointers_ = {};
  blocks_ = 0;
  bytes_ = 0;
}

}  // namespace hipattn::engine
