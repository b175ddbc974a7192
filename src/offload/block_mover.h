// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// BlockMover: moves blocks between device slots and their homes in host memory and on disk, beside
// the ops where that pays. Fetches and write-backs have a stream each; what lies on disk passes
// staging memory on a thread per way, so that neither the caller nor the executor waits for a disk.
#ifndef HIPATTN_OFFLOAD_BLOCK_MOVER_H_
#define HIPATTN_OFFLOAD_BLOCK_MOVER_H_

#include "base/result.h"
#include "device/device.h"
#include "offload/disk_store.h"
#include "offload/job_thread.h"

#include <cstddef>
#include <cstdint>
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
  };

  // What Begin began. Nothing may touch the slots and homes but to read what is moved until Wait
  // has returned, or Done said true.
  struct Transfer {
    Way way = Way::kBack;
    device::Ticket copied = {};  // of the blocks in host memory
    uint64_t disk_job = 0;       // of those on disk; 0: none
  };

  // Both outlive it; `disk` may be nullptr.
  BlockMover(device::Device* device, DiskStore* disk, uint64_t block_bytes);
  // Waits for everything.
  ~BlockMover();

  // Begins to move blocks. *transfer is set in any case: a part may be on its way when the rest
  // fails.
  Status Begin(std::span<const Block> blocks, Way way, Pace pace, Transfer* transfer);
  bool Done(const Transfer& transfer);
  // Until it is done. Once per transfer, of which nothing is left to wait for then.
  Status Wait(Transfer* transfer);

 private:
  // Of one way.
  struct Lane {
    bool has_stream = false;
    device::StreamId stream = 0;
    device::Buffer staging;  // of kStagingBlocks, where a block is on disk
    JobThread thread;        // goes first: its last job needs the rest
  };
  static constexpr uint32_t kStagingBlocks = 64;

  Lane& lane(Way way) { return way == Way::kHome ? home_ : back_; }
  Result<device::StreamId> StreamOf(Lane& lane);
  Status PushDiskJob(std::vector<Block> blocks, Way way, Transfer* transfer);
  Status MoveOnDisk(std::span<const Block> blocks, Way way);

  device::Device* const device_;
  DiskStore* const disk_;
  const uint64_t block_bytes_;
  const uint64_t beside_bytes_;  // smaller copies are not worth a stream of their own
  std::vector<device::CopyPiece> pieces_;
  Lane home_, back_;
};

}  // namespace hipattn::offload

#endif  // HIPATTN_OFFLOAD_BLOCK_MOVER_H_
