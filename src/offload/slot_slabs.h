// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// SlotSlabs: the slots of one tier, handed out one by one from slabs that can be given back. What
// is charged to the tier's budget is what is mapped: whole slabs. Slabs of a host tier are pinned
// as long as the device pins, and ordinary memory beyond.
#ifndef HIPATTN_OFFLOAD_SLOT_SLABS_H_
#define HIPATTN_OFFLOAD_SLOT_SLABS_H_

#include "base/result.h"
#include "device/device.h"
#include "device/params.h"
#include "offload/host_slab.h"
#include "offload/memory_budget.h"
#include "offload/slot_pool.h"

#include <cstdint>
#include <vector>

namespace hipattn::offload {

// Slots of a slab of about slab_bytes: a power of two, at least one run.
constexpr uint32_t SlabSlots(uint64_t slab_bytes, uint64_t block_bytes) {
  uint32_t slots = kRunSlots;
  while (uint64_t{2} * slots * block_bytes <= slab_bytes) {
    slots *= 2;
  }
  return slots;
}

// One thread at a time.
class SlotSlabs {
 public:
  struct Shape {
    SlotGeometry geometry;
    device::MemoryKind kind;     // kDevice, or kPinned: ordinary memory where that is refused
    uint64_t slab_bytes;         // about
    uint64_t slot_extra_bytes;   // charged for each slot beside its block
    uint64_t pinned_beside = 0;  // of what the device pins, left to others
  };

  // `device` and `budget` outlive it.
  SlotSlabs(device::Device* device, MemoryBudget* budget, const Shape& shape);

  // Maps a slab more. kOutOfBudget, kOutOfMemory.
  Status AddSlab();
  // A free slot; of neighbours in turn where there are some. False when there is none.
  bool Take(uint32_t* slot);
  void Free(uint32_t slot);

  // No slot of the slab is handed out any more, until Open.
  void Close(uint32_t slab);
  void Open(uint32_t slab);
  // REQUIRES: no slot of it is taken.
  void Drop(uint32_t slab);

  uint32_t num_slabs() const { return num_slabs_; }
  uint32_t num_taken() const { return num_taken_; }
  uint32_t slab_slots() const { return slab_slots_; }
  uint64_t slab_bytes() const { return slab_slots_ * (view_.block_bytes + slot_extra_bytes_); }
  // One more than the highest number of a slab that is or was there.
  uint32_t slab_numbers() const { return static_cast<uint32_t>(slabs_.size()); }
  bool exists(uint32_t slab) const { return slabs_[slab].exists; }
  uint32_t taken(uint32_t slab) const {
    return slab_slots_ - static_cast<uint32_t>(slabs_[slab].free.size());
  }
  uint32_t SlabOf(uint32_t slot) const { return slot / slab_slots_; }
  std::byte* Address(uint32_t slot) const { return device::BlockAddress(view_, slot); }
  // Whether the device copies the slot at full speed.
  bool is_pinned(uint32_t slot) const { return !slabs_[SlabOf(slot)].is_ordinary; }
  uint32_t num_ordinary_slabs() const { return num_ordinary_; }
  uint64_t block_bytes() const { return view_.block_bytes; }

  // Where the slots are, as ops want it.
  const device::BlockPool& view() const { return view_; }

 private:
  static constexpr uint32_t kNowhere = UINT32_MAX;

  struct Slab {
    device::Buffer memory;       // of the device's
    HostSlab host;               // of a host tier's
    std::vector<uint32_t> free;  // last out first
    uint32_t open_place = kNowhere;
    bool exists = false;
    bool closed = false;
    bool is_ordinary = false;
  };

  Status GrowTable(size_t slabs);
  Status MakeNumber();
  Status MapSlab(Slab& slab);
  void Unlist(Slab& slab);

  device::Device* const device_;
  MemoryBudget* const budget_;
  const device::MemoryKind kind_;
  const uint32_t slab_slots_;
  const uint64_t slot_extra_bytes_;
  const uint64_t pinned_beside_;
  device::BlockPool view_{};
  device::Buffer table_;  // std::byte*[] by slab
  std::vector<Slab> slabs_;
  std::vector<uint32_t> numbers_;  // of slabs that were given back
  std::vector<uint32_t> open_;     // slabs with a free slot that are not closed
  uint32_t num_slabs_ = 0;
  uint32_t num_ordinary_ = 0;
  bool pins_ = true;  // until it was refused; again when pinned memory was given back
  uint32_t num_taken_ = 0;
};

}  // namespace hipattn::offload

#endif  // HIPATTN_OFFLOAD_SLOT_SLABS_H_
