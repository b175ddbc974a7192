// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "offload/block_mover.h"

#include <algorithm>
#include <cstring>
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
    transfer.staged_job = lane->thread.num_pushed();
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
  std::vector<Block> staged;
  uint64_t bytes = 0;
  for (const Block& block : blocks) {
    if (block.home == nullptr || block.staged) {
      staged.push_back(block);
      continue;
    }
    bytes += block_bytes_;
    AddPiece(way == Way::kHome ? block.home : block.slot,
             way == Way::kHome ? block.slot : block.home,
             block_bytes_,
             &pieces_);
  }
  if (!staged.empty()) {
    HIPATTN_RETURN_IF_ERROR(PushStagedJob(std::move(staged), way, transfer));
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

Status BlockMover::MakeStaging(Lane& lane) {
  if (lane.staging.data() == nullptr) {
    HIPATTN_ASSIGN_OR_RETURN(
        lane.staging,
        HostSlab::Take(device_, kStagingBlocks * block_bytes_, HostSlab::Pinning::kTried));
  }
  return Status::Ok();
}

Status BlockMover::MakeStaging() {
  HIPATTN_RETURN_IF_ERROR(MakeStaging(home_));
  return MakeStaging(back_);
}

Status BlockMover::PushStagedJob(std::vector<Block> blocks, Way way, Transfer* transfer) {
  Lane& used = lane(way);
  HIPATTN_RETURN_IF_ERROR(StreamOf(used).status());
  HIPATTN_RETURN_IF_ERROR(MakeStaging(used));
  HIPATTN_ASSIGN_OR_RETURN(
      transfer->staged_job,
      used.thread.Push([this, way, kept = std::move(blocks)] { return MoveStaged(kept, way); }));
  return Status::Ok();
}

Status BlockMover::BeginLowering(std::vector<DiskSource> blocks, Transfer* transfer) {
  *transfer = {};
  transfer->way = Way::kHome;
  HIPATTN_ASSIGN_OR_RETURN(
      transfer->staged_job,
      home_.thread.Push([this, kept = std::move(blocks)] { return disk_->Write(kept); }));
  return Status::Ok();
}

Status BlockMover::MoveStaged(std::span<const Block> blocks, Way way) {
  const Lane& used = lane(way);
  Half halves[2] = {{used.staging.data()}, {used.staging.data() + kHalfBlocks * block_bytes_}};
  Status moved = Status::Ok();
  size_t turn = 0;
  for (size_t done = 0; done < blocks.size() && moved.ok(); done += kHalfBlocks, turn = 1 - turn) {
    Half& half = halves[turn];
    // What was in this half has left it.
    moved = way == Way::kHome ? Arrive(&half) : device_->Sync(half.copied);
    half.blocks = blocks.subspan(done, std::min<size_t>(blocks.size() - done, kHalfBlocks));
    if (moved.ok()) {
      moved = way == Way::kHome ? Leave(used.stream, &half) : Fetch(used.stream, &half);
    }
  }
  // The older half first. After an error the copies still end before anybody hears of it.
  for (Half* half : {&halves[turn], &halves[1 - turn]}) {
    Status ended = way == Way::kHome && moved.ok() ? Arrive(half) : device_->Sync(half->copied);
    if (moved.ok()) {
      moved = std::move(ended);
    }
  }
  return moved;
}

// From their homes into the half, and off to their slots; and up, what rises.
Status BlockMover::Fetch(device::StreamId stream, Half* half) {
  std::vector<device::CopyPiece> pieces;
  std::vector<DiskTarget> targets;
  for (size_t i = 0; i < half->blocks.size(); ++i) {
    const Block& block = half->blocks[i];
    std::byte* const staged = half->data + i * block_bytes_;
    if (block.home != nullptr) {
      std::memcpy(staged, block.home, block_bytes_);
    } else {
      targets.push_back({block.extent, staged});
    }
    AddPiece(block.slot, staged, block_bytes_, &pieces);
  }
  if (!targets.empty()) {
    HIPATTN_RETURN_IF_ERROR(disk_->Read(targets));
  }
  HIPATTN_ASSIGN_OR_RETURN(half->copied, device_->Copy(stream, pieces));
  for (size_t i = 0; i < half->blocks.size(); ++i) {
    if (half->blocks[i].up != nullptr) {
      std::memcpy(half->blocks[i].up, half->data + i * block_bytes_, block_bytes_);
    }
  }
  return Status::Ok();
}

// From their slots off into the half.
Status BlockMover::Leave(device::StreamId stream, Half* half) {
  std::vector<device::CopyPiece> pieces;
  for (size_t i = 0; i < half->blocks.size(); ++i) {
    AddPiece(half->data + i * block_bytes_, half->blocks[i].slot, block_bytes_, &pieces);
  }
  HIPATTN_ASSIGN_OR_RETURN(half->copied, device_->Copy(stream, pieces));
  return Status::Ok();
}

// What left arrives at home.
Status BlockMover::Arrive(Half* half) {
  HIPATTN_RETURN_IF_ERROR(device_->Sync(half->copied));
  std::vector<DiskSource> sources;
  for (size_t i = 0; i < half->blocks.size(); ++i) {
    const Block& block = half->blocks[i];
    const std::byte* const staged = half->data + i * block_bytes_;
    if (block.home != nullptr) {
      std::memcpy(block.home, staged, block_bytes_);
    } else {
      sources.push_back({block.extent, staged});
    }
  }
  half->blocks = {};
  return sources.empty() ? Status::Ok() : disk_->Write(sources);
}

bool BlockMover::Done(const Transfer& transfer) {
  return device_->Done(transfer.copied) &&
         (transfer.staged_job == 0 || lane(transfer.way).thread.Done(transfer.staged_job));
}

Status BlockMover::Wait(Transfer* transfer) {
  Status moved = transfer->staged_job == 0 ? Status::Ok()
                                           : lane(transfer->way).thread.Wait(transfer->staged_job);
  Status copied = device_->Sync(transfer->copied);
  *transfer = {};
  return moved.ok() ? copied : moved;
}

}  // namespace hipattn::offload
