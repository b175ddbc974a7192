// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// BlockMover: moves blocks between device slots and their homes in host memory and on disk, beside
// the ops where that pays. Fetches and write-backs have a stream each; what lies on disk, or in
// host memory that is not pinned, passes pinned staging memory on a thread per way, so that neither
// the caller nor the executor waits for it. One half of that memory travels while the other is
// filled or emptied.
#ifndef HIPATTN_OFFLOAD_BLOCK_MOVER_H_
#define HIPATTN_OFFLOAD_BLOCK_MOVER_H_

#include "base/result.h"
#include "device/device.h"
#include "offload/disk_store.h"
#include "offload/host_slab.h"
#include "offload/job_thread.h"
#include "offload/trace.h"

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

namespace hipattn::offload {

// One thread at a time.
class BlockMover {
 public:
  enum class Way : uint8_t { kHome, kBack };
  // kAtOnce: the caller has nothing to do until the blocks are there. kBeside: it has.
  enum class Pace : uint8_t { kAtOnce, kBeside };

  struct Block {
    std::byte* slot;
    std::byte* home;  // nullptr: `extent` on disk
    uint32_t extent;
    bool staged = false;      // home is not pinned
    std::byte* up = nullptr;  // host memory that is given it, too, on its way back from disk
  };

  // What Begin began. Nothing may touch the slots and homes but to read what is moved until Wait
  // has returned, or Done said true.
  struct Transfer {
    Way way = Way::kBack;
    device::Ticket copied = {};  // of the blocks in pinned memory
    uint64_t staged_job = 0;     // of the others; 0: none
  };

  // Of the staging memory of both ways.
  static constexpr uint64_t StagingBytes(uint64_t block_bytes) {
    return 2 * kStagingBlocks * block_bytes;
  }

  // All outlive it; `disk` and `trace` may be nullptr.
  BlockMover(device::Device* device, DiskStore* disk, uint64_t block_bytes, Trace* trace);
  // Waits for everything.
  ~BlockMover();

  // Takes the staging memory, which is otherwise taken when it is needed first: before pinned
  // memory that has a limit is used up. kOutOfMemory.
  Status MakeStaging();
  // Begins to move blocks. *transfer is set in any case: a part may be on its way when the rest
  // fails.
  Status Begin(std::span<const Block> blocks, Way way, Pace pace, Transfer* transfer);
  // Begins to write host memory to disk, on the way home.
  Status BeginLowering(std::vector<DiskSource> blocks, Transfer* transfer);
  bool Done(const Transfer& transfer);
  // Until it is done. Once per transfer, of which nothing is left to wait for then.
  Status Wait(Transfer* transfer);

 private:
  static constexpr uint64_t kStagingBlocks = 128;  // of one way

  // Of one way.
  struct Lane {
    bool has_stream = false;
    device::StreamId stream = 0;
    Trace::Track stream_track = 0, thread_track = 0;
    std::mutex traced;  // one traced copy is submitted at a time
    HostSlab staging;   // of kStagingBlocks
    JobThread thread;   // goes first: its last job needs the rest
  };
  static constexpr uint32_t kHalfBlocks = kStagingBlocks / 2;
  // A half of the staging memory, and what is on its way to or from it.
  struct Half {
    std::byte* data = nullptr;
    std::span<const Block> blocks = {};
    device::Ticket copied = {};
  };

  Lane& lane(Way way) { return way == Way::kHome ? home_ : back_; }
  Result<device::StreamId> StreamOf(Lane& lane);
  Status MakeStaging(Lane& lane);
  Status PushStagedJob(std::vector<Block> blocks, Way way, Transfer* transfer);
  // On the way's thread.
  Status MoveStaged(std::span<const Block> blocks, Way way);
  Status Fetch(const Lane& used, Half* half);
  Status Leave(const Lane& used, Half* half);
  Status Arrive(const Lane& used, Half* half);
  Status ReadDisk(const Lane& used, std::span<const DiskTarget> targets);
  Status WriteDisk(const Lane& used, std::span<const DiskSource> sources);
  // A copy of blocks, which the trace sees while it travels.
  Result<device::Ticket> Copy(device::StreamId stream,
                              std::span<const device::CopyPiece> pieces,
                              Way way,
                              uint64_t num_blocks);
  Trace::Track TrackOf(device::StreamId stream, Way way) const;

  device::Device* const device_;
  DiskStore* const disk_;
  const uint64_t block_bytes_;
  const uint64_t beside_bytes_;  // smaller copies are not worth a stream of their own
  Trace* const trace_;
  Trace::Track copies_track_ = 0;  // of copies that go with the ops
  std::vector<device::CopyPiece> pieces_;
  Lane home_, back_;
};

}  // namespace hipattn::offload

#endif  // HIPATTN_OFFLOAD_BLOCK_MOVER_H_
