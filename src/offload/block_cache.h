// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// BlockCache: blocks that have their home in the host tier, or on disk where that is full, and the
// device slots that hold some of them. Blocks are named by ids that stay while the block lives; ops
// get slots, which a BlockLease pins for as long as they are read.
//
// States of a block
//   void    no content yet
//   dirty   its content is in a device slot alone: being written, or the unfinished tail of a text
//   clean   the same content in its device slot and at home
//   stored  its content is at home
//   loading in between, inside BlockLease: a slot is there, its content is not
// Transitions
//   Create              -> void
//   lease for writing   void, clean -> dirty; stored -> loading -> dirty
//   WriteBack           dirty -> clean: once for every block that gets full
//   Restore             void -> stored
//   lease for reading   stored -> loading -> clean
//   eviction            clean -> stored; nothing moves, because home has the same content
//   Release             any -> gone, when the last holder lets go
// Only clean blocks that no lease pins can be evicted.
//
// What is promised. A text's last block is dirty between calls, so every holder reserves a slot for
// it (ReserveTail); and as many slots as RaiseFloor asked for can be had by a lease whenever no
// other lease lives, whatever else the device budget is used for. Both are memory that is charged
// when the promise is made. Slots beyond it use what the budget has left and go back, slab by slab,
// when others charge it (BudgetLender).
#ifndef HIPATTN_OFFLOAD_BLOCK_CACHE_H_
#define HIPATTN_OFFLOAD_BLOCK_CACHE_H_

#include "offload/disk_store.h"
#include "offload/lru_queue.h"
#include "offload/slot_slabs.h"

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

namespace hipattn::offload {

// Slabs of the tiers. Small ones on the device, because the index takes what the cache gives back
// slab by slab.
inline constexpr uint64_t kDeviceSlabBytes = uint64_t{256} << 10;
inline constexpr uint64_t kHostSlabBytes = uint64_t{2} << 20;

// Host memory that a block's record takes, charged with its home.
inline constexpr uint64_t kBlockRecordBytes = 16;

// Since the last reset; bytes as they moved.
struct CacheCounts {
  uint64_t hits = 0;     // blocks that a lease found in a slot
  uint64_t fetched = 0;  // that it had to bring
  uint64_t evicted = 0;
  uint64_t bytes_host_to_device = 0, bytes_device_to_host = 0;
};

// One thread at a time, but for counts().
class BlockCache final : public BudgetLender {
 public:
  struct Tiers {
    MemoryBudget* device;
    MemoryBudget* host;
    DiskStore* disk;  // or nullptr
  };

  // All outlive it. The cache lends to the device's budget.
  BlockCache(device::Device* device, const Tiers& tiers, const SlotGeometry& geometry);
  ~BlockCache() override;

  // A void block with a home. kOutOfBudget when the tiers behind the device are full, kOutOfMemory,
  // kIoError.
  Result<uint32_t> Create();
  // A dirty block with the content of another; like a lease of two.
  Result<uint32_t> Clone(uint32_t block);
  void Retain(uint32_t block) { ++records_[block].holders; }
  void Release(uint32_t block);

  // A slot for one more block that is dirty between calls. kOutOfBudget, and nothing changed.
  Status ReserveTail();
  void ReleaseTail();
  // Slots that a lease can have. Lasts until no tail is reserved. kOutOfBudget, and nothing
  // changed.
  Status RaiseFloor(uint32_t num_slots);
  // Gives everything back, the floor too, when there is no block and no tail: after a promise that
  // led to nothing.
  void DropIfUnused();
  // Slots that a lease could have now, were there no other.
  uint64_t Room() const;

  // Brings dirty blocks home, which have slots.
  Status WriteBack(std::span<const uint32_t> blocks);
  // Copies the content of blocks to `to`, from home or from their slots. Threads may read at once
  // while there is no lease.
  Status ReadContent(std::span<const uint32_t> blocks, std::byte* to);
  // Void blocks become stored, with this content. Threads may fill different blocks at once.
  Status Restore(std::span<const uint32_t> blocks, const std::byte* from);
  // Kept blocks are evicted last.
  void Keep(uint32_t block, bool kept);

  // REQUIRES: a lease pins the block, or it is dirty.
  uint32_t slot(uint32_t block) const { return records_[block].slot; }
  const device::BlockPool& view() const { return slots_.view(); }

  void GiveBack(uint64_t bytes) override;

  CacheCounts counts() const;  // thread-safe
  void ResetCounts();          // thread-safe

  // Whether all that is said about states holds, for tests; takes time with the number of blocks.
  Status Validate() const;

 private:
  friend class BlockLease;
  static constexpr uint32_t kNoSlot = UINT32_MAX;
  static constexpr uint32_t kOnDisk = uint32_t{1} << 31;  // in a home: the rest is an extent
  static constexpr uint32_t kStagingBlocks = 64;  // that pass between device and disk at once

  struct Record {
    uint32_t slot = kNoSlot;
    uint32_t home = 0;
    uint32_t holders = 0;  // 0: the id is free
    bool home_valid = false;
    bool loading = false;
    bool kept = false;
  };
  static_assert(sizeof(Record) <= kBlockRecordBytes);

  struct SlotUse {
    uint32_t block = 0;
    uint32_t pins = 0;
  };

  static bool IsValid(const Record& record) {
    return record.holders > 0 && (!record.loading || record.slot != kNoSlot);
  }
  bool IsClean(const Record& record) const {
    return record.slot != kNoSlot && record.home_valid && !record.loading;
  }
  uint64_t PromisedSlots() const { return uint64_t{tails_} + floor_; }
  // Slabs for so many slots. kOutOfBudget, and nothing changed.
  Status Promise(uint64_t num_slots);
  // Gives a block a slot, another one when it has one; false: every slot is pinned or dirty.
  enum class Growth : uint8_t { kNone, kAllowed };
  Result<bool> TakeSlot(uint32_t block, Growth growth);
  void Pin(uint32_t block);
  void Unpin(uint32_t block);
  void Evict(uint32_t slot);
  void LeaveSlot(Record& record);
  bool EmptySlab(uint32_t slab);
  bool MoveSlot(uint32_t slot);
  void FreeHome(uint32_t home);
  Status Copy(std::span<const device::CopyPiece> pieces);
  Result<uint32_t> TakeHome();
  // Between the slots of blocks and their homes.
  enum class Way : uint8_t { kHome, kBack };
  Status Move(std::span<const uint32_t> blocks, Way way);
  Status MoveOnDisk(std::span<const uint32_t> blocks, Way way);

  device::Device* const device_;
  MemoryBudget* const device_budget_;
  DiskStore* const disk_;
  SlotSlabs slots_;
  SlotSlabs homes_;
  std::vector<Record> records_;
  std::vector<uint32_t> free_ids_;
  std::vector<SlotUse> uses_;  // by slot
  LruQueue queue_;             // clean slots that nobody pins
  uint32_t tails_ = 0;
  uint32_t floor_ = 0;
  uint64_t num_blocks_ = 0;
  std::vector<device::CopyPiece> pieces_;  // of the copy that is being put together
  std::vector<uint32_t> moving_;           // blocks that a lease fetches
  std::vector<uint32_t> on_disk_;          // those of a move that are on disk
  device::Buffer staging_;                 // of kStagingBlocks, where a block is on disk
  std::atomic<uint64_t> hits_{0}, fetched_{0}, evicted_{0}, bytes_in_{0}, bytes_out_{0};
};

// Blocks that have slots until the lease lets them go. Add what an op needs, then Load, then run
// the op. One lease at a time uses the floor.
class BlockLease {
 public:
  enum class Use : uint8_t { kRead, kWrite };

  explicit BlockLease(BlockCache* cache) : cache_(*cache) {}
  ~BlockLease() { Clear(); }
  BlockLease(const BlockLease&) = delete;
  BlockLease& operator=(const BlockLease&) = delete;

  // Pins a block. False, and nothing changed, when no slot is left; errors of the device.
  Result<bool> Add(uint32_t block, Use use);
  size_t size() const { return held_.size(); }
  // Lets go what was added since the lease had this size. REQUIRES: not loaded yet.
  void Rewind(size_t size);
  // Brings the content of what was added; those added for writing become dirty.
  Status Load();
  void Clear();

 private:
  struct Held {
    uint32_t block;
    Use use;
    bool placed;  // this entry took the slot
  };

  BlockCache& cache_;
  std::vector<Held> held_;
  size_t loaded_ = 0;  // entries whose content is there
};

}  // namespace hipattn::offload

#endif  // HIPATTN_OFFLOAD_BLOCK_CACHE_H_
