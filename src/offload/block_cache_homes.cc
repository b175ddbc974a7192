// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Where blocks live behind the device, and how they move there.
#include "base/bad_alloc.h"
#include "offload/block_cache.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace hipattn::offload {
namespace {

// Homes that are looked at for a colder block: the coldest of so many is among the coldest tenth
// four times of five.
constexpr uint32_t kLooks = 16;
// Blocks of one write to disk.
constexpr size_t kLoweringBlocks = 64;

}  // namespace

// Where pinned memory has a limit, what unpinned blocks travel through is taken before it is used
// up.
Status BlockCache::MakeHomeSlab() {
  if (device_->capabilities().pinned_bytes != UINT64_MAX) {
    HIPATTN_RETURN_IF_ERROR(mover_.MakeStaging());
  }
  const uint32_t ordinary = homes_.num_ordinary_slabs();
  HIPATTN_RETURN_IF_ERROR(homes_.AddSlab());
  if (log_ != nullptr && ordinary == 0 && homes_.num_ordinary_slabs() > 0) {
    log_->Info(StrCat("the device pins no more host memory after ",
                      uint64_t{homes_.num_slabs() - 1} * homes_.slab_bytes(),
                      " bytes of host_kv_bytes: further blocks travel through staging memory"));
  }
  return Status::Ok();
}

Result<uint32_t> BlockCache::AddHostSlot() {
  if (disk_ != nullptr) {
    const size_t count = size_t{homes_.slab_numbers() + 1} * homes_.slab_slots();
    HIPATTN_RETURN_IF_ERROR(CatchBadAlloc([&] {
      hosts_.resize(std::max(hosts_.size(), count));
      spares_.reserve(hosts_.size());
      return Status::Ok();
    }));
  }
  HIPATTN_RETURN_IF_ERROR(MakeHomeSlab());
  uint32_t slot = 0;
  homes_.Take(&slot);
  return slot;
}

Result<uint32_t> BlockCache::TakeHome() {
  uint32_t slot = 0;
  if (homes_.Take(&slot)) {
    return slot;
  }
  Result<uint32_t> added = AddHostSlot();
  if (added.ok() || disk_ == nullptr || added.status().code() != StatusCode::kOutOfBudget) {
    return added;
  }
  Result<uint32_t> extent = disk_->Take();
  if (!extent.ok()) {  // a new block is worth more than a spare
    FinishLowering();
    if (!spares_.empty()) {
      disk_->Free(TakeSpare(spares_.back()));
      extent = disk_->Take();
    }
  }
  HIPATTN_RETURN_IF_ERROR(extent.status());
  return *extent | kOnDisk;
}

void BlockCache::FreeHome(uint32_t home) {
  if ((home & kOnDisk) != 0) {
    FreeExtent(home & ~kOnDisk);
    return;
  }
  if (disk_ != nullptr) {
    hosts_[home] = {};
  }
  FreeHostSlot(home);
}

void BlockCache::FreeExtent(uint32_t extent) {
  disk_->Free(extent);
  lowers_ = true;
}

// The host tier gives a slab back when it is empty, but keeps the last one while there are blocks.
void BlockCache::FreeHostSlot(uint32_t slot) {
  const uint32_t slab = homes_.SlabOf(slot);
  homes_.Free(slot);
  if (homes_.taken(slab) == 0 &&
      (homes_.num_taken() == 0 ||
       uint64_t{homes_.num_slabs() - 1} * homes_.slab_slots() > homes_.num_taken())) {
    homes_.Drop(slab);
  }
}

BlockMover::Block BlockCache::PlacesOf(const Record& record) {
  std::byte* slot = slots_.Address(record.slot);
  return (record.home & kOnDisk) != 0
             ? BlockMover::Block{slot, nullptr, record.home & ~kOnDisk}
             : BlockMover::Block{
                   slot, homes_.Address(record.home), 0, !homes_.is_pinned(record.home)};
}

// The extent, which nothing knows any more then.
uint32_t BlockCache::TakeSpare(uint32_t slot) {
  HostUse& use = hosts_[slot];
  spares_[use.spare_place] = spares_.back();
  hosts_[spares_.back()].spare_place = use.spare_place;
  spares_.pop_back();
  return std::exchange(use.spare, kNone);
}

bool BlockCache::CanMove(uint32_t host_slot) const {
  const uint32_t block = hosts_[host_slot].block;
  return block != kNone && records_[block].home_valid && !records_[block].loading &&
         !records_[block].moving;
}

uint32_t BlockCache::SlotAbove(uint32_t block) {
  uint32_t slot = 0;
  if (homes_.Take(&slot)) {
    return slot;
  }
  if (host_budget_->Fits(homes_.slab_bytes())) {
    Result<uint32_t> added = AddHostSlot();
    return added.ok() ? *added : kNone;
  }
  const int32_t heat = queue_.Lead(records_[block].history);
  const auto coldest = [&](size_t homes, const auto& home) {
    uint32_t found = kNone;
    int32_t least = heat;
    for (uint32_t look = 0; look < kLooks && homes > 0; ++look) {
      const uint32_t host_slot = home(random_() % homes);
      if (!CanMove(host_slot)) {
        continue;
      }
      const int32_t other = queue_.Lead(records_[hosts_[host_slot].block].history);
      if (other < least) {
        least = other;
        found = host_slot;
      }
    }
    return found;
  };
  if (lowers_ && !lowering_begun_ && lowering_.size() < kLoweringBlocks) {
    const uint32_t cold =
        coldest(hosts_.size(), [](size_t place) { return static_cast<uint32_t>(place); });
    if (cold != kNone && hosts_[cold].spare == kNone) {
      records_[hosts_[cold].block].moving = true;
      lowering_.push_back(hosts_[cold].block);
    }
  }
  const uint32_t found = coldest(spares_.size(), [&](size_t place) { return spares_[place]; });
  if (found != kNone) {
    Record& other = records_[hosts_[found].block];
    other.home = TakeSpare(found) | kOnDisk;
    hosts_[found] = {};
  }
  return found;
}

void BlockCache::Raise(uint32_t block, BlockMover::Block* places, std::vector<Rise>* rises) {
  rises->push_back({block, kNone});
  const uint32_t slot = SlotAbove(block);
  if (slot == kNone) {
    rises->pop_back();
    return;
  }
  rises->back().slot = slot;
  records_[block].moving = true;
  places->up = homes_.Address(slot);
  ++num_rising_;
}

void BlockCache::FinishRises(bool came, std::vector<Rise>* rises) {
  for (const Rise& rise : *rises) {
    Record& record = records_[rise.block];
    --num_rising_;
    if (came && record.moving && record.home_valid) {
      hosts_[rise.slot] = {
          rise.block, record.home & ~kOnDisk, static_cast<uint32_t>(spares_.size())};
      spares_.push_back(rise.slot);
      record.home = rise.slot;
      Count(&raised_, 1);
    } else {
      FreeHostSlot(rise.slot);
    }
    record.moving = false;
  }
  rises->clear();
}

// A block that cannot be written stays where it is: who must write has the error.
void BlockCache::BeginLowering() {
  if (lowering_begun_ || lowering_.empty()) {
    return;
  }
  lowered_to_.clear();
  for (const uint32_t block : lowering_) {
    Result<uint32_t> extent = disk_->Take();
    if (!extent.ok()) {
      lowers_ = false;
      break;
    }
    lowered_to_.push_back({*extent, homes_.Address(records_[block].home)});
  }
  for (size_t i = lowered_to_.size(); i < lowering_.size(); ++i) {
    records_[lowering_[i]].moving = false;
  }
  lowering_.resize(lowered_to_.size());
  if (lowering_.empty()) {
    return;
  }
  lowering_begun_ = true;
  lowering_failed_ = !mover_.BeginLowering(lowered_to_, &lowering_transfer_).ok();
}

void BlockCache::FinishLowering() {
  if (!lowering_begun_) {
    return;
  }
  lowering_begun_ = false;
  const bool written = mover_.Wait(&lowering_transfer_).ok() && !lowering_failed_;
  lowers_ = lowers_ && written;
  for (size_t i = 0; i < lowering_.size(); ++i) {
    Record& record = records_[lowering_[i]];
    assert(record.moving && (record.home & kOnDisk) == 0);
    record.moving = false;
    if (!written) {
      disk_->Free(lowered_to_[i].extent);
      continue;
    }
    hosts_[record.home].spare = lowered_to_[i].extent;
    hosts_[record.home].spare_place = static_cast<uint32_t>(spares_.size());
    spares_.push_back(record.home);
  }
  Count(&lowered_, written ? lowering_.size() : 0);
  lowering_.clear();
}

// Before a block is written or goes: it has one home again, and nothing is on its way there.
void BlockCache::SettleMoves(uint32_t block) {
  Record& record = records_[block];
  if ((record.home & kOnDisk) != 0) {
    record.moving = false;  // a lease that brings it up will not
    return;
  }
  if (record.moving) {
    BeginLowering();
    FinishLowering();
  }
  if (disk_ != nullptr && hosts_[record.home].spare != kNone) {
    FreeExtent(TakeSpare(record.home));
  }
}

Status BlockCache::ValidateHomes() const {
  uint64_t spares = 0;
  for (uint32_t slot = 0; slot < hosts_.size(); ++slot) {
    const HostUse& use = hosts_[slot];
    if (use.block == kNone) {
      if (use.spare != kNone) {
        return Internal("host slot ", slot, " without a block has a spare");
      }
      continue;
    }
    const Record& record = records_[use.block];
    if (record.holders == 0 || record.home != slot) {
      return Internal("host slot ", slot, " of block ", use.block, " is not its home");
    }
    if (use.spare != kNone) {
      ++spares;
      if (!record.home_valid || spares_[use.spare_place] != slot) {
        return Internal("the spare of block ", use.block, " is not its content, or not listed");
      }
    }
  }
  return spares == spares_.size() ? Status::Ok()
                                  : Internal(spares, " spares, ", spares_.size(), " were counted");
}

}  // namespace hipattn::offload
