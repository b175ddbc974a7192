// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "offload/block_cache.h"

#include "base/bad_alloc.h"
#include "base/int_math.h"
#include "offload/block_lease.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace hipattn::offload {

BlockCache::BlockCache(device::Device* device, const Tiers& tiers, const SlotGeometry& geometry)
    : device_(device),
      device_budget_(tiers.device),
      host_budget_(tiers.host),
      disk_(tiers.disk),
      log_(tiers.log),
      slots_(device, tiers.device, {geometry, device::MemoryKind::kDevice, kDeviceSlabBytes, 0}),
      homes_(device,
             tiers.host,
             {geometry,
              device::MemoryKind::kPinned,
              kHostSlabBytes,
              kBlockRecordBytes,
              tiers.pinned_beside + BlockMover::StagingBytes(BlockBytes(geometry))}),
      mover_(device, tiers.disk, slots_.block_bytes(), tiers.trace) {
  device_budget_->SetLender(this);
}

BlockCache::~BlockCache() {
  device_budget_->SetLender(nullptr);
}

Result<uint32_t> BlockCache::Create() {
  if (free_ids_.empty()) {
    if (free_ids_.capacity() <= records_.size()) {  // letting go must not need memory
      free_ids_.reserve(2 * records_.size() + 1);
    }
    records_.emplace_back();
    free_ids_.push_back(static_cast<uint32_t>(records_.size() - 1));
  }
  HIPATTN_ASSIGN_OR_RETURN(const uint32_t home, TakeHome());
  const uint32_t block = free_ids_.back();
  free_ids_.pop_back();
  records_[block] = {};
  records_[block].home = home;
  records_[block].holders = 1;
  if (disk_ != nullptr && (home & kOnDisk) == 0) {
    hosts_[home].block = block;
  }
  ++num_blocks_;
  return block;
}

Result<uint32_t> BlockCache::Clone(uint32_t block) {
  HIPATTN_ASSIGN_OR_RETURN(const uint32_t clone, Create());
  Status copied = [&]() -> Status {
    BlockLease lease(this);
    HIPATTN_ASSIGN_OR_RETURN(const bool reads, lease.Add(block, BlockLease::Use::kRead));
    bool writes = false;
    if (reads) {
      HIPATTN_ASSIGN_OR_RETURN(writes, lease.Add(clone, BlockLease::Use::kWrite));
    }
    if (!writes) {
      return Internal("no slots to copy a block with");
    }
    HIPATTN_RETURN_IF_ERROR(lease.Load());
    const device::CopyPiece piece = {
        slots_.Address(slot(clone)), slots_.Address(slot(block)), slots_.block_bytes()};
    return Copy({&piece, 1});
  }();
  if (!copied.ok()) {
    Release(clone);
    return copied;
  }
  return clone;
}

void BlockCache::Release(uint32_t block) {
  Record& record = records_[block];
  assert(IsValid(record));
  if (record.holders > 1) {
    --record.holders;
    return;
  }
  BecomeOwn(block);  // a valid block until it is home
  record.holders = 0;
  if (record.slot != kNoSlot) {
    assert(uses_[record.slot].pins == 0);
    LeaveQueue(record.slot);
    LeaveSlot(record);
  }
  FreeHome(record.home);
  free_ids_.push_back(block);
  --num_blocks_;
  DropIfUnused();
}

// Nothing is held any more when no holder is left.
void BlockCache::DropIfUnused() {
  if (num_blocks_ > 0 || tails_ > 0) {
    return;
  }
  floor_ = 0;
  for (uint32_t slab = 0; slab < slots_.slab_numbers(); ++slab) {
    if (slots_.exists(slab)) {
      slots_.Drop(slab);
    }
  }
  for (uint32_t slab = 0; slab < homes_.slab_numbers(); ++slab) {
    if (homes_.exists(slab)) {
      homes_.Drop(slab);
    }
  }
}

Status BlockCache::Promise(uint64_t num_slots) {
  const uint64_t slabs = CeilDiv<uint64_t>(num_slots, slots_.slab_slots());
  while (slots_.num_slabs() < slabs) {
    const size_t count = size_t{slots_.slab_numbers() + 1} * slots_.slab_slots();
    Status listed = CatchBadAlloc([&] {
      uses_.resize(std::max(uses_.size(), count));
      queue_.Grow(static_cast<uint32_t>(count));
      return Status::Ok();
    });
    HIPATTN_RETURN_IF_ERROR(listed);
    HIPATTN_RETURN_IF_ERROR(slots_.AddSlab());
  }
  return Status::Ok();
}

Status BlockCache::ReserveTail() {
  HIPATTN_RETURN_IF_ERROR(Promise(PromisedSlots() + 1));
  ++tails_;
  return Status::Ok();
}

void BlockCache::ReleaseTail() {
  --tails_;
  DropIfUnused();
}

Status BlockCache::RaiseFloor(uint32_t num_slots) {
  if (num_slots <= floor_) {
    return Status::Ok();
  }
  HIPATTN_RETURN_IF_ERROR(Promise(uint64_t{tails_} + num_slots));
  floor_ = num_slots;
  return Status::Ok();
}

uint64_t BlockCache::Room() const {
  const uint64_t used = device_budget_->used();
  const uint64_t left = device_budget_->limit() > used ? device_budget_->limit() - used : 0;
  const uint64_t slabs = slots_.num_slabs() + left / slots_.slab_bytes();
  return slabs * slots_.slab_slots() - tails_;
}

Status BlockCache::Copy(std::span<const device::CopyPiece> pieces) {
  HIPATTN_ASSIGN_OR_RETURN(const device::Ticket ticket, device_->Copy(0, pieces));
  return device_->Sync(ticket);
}

Status BlockCache::ReadContent(std::span<const uint32_t> blocks, std::byte* to) {
  std::vector<device::CopyPiece> pieces;
  std::vector<DiskTarget> on_disk;
  for (size_t i = 0; i < blocks.size(); ++i) {
    const Record& record = records_[blocks[i]];
    std::byte* place = to + i * slots_.block_bytes();
    if (!record.home_valid) {
      pieces.push_back({place, slots_.Address(record.slot), slots_.block_bytes()});
    } else if ((record.home & kOnDisk) != 0) {
      on_disk.push_back({record.home & ~kOnDisk, place});
    } else {
      pieces.push_back({place, homes_.Address(record.home), slots_.block_bytes()});
    }
  }
  HIPATTN_RETURN_IF_ERROR(Copy(pieces));
  return on_disk.empty() ? Status::Ok() : disk_->Read(on_disk);
}

Status BlockCache::Restore(std::span<const uint32_t> blocks, const std::byte* from) {
  std::vector<device::CopyPiece> pieces;
  std::vector<DiskSource> on_disk;
  for (size_t i = 0; i < blocks.size(); ++i) {
    Record& record = records_[blocks[i]];
    const std::byte* place = from + i * slots_.block_bytes();
    if ((record.home & kOnDisk) != 0) {
      on_disk.push_back({record.home & ~kOnDisk, place});
    } else {
      pieces.push_back({homes_.Address(record.home), place, slots_.block_bytes()});
    }
    record.home_valid = true;
  }
  HIPATTN_RETURN_IF_ERROR(Copy(pieces));
  return on_disk.empty() ? Status::Ok() : disk_->Write(on_disk);
}

Status BlockCache::WriteBack(std::span<const uint32_t> blocks) {
  FinishDone();
  HIPATTN_RETURN_IF_ERROR(WriteUnwritten());
  WriteBackBatch batch;
  batch.blocks.assign(blocks.begin(), blocks.end());
  moving_.clear();
  for (const uint32_t block : blocks) {
    const Record& record = records_[block];
    assert(IsValid(record) && record.slot != kNoSlot && !record.home_valid && !record.leaving);
    moving_.push_back(PlacesOf(record));
  }
  write_backs_.push_back(std::move(batch));
  for (const uint32_t block : blocks) {
    records_[block].leaving = true;
    Pin(block);
  }
  Count(&bytes_out_, blocks.size() * slots_.block_bytes());
  WriteBackBatch& begun = write_backs_.back();
  begun.failure =
      mover_.Begin(moving_, BlockMover::Way::kHome, BlockMover::Pace::kBeside, &begun.transfer);
  Status status = begun.failure;
  FinishDone();
  return status;
}

void BlockCache::Arrive(uint32_t block) {
  records_[block].home_valid = true;
  records_[block].leaving = false;
  Unpin(block);
}

Status BlockCache::FinishWriteBack() {
  WriteBackBatch& batch = write_backs_.front();
  Status moved = mover_.Wait(&batch.transfer);
  if (batch.failure.ok()) {
    batch.failure = std::move(moved);
  }
  if (!batch.failure.ok()) {
    unwritten_.insert(unwritten_.end(), batch.blocks.begin(), batch.blocks.end());
  }
  for (const uint32_t block : batch.blocks) {
    if (batch.failure.ok()) {
      Arrive(block);
      continue;
    }
    records_[block].leaving = false;
    records_[block].unwritten = true;
    Unpin(block);
  }
  Status status = std::move(batch.failure);
  write_backs_.pop_front();
  return status;
}

void BlockCache::FinishDone() {
  while (!write_backs_.empty() && mover_.Done(write_backs_.front().transfer)) {
    static_cast<void>(FinishWriteBack());  // what failed is tried again by who needs it
  }
  if (lowering_begun_ && mover_.Done(lowering_transfer_)) {
    FinishLowering();
  }
}

Status BlockCache::FinishWriteBacks() {
  while (!write_backs_.empty()) {
    static_cast<void>(FinishWriteBack());
  }
  return WriteUnwritten();
}

Status BlockCache::WriteUnwritten() {
  if (unwritten_.empty()) {
    return Status::Ok();
  }
  moving_.clear();
  for (const uint32_t block : unwritten_) {
    moving_.push_back(PlacesOf(records_[block]));
  }
  BlockMover::Transfer transfer;
  Status begun =
      mover_.Begin(moving_, BlockMover::Way::kHome, BlockMover::Pace::kAtOnce, &transfer);
  Status moved = mover_.Wait(&transfer);
  HIPATTN_RETURN_IF_ERROR(begun);
  HIPATTN_RETURN_IF_ERROR(moved);
  for (const uint32_t block : std::exchange(unwritten_, {})) {
    records_[block].unwritten = false;
    Pin(block);
    Arrive(block);
  }
  return Status::Ok();
}

void BlockCache::ForgetUnwritten(uint32_t block) {
  if (records_[block].unwritten) {
    std::erase(unwritten_, block);
    records_[block].unwritten = false;
  }
}

void BlockCache::BecomeOwn(uint32_t block) {
  while (records_[block].leaving) {
    static_cast<void>(FinishWriteBack());
  }
  ForgetUnwritten(block);
  SettleMoves(block);
}

void BlockCache::Keep(uint32_t block, bool kept) {
  Record& record = records_[block];
  if (record.kept == kept) {
    return;
  }
  record.kept = kept;
  if (record.slot != kNoSlot && uses_[record.slot].queued != 0) {
    LeaveQueue(record.slot);
    Enqueue(record);
  }
}

void BlockCache::Enqueue(const Record& record) {
  assert(IsClean(record));
  queue_.Add(record.slot, EntryOf(record));
  uses_[record.slot].queued = 1;
}

void BlockCache::LeaveQueue(uint32_t slot) {
  if (uses_[slot].queued != 0) {
    queue_.Remove(slot);
    uses_[slot].queued = 0;
  }
}

bool BlockCache::FindVictim(uint32_t* slot) {
  return queue_.Victim(
      [this](uint32_t queued) -> std::optional<UseQueue::Entry> {
        SlotUse& use = uses_[queued];
        if (use.pins > 0) {
          use.queued = 0;
          return std::nullopt;
        }
        return EntryOf(records_[use.block]);
      },
      slot);
}

void BlockCache::LeaveSlot(Record& record) {
  slots_.Free(std::exchange(record.slot, kNoSlot));
  record.loading = false;
}

void BlockCache::Evict(uint32_t slot) {
  Record& record = records_[uses_[slot].block];
  assert(IsValid(record) && IsClean(record) && uses_[slot].pins == 0 && uses_[slot].queued != 0);
  LeaveQueue(slot);
  LeaveSlot(record);
  Count(&evicted_, 1);
}

Result<bool> BlockCache::TakeSlot(uint32_t block, Growth growth) {
  uint32_t slot = 0;
  uint32_t victim = 0;
  bool taken = slots_.Take(&slot);
  if (!taken && growth == Growth::kAllowed && device_budget_->Fits(slots_.slab_bytes())) {
    const uint64_t more = uint64_t{slots_.num_slabs() + 1} * slots_.slab_slots();
    const Status added = Promise(more);
    if (!added.ok() && !FindVictim(&victim) && write_backs_.empty()) {
      return added;
    }
    taken = slots_.Take(&slot);
  }
  if (!taken && FindVictim(&victim)) {
    Evict(victim);
    taken = slots_.Take(&slot);
  }
  while (!taken && growth == Growth::kAllowed) {
    HIPATTN_ASSIGN_OR_RETURN(const bool freed, FreeSlotByWaiting());
    if (!freed) {
      break;
    }
    taken = FindVictim(&victim);
    if (taken) {
      Evict(victim);
      taken = slots_.Take(&slot);
    }
  }
  if (taken) {
    Record& record = records_[block];
    record.slot = slot;
    record.used = record.used_again = false;
    uses_[slot] = {block, 0, 0};
  }
  return taken;
}

Result<bool> BlockCache::FreeSlotByWaiting() {
  if (!write_backs_.empty()) {
    static_cast<void>(FinishWriteBack());
    return true;
  }
  if (unwritten_.empty()) {
    return false;
  }
  HIPATTN_RETURN_IF_ERROR(WriteUnwritten());
  return true;
}

void BlockCache::Pin(uint32_t block) {
  const Record& record = records_[block];
  assert(IsValid(record) && record.slot != kNoSlot);
  ++uses_[record.slot].pins;
}

void BlockCache::Unpin(uint32_t block) {
  const Record& record = records_[block];
  SlotUse& use = uses_[record.slot];
  assert(IsValid(record) && use.pins > 0);
  if (--use.pins == 0 && use.queued == 0 && IsClean(record)) {
    Enqueue(record);
  }
}

void BlockCache::EndUse(uint32_t block) {
  Record& record = records_[block];
  record.used_again = record.used;
  record.used = true;
  record.history = queue_.Use(EntryOf(record)) & UseQueue::kHistoryMask;
  Unpin(block);
}

// Gives a dirty block another slot; false when there is none.
bool BlockCache::MoveSlot(uint32_t slot) {
  const SlotUse use = uses_[slot];
  Record& record = records_[use.block];
  const uint32_t before = record.slot;
  Result<bool> taken = TakeSlot(use.block, Growth::kNone);
  if (!taken.ok() || !*taken) {
    return false;
  }
  const device::CopyPiece piece = {
      slots_.Address(record.slot), slots_.Address(before), slots_.block_bytes()};
  if (!Copy({&piece, 1}).ok()) {
    slots_.Free(std::exchange(record.slot, before));
    return false;
  }
  slots_.Free(before);
  return true;
}

// Leaves the slab without blocks, or false, and the slab as usable as before.
bool BlockCache::EmptySlab(uint32_t slab) {
  const uint32_t first = slab * slots_.slab_slots();
  const auto holds = [&](uint32_t slot) {
    return records_.size() > uses_[slot].block && records_[uses_[slot].block].slot == slot;
  };
  slots_.Close(slab);
  for (uint32_t slot = first; slot < first + slots_.slab_slots(); ++slot) {
    if (holds(slot) && uses_[slot].pins == 0 && IsClean(records_[uses_[slot].block])) {
      Evict(slot);
    }
  }
  for (uint32_t slot = first; slot < first + slots_.slab_slots(); ++slot) {
    if (holds(slot) && (uses_[slot].pins > 0 || !MoveSlot(slot))) {
      slots_.Open(slab);
      return false;
    }
  }
  return true;
}

void BlockCache::GiveBack(uint64_t bytes) {
  // What cannot go home cannot move either: its slab is not one that is given back.
  while (!write_backs_.empty()) {
    static_cast<void>(FinishWriteBack());
  }
  while (!device_budget_->Fits(bytes)) {
    const uint64_t left = uint64_t{slots_.num_slabs()} * slots_.slab_slots();
    if (slots_.num_slabs() == 0 || left - slots_.slab_slots() < PromisedSlots()) {
      return;
    }
    // The slab of what would be evicted next; where nothing can be, the one with the fewest blocks.
    uint32_t slab = 0;
    uint32_t victim = 0;
    if (FindVictim(&victim)) {
      slab = slots_.SlabOf(victim);
    } else {
      uint32_t fewest = UINT32_MAX;
      for (uint32_t i = 0; i < slots_.slab_numbers(); ++i) {
        if (slots_.exists(i) && slots_.taken(i) < fewest) {
          fewest = slots_.taken(i);
          slab = i;
        }
      }
    }
    if (!EmptySlab(slab)) {
      return;
    }
    slots_.Drop(slab);
  }
}

CacheCounts BlockCache::counts() const {
  const auto read = [](const std::atomic<uint64_t>& counter) {
    return counter.load(std::memory_order_relaxed);
  };
  return {read(hits_),
          read(fetched_),
          read(evicted_),
          read(raised_),
          read(lowered_),
          read(bytes_in_),
          read(bytes_out_),
          read(fetch_wait_ns_)};
}

void BlockCache::ResetCounts() {
  for (std::atomic<uint64_t>* counter : {&hits_,
                                         &fetched_,
                                         &evicted_,
                                         &raised_,
                                         &lowered_,
                                         &bytes_in_,
                                         &bytes_out_,
                                         &fetch_wait_ns_}) {
    counter->store(0, std::memory_order_relaxed);
  }
}

Status BlockCache::Validate() const {
  uint64_t blocks = 0;
  uint64_t on_disk = 0;
  uint64_t in_slots = 0;
  uint64_t evictable = 0;
  uint64_t queued = 0;
  uint64_t dirty = 0;
  for (size_t id = 0; id < records_.size(); ++id) {
    const Record& record = records_[id];
    if (record.holders == 0) {
      continue;
    }
    ++blocks;
    on_disk += (record.home & kOnDisk) != 0 ? 1 : 0;
    if (record.slot == kNoSlot) {
      if (record.loading) {
        return Internal("block ", id, " is loading without a slot");
      }
      continue;
    }
    ++in_slots;
    const SlotUse& use = uses_[record.slot];
    if (use.block != id) {
      return Internal("slot ", record.slot, " of block ", id, " is that of another");
    }
    const bool can_go = IsClean(record) && use.pins == 0;
    if (use.queued != 0 ? !IsClean(record) : can_go) {
      return Internal("block ", id, " is clean or not, but its slot's place says otherwise");
    }
    evictable += can_go ? 1 : 0;
    queued += use.queued;
    dirty += record.home_valid || record.leaving || record.unwritten ? 0 : 1;
  }
  if (blocks != num_blocks_ || blocks + num_rising_ != homes_.num_taken() + on_disk ||
      in_slots != slots_.num_taken() || queued != queue_.size()) {
    return Internal(blocks,
                    " blocks, ",
                    in_slots,
                    " in slots, ",
                    evictable,
                    " of them evictable, ",
                    queued,
                    " queued: ",
                    num_blocks_,
                    ", ",
                    slots_.num_taken(),
                    ", ",
                    queue_.size(),
                    " were counted");
  }
  if (dirty > tails_) {
    return Internal(dirty, " blocks are dirty between calls, ", tails_, " may be");
  }
  if (uint64_t{slots_.num_slabs()} * slots_.slab_slots() < PromisedSlots()) {
    return Internal(slots_.num_slabs(), " slabs do not hold ", PromisedSlots(), " promised slots");
  }
  return ValidateHomes();
}

}  // namespace hipattn::offload
