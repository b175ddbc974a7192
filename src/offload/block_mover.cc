// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "offload/block_mover.h"

#include "base/bad_alloc.h"

#include <algorithm>
#include <cstring>
#include <memory>
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

BlockMover::BlockMover(device::Device* device, DiskStore* disk, uint64_t block_bytes, Trace* trace)
    : device_(device),
      disk_(disk),
      block_bytes_(block_bytes),
      beside_bytes_(device->capabilities().runs_in_place ? kInPlaceBytes : 0),
      trace_(trace) {
  if (trace_ != nullptr) {
    copies_track_ = trace_->AddTrack("stream 0: copies of blocks");
    back_.stream_track = trace_->AddTrack("stream of fetches");
    home_.stream_track = trace_->AddTrack("stream of write-backs");
    back_.thread_track = trace_->AddTrack("thread of staged fetches");
    home_.thread_track = trace_->AddTrack("thread of staged write-backs");
  }
}

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
    HIPATTN_ASSIGN_OR_RETURN(transfer->copied, Copy(stream, pieces_, way, bytes / block_bytes_));
  }
  return Status::Ok();
}

Trace::Track BlockMover::TrackOf(device::StreamId stream, Way way) const {
  if (stream != 0) {
    return way == Way::kHome ? home_.stream_track : back_.stream_track;
  }
  return device_->capabilities().runs_in_place ? Trace::kThisThread : copies_track_;
}

// A trace that the device does not tell goes without: what is wrong comes with the copy.
Result<device::Ticket> BlockMover::Copy(device::StreamId stream,
                                        std::span<const device::CopyPiece> pieces,
                                        Way way,
                                        uint64_t num_blocks) {
  if (trace_ == nullptr) {
    return device_->Copy(stream, pieces);
  }
  // The caller and the way's thread use one stream: their copies lie one behind the other on its
  // track when nothing comes between a copy and its two times.
  std::unique_lock<std::mutex> lock(lane(way).traced, std::defer_lock);
  if (stream != 0) {
    lock.lock();
  }
  const auto begin_ns = std::make_shared<int64_t>(0);
  const device::Device::Told told = [trace = trace_,
                                     begin_ns,
                                     track = TrackOf(stream, way),
                                     name = way == Way::kHome ? "write back" : "fetch",
                                     num_blocks,
                                     bytes = num_blocks * block_bytes_](int64_t end_ns) {
    const Trace::Arg args[] = {{"blocks", num_blocks}, {"bytes", bytes}};
    trace->Add(track, name, *begin_ns, end_ns, args);
  };
  const Status begun = device_->Tell(stream, [begin_ns](int64_t now_ns) { *begin_ns = now_ns; });
  Result<device::Ticket> copied = device_->Copy(stream, pieces);
  if (begun.ok() && copied.ok()) {
    static_cast<void>(CatchBadAlloc([&] { return device_->Tell(stream, told); }));
  }
  return copied;
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
      home_.thread.Push([this, kept = std::move(blocks)] { return WriteDisk(home_, kept); }));
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
    moved = way == Way::kHome ? Arrive(used, &half) : device_->Sync(half.copied);
    half.blocks = blocks.subspan(done, std::min<size_t>(blocks.size() - done, kHalfBlocks));
    if (moved.ok()) {
      moved = way == Way::kHome ? Leave(used, &half) : Fetch(used, &half);
    }
  }
  // The older half first. After an error the copies still end before anybody hears of it.
  for (Half* half : {&halves[turn], &halves[1 - turn]}) {
    Status ended =
        way == Way::kHome && moved.ok() ? Arrive(used, half) : device_->Sync(half->copied);
    if (moved.ok()) {
      moved = std::move(ended);
    }
  }
  return moved;
}

// From their homes into the half, and off to their slots; and up, what rises.
Status BlockMover::Fetch(const Lane& used, Half* half) {
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
    HIPATTN_RETURN_IF_ERROR(ReadDisk(used, targets));
  }
  HIPATTN_ASSIGN_OR_RETURN(half->copied,
                           Copy(used.stream, pieces, Way::kBack, half->blocks.size()));
  for (size_t i = 0; i < half->blocks.size(); ++i) {
    if (half->blocks[i].up != nullptr) {
      std::memcpy(half->blocks[i].up, half->data + i * block_bytes_, block_bytes_);
    }
  }
  return Status::Ok();
}

// From their slots off into the half.
Status BlockMover::Leave(const Lane& used, Half* half) {
  std::vector<device::CopyPiece> pieces;
  for (size_t i = 0; i < half->blocks.size(); ++i) {
    AddPiece(half->data + i * block_bytes_, half->blocks[i].slot, block_bytes_, &pieces);
  }
  HIPATTN_ASSIGN_OR_RETURN(half->copied,
                           Copy(used.stream, pieces, Way::kHome, half->blocks.size()));
  return Status::Ok();
}

// What left arrives at home.
Status BlockMover::Arrive(const Lane& used, Half* half) {
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
  return sources.empty() ? Status::Ok() : WriteDisk(used, sources);
}

Status BlockMover::ReadDisk(const Lane& used, std::span<const DiskTarget> targets) {
  TraceSpan span(trace_, "read from disk", used.thread_track);
  span.Set("blocks", targets.size());
  span.Set("bytes", targets.size() * block_bytes_);
  return disk_->Read(targets);
}

Status BlockMover::WriteDisk(const Lane& used, std::span<const DiskSource> sources) {
  TraceSpan span(trace_, "write to disk", used.thread_track);
  span.Set("blocks", sources.size());
  span.Set("bytes", sources.size() * block_bytes_);
  return disk_->Write(sources);
}

bool BlockMover::Done(const Transfer& transfer) {
  return device_->Done(transfer.copied) &&
         (transfer.staged_job == 0 || lane(transfer.way).thread.Done(transfer.staged_job));
}

Status BlockMover::Wait(Transfer* transfer) {
  const TraceSpan span(trace_ == nullptr || Done(*transfer) ? nullptr : trace_,
                       transfer->way == Way::kHome ? "wait for write-back" : "wait for fetch");
  Status moved = transfer->staged_job == 0 ? Status::Ok()
                                           : lane(transfer->way).thread.Wait(transfer->staged_job);
  Status copied = device_->Sync(transfer->copied);
  *transfer = {};
  return moved.ok() ? copied : moved;
}

}  // namespace hipattn::offload
