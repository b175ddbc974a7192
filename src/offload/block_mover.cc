// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "offload/block_mover.h"

#include <algorithm>
#include <utility>

namespace hipattn::offload {
namespace {

// Where stream 0 is the caller's thread, another stream is another thread, and waking it takes as
// long as copying about this much.
constexpr uint64_t kInPlaceBytes = uint64_t{128} << 10;

// Appends a copy to a list; neighbours of a tier that go to neighbours become one piece.
void AddPiece(std::byte* dst,
              const std::byte* src,
              size_t bytes,
              std::vector<device::CopyPiece>* pieces) {
  if (!pieces->empty()) {
    device::CopyPiece& last = pieces->back();
    if (static_cast<std::byte*>(last.dst) + last.bytes == dst &&
        static_cast<const std::byte*>(last.src) + last.bytes == src) {
      last.bytes += bytes;
      return;
    }
  }
  pieces->push_back({dst, src, bytes});
}

}  // namespace

BlockMover::BlockMover(device::Device* device, DiskStore* disk, uint64_t block_bytes)
    : device_(device),
      disk_(disk),
      block_bytes_(block_bytes),
      beside_bytes_(device->capabilities().runs_in_place ? kInPlaceBytes : 0) {}

// The threads end first: their jobs copy on the streams, too. An error has nobody left to tell.
BlockMover::~BlockMover() {
  for (Lane* lane : {&home_, &back_}) {
    Transfer transfer;
    transfer.way = lane == &home_ ? Way::kHome : Way::kBack;
    transfer.disk_job = lane->thread.num_pushed();
    static_cast<void>(Wait(&transfer));
  }
  static_cast<void>(device_->Sync(device_->Everything()));
}

Result<device::StreamId> BlockMover::StreamOf(Lane& lane) {
  if (!lane.has_stream) {
    HIPATTN_ASSIGN_OR_RETURN(lane.stream, device_->CreateStream(0));
    lane.has_stream = true;
  }
  return lane.stream;
}

Status BlockMover::Begin(std::span<const Block> blocks, Way way, Pace pace, Transfer* transfer) {
  *transfer = {};
  transfer->way = way;
  pieces_.clear();
  std::vector<Block> on_disk;
  uint64_t bytes = 0;
  for (const Block& block : blocks) {
    if (block.home == nullptr) {
      on_disk.push_back(block);
      continue;
    }
    bytes += block_bytes_;
    AddPiece(way == Way::kHome ? block.home : block.slot,
             way == Way::kHome ? block.slot : block.home,
             block_bytes_,
             &pieces_);
  }
  if (!on_disk.empty()) {
    HIPATTN_RETURN_IF_ERROR(PushDiskJob(std::move(on_disk), way, transfer));
  }
  if (!pieces_.empty()) {
    device::StreamId stream = 0;
    if (pace == Pace::kBeside && bytes >= beside_bytes_) {
      HIPATTN_ASSIGN_OR_RETURN(stream, StreamOf(lane(way)));
    }
    HIPATTN_ASSIGN_OR_RETURN(transfer->copied, device_->Copy(stream, pieces_));
  }
  return Status::Ok();
}

Status BlockMover::PushDiskJob(std::vector<Block> blocks, Way way, Transfer* transfer) {
  Lane& used = lane(way);
  HIPATTN_RETURN_IF_ERROR(StreamOf(used).status());
  if (used.staging.data() == nullptr) {
    HIPATTN_ASSIGN_OR_RETURN(
        used.staging,
        device_->Allocate(device::MemoryKind::kPinned, kStagingBlocks * block_bytes_));
  }
  HIPATTN_ASSIGN_OR_RETURN(
      transfer->disk_job,
      used.thread.Push([this, way, kept = std::move(blocks)] { return MoveOnDisk(kept, way); }));
  return Status::Ok();
}

// On the way's thread.
Status BlockMover::MoveOnDisk(std::span<const Block> blocks, Way way) {
  const Lane& used = lane(way);
  std::vector<device::CopyPiece> pieces;
  std::vector<DiskSource> sources;
  std::vector<DiskTarget> targets;
  for (size_t done = 0; done < blocks.size(); done += kStagingBlocks) {
    pieces.clear();
    sources.clear();
    targets.clear();
    for (size_t i = done; i < std::min<size_t>(blocks.size(), done + kStagingBlocks); ++i) {
      std::byte* staged = used.staging.data() + (i - done) * block_bytes_;
      if (way == Way::kHome) {
        sources.push_back({blocks[i].extent, staged});
        AddPiece(staged, blocks[i].slot, block_bytes_, &pieces);
      } else {
        targets.push_back({blocks[i].extent, staged});
        AddPiece(blocks[i].slot, staged, block_bytes_, &pieces);
      }
    }
    HIPATTN_RETURN_IF_ERROR(disk_->Read(targets));
    HIPATTN_ASSIGN_OR_RETURN(const device::Ticket copied, device_->Copy(used.stream, pieces));
    HIPATTN_RETURN_IF_ERROR(device_->Sync(copied));
    HIPATTN_RETURN_IF_ERROR(disk_->Write(sources));
  }
  return Status::Ok();
}

bool BlockMover::Done(const Transfer& transfer) {
  return device_->Done(transfer.copied) &&
         (transfer.disk_job == 0 || lane(transfer.way).thread.Done(transfer.disk_job));
}

Status BlockMover::Wait(Transfer* transfer) {
  Status moved =
      transfer->disk_job == 0 ? Status::Ok() : lane(transfer->way).thread.Wait(transfer->disk_job);
  Status copied = device_->Sync(transfer->copied);
  *transfer = {};
  return moved.ok() ? copied : moved;
}

}  // namespace hipattn::offload
