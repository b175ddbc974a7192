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
//   leaving dirty, and on its way home, which pins it
//   clean   the same content in its device slot and at home
//   stored  its content is at home
//   loading in between, inside BlockLease: a slot is there, its content is not
// Transitions
//   Create              -> void
//   lease for writing   void, clean -> dirty; leaving -> clean -> dirty; stored -> loading -> dirty
//   WriteBack           dirty -> leaving -> clean: once for every block that gets full
//   Restore             void -> stored
//   lease for reading   stored -> loading -> clean
//   eviction            clean -> stored; nothing moves, because home has the same content
//   Release             any -> gone, when the last holder lets go
// Only clean blocks that no lease pins can be evicted.
//
// Homes. A new block's home is in host memory while there is room. Later host memory has what is
// used most: a block that is fetched from disk and was used more than others that live in host
// memory moves up with its fetch and keeps its extent, as a spare. What was used least there is
// written to an extent beside the ops, once, and is a spare's block then, too. Where a block moves
// up and host memory is full, the one with a spare that was used least lives on disk again, and
// nothing moves. A spare goes when its block is written, or when a new block needs the extent.
//
// Nobody waits for a write-back but who needs its slot or writes the block again. A block whose
// write-back failed is dirty as before, in its slot; the next WriteBack, or who needs the slot,
// tries again and has the error if it fails again.
//
// What is promised. A text's last block is dirty between calls, so every holder reserves a slot for
// it (ReserveTail); and as many slots as RaiseFloor asked for can be had by a lease whenever no
// other lease lives, whatever else the device budget is used for. Both are memory that is charged
// when the promise is made. Slots beyond it use what the budget has left and go back, slab by slab,
// when others charge it (BudgetLender).
#ifndef HIPATTN_OFFLOAD_BLOCK_CACHE_H_
#define HIPATTN_OFFLOAD_BLOCK_CACHE_H_

#include "base/log.h"
#include "offload/block_mover.h"
#include "offload/disk_store.h"
#include "offload/slot_slabs.h"
#include "offload/use_queue.h"

#include <atomic>
#include <cstdint>
#include <deque>
#include <random>
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
  uint64_t raised = 0;   // that moved from disk to host memory
  uint64_t lowered = 0;  // that were written from host memory to disk
  uint64_t bytes_host_to_device = 0, bytes_device_to_host = 0;
  uint64_t fetch_wait_ns = 0;  // that leases spent on beginning and awaiting fetches
};

inline void Count(std::atomic<uint64_t>* counter, uint64_t more) {
  counter->fetch_add(more, std::memory_order_relaxed);
}

// One thread at a time, but for counts().
class BlockCache final : public BudgetLender {
 public:
  struct Tiers {
    MemoryBudget* device;
    MemoryBudget* host;
    DiskStore* disk;             // or nullptr
    Logger* log = nullptr;       // or nullptr
    uint64_t pinned_beside = 0;  // of what the device pins, left to others
    Trace* trace = nullptr;      // or nullptr
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
  // Of the slabs that the promises take.
  uint64_t promised_bytes() const {
    return (PromisedSlots() + slots_.slab_slots() - 1) / slots_.slab_slots() * slots_.slab_bytes();
  }
  // Slots that a lease could have now, were there no other.
  uint64_t Room() const;

  // Begins to bring dirty blocks home, which have slots and are not on their way. What wrote them
  // must be complete. The error of an earlier one that fails again, and nothing changed.
  Status WriteBack(std::span<const uint32_t> blocks);
  // Until every block that left is home. Theirs is the first error.
  Status FinishWriteBacks();
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

  // Bytes of the host tier that the device does not pin.
  uint64_t ordinary_bytes() const {
    return uint64_t{homes_.num_ordinary_slabs()} * homes_.slab_bytes();
  }

  CacheCounts counts() const;  // thread-safe
  void ResetCounts();          // thread-safe

  // Whether all that is said about states holds, for tests; takes time with the number of blocks.
  Status Validate() const;

 private:
  friend class BlockLease;
  static constexpr uint32_t kNoSlot = UINT32_MAX;
  static constexpr uint32_t kNone = UINT32_MAX;
  static constexpr uint32_t kOnDisk = uint32_t{1} << 31;  // in a home: the rest is an extent

  struct Record {
    uint32_t slot = kNoSlot;
    uint32_t home = 0;
    uint32_t holders = 0;  // 0: the id is free
    bool home_valid : 1 = false;
    bool leaving : 1 = false;
    bool unwritten : 1 = false;  // in the list of that name
    bool loading : 1 = false;
    bool kept : 1 = false;
    bool moving : 1 = false;      // between host memory and disk, whichever its home is
    bool used : 1 = false;        // a lease has let it go since it got its slot
    bool used_again : 1 = false;  // two have
    uint32_t history : UseQueue::kHistoryBits = 0;  // of its uses
  };
  static_assert(sizeof(Record) <= kBlockRecordBytes);

  // Small, because with its block's record it is all that a hit touches: slots of clean blocks stay
  // in the queue while they are pinned, until it meets them.
  struct SlotUse {
    uint32_t block = 0;
    uint32_t pins : 31 = 0;
    uint32_t queued : 1 = 0;
  };

  // Of a slot of the host tier, where there is a disk.
  struct HostUse {
    uint32_t block = kNone;    // whose home it is
    uint32_t spare = kNone;    // an extent with the same content
    uint32_t spare_place = 0;  // in spares_
  };
  // A block that is on its way up, to a slot of the host tier.
  struct Rise {
    uint32_t block, slot;
  };

  struct WriteBackBatch {
    BlockMover::Transfer transfer;
    std::vector<uint32_t> blocks;
    Status failure;  // known before the transfer was waited for
  };

  static bool IsValid(const Record& record) {
    return record.holders > 0 && (!record.loading || record.slot != kNoSlot) &&
           (!record.leaving || (record.slot != kNoSlot && !record.home_valid));
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
  // Unpin by a lease that has used the block.
  void EndUse(uint32_t block);
  static UseQueue::Entry EntryOf(const Record& record) {
    return {record.history, record.kept, !record.used_again};
  }
  void Enqueue(const Record& record);
  void LeaveQueue(uint32_t slot);
  // A slot that can be evicted; false when there is none.
  bool FindVictim(uint32_t* slot);
  void Evict(uint32_t slot);
  void LeaveSlot(Record& record);
  bool EmptySlab(uint32_t slab);
  bool MoveSlot(uint32_t slot);
  Status Copy(std::span<const device::CopyPiece> pieces);
  // Of homes: block_cache_homes.cc.
  Result<uint32_t> TakeHome();
  Status MakeHomeSlab();
  void FreeHome(uint32_t home);
  BlockMover::Block PlacesOf(const Record& record);
  Result<uint32_t> AddHostSlot();
  void FreeExtent(uint32_t extent);
  void FreeHostSlot(uint32_t slot);
  uint32_t TakeSpare(uint32_t slot);
  // A slot of the host tier for a block that comes from disk, or kNone where none is worth it;
  // begins no move.
  uint32_t SlotAbove(uint32_t block);
  bool CanMove(uint32_t host_slot) const;
  void Raise(uint32_t block, BlockMover::Block* places, std::vector<Rise>* rises);
  // After their content came, or when it will not come any more.
  void FinishRises(bool came, std::vector<Rise>* rises);
  // Begins to write what SlotAbove found cold.
  void BeginLowering();
  void FinishLowering();
  void SettleMoves(uint32_t block);
  Status ValidateHomes() const;
  // Before a block is written: its way home ends, and nobody tries it again.
  void BecomeOwn(uint32_t block);
  void ForgetUnwritten(uint32_t block);
  void Arrive(uint32_t block);
  // The oldest batch, until it is home or failed.
  Status FinishWriteBack();
  void FinishDone();
  Status WriteUnwritten();
  // Makes a slot clean that was not; false: nothing is on its way home.
  Result<bool> FreeSlotByWaiting();

  device::Device* const device_;
  MemoryBudget* const device_budget_;
  MemoryBudget* const host_budget_;
  DiskStore* const disk_;
  Logger* const log_;
  SlotSlabs slots_;
  SlotSlabs homes_;
  std::vector<Record> records_;
  std::vector<uint32_t> free_ids_;
  std::vector<SlotUse> uses_;  // by slot
  UseQueue queue_;             // clean slots: all that nobody pins, and some others
  uint32_t tails_ = 0;
  uint32_t floor_ = 0;
  uint64_t num_blocks_ = 0;
  std::vector<HostUse> hosts_;
  std::vector<uint32_t> spares_;  // host slots whose block has one
  uint32_t num_rising_ = 0;
  std::minstd_rand random_;         // which homes are looked at
  std::vector<uint32_t> lowering_;  // blocks that are about to be written to disk, or being so
  std::vector<DiskSource> lowered_to_;
  BlockMover::Transfer lowering_transfer_;
  bool lowering_begun_ = false;
  bool lowering_failed_ = false;            // before it could begin
  bool lowers_ = true;                      // until the disk refuses
  std::vector<BlockMover::Block> moving_;   // of the transfer that is being put together
  std::deque<WriteBackBatch> write_backs_;  // under way, oldest first
  std::vector<uint32_t> unwritten_;         // whose write-back failed
  std::atomic<uint64_t> hits_{0}, fetched_{0}, evicted_{0}, bytes_in_{0}, bytes_out_{0};
  std::atomic<uint64_t> raised_{0}, lowered_{0};
  std::atomic<uint64_t> fetch_wait_ns_{0};
  BlockMover mover_;  // goes first: what is under way ends in the rest
};

}  // namespace hipattn::offload

#endif  // HIPATTN_OFFLOAD_BLOCK_CACHE_H_
