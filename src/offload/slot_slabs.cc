// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "offload/slot_slabs.h"

#include "base/bad_alloc.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace hipattn::offload {

SlotSlabs::SlotSlabs(device::Device* device, MemoryBudget* budget, const Shape& shape)
    : device_(device),
      budget_(budget),
      kind_(shape.kind),
      slab_slots_(SlabSlots(shape.slab_bytes, BlockBytes(shape.geometry))),
      slot_extra_bytes_(shape.slot_extra_bytes),
      pinned_beside_(shape.pinned_beside) {
  view_.block_tokens = shape.geometry.block_tokens;
  view_.head_dim = shape.geometry.head_dim;
  view_.kv_dtype = shape.geometry.kv_dtype;
  view_.block_bytes = BlockBytes(shape.geometry);
  view_.slab_slots_log2 = static_cast<uint32_t>(std::countr_zero(slab_slots_));
}

// Nothing reads the table but the host that resolves and ops that have completed, so the old one
// may go at once.
Status SlotSlabs::GrowTable(size_t slabs) {
  if (slabs * sizeof(std::byte*) <= table_.size_bytes()) {
    return Status::Ok();
  }
  const size_t size = std::max<size_t>(16, 2 * slabs);
  HIPATTN_ASSIGN_OR_RETURN(
      device::Buffer table,
      device_->Allocate(device::MemoryKind::kHostVisible, size * sizeof(std::byte*)));
  std::copy_n(table_.as<std::byte*>(), slabs_.size(), table.as<std::byte*>());
  table_ = std::move(table);
  view_.slabs = table_.as<std::byte*>();
  return Status::Ok();
}

// Lists first: what follows, and every later Free, may then not run out of memory half-way.
Status SlotSlabs::MakeNumber() {
  if (numbers_.empty()) {
    const size_t count = slabs_.size() + 1;
    numbers_.reserve(count);
    open_.reserve(count);
    HIPATTN_RETURN_IF_ERROR(GrowTable(count));
    slabs_.emplace_back();
    numbers_.push_back(static_cast<uint32_t>(count - 1));
  }
  slabs_[numbers_.back()].free.reserve(slab_slots_);
  return Status::Ok();
}

// The limit that a device states may be more than it gives, and asking beyond costs time.
Status SlotSlabs::MapSlab(Slab& slab) {
  const uint64_t bytes = slab_slots_ * view_.block_bytes;
  if (kind_ != device::MemoryKind::kPinned) {
    HIPATTN_ASSIGN_OR_RETURN(slab.memory, device_->Allocate(kind_, bytes));
    return Status::Ok();
  }
  const uint64_t pinned = (num_slabs_ - num_ordinary_) * bytes;
  const uint64_t most = device_->capabilities().pinned_bytes;
  const uint64_t limit = most - std::min(most, pinned_beside_);
  const bool tries = pins_ && bytes <= limit && pinned <= limit - bytes;
  HIPATTN_ASSIGN_OR_RETURN(
      slab.host,
      HostSlab::Take(
          device_, bytes, tries ? HostSlab::Pinning::kTried : HostSlab::Pinning::kNotTried));
  slab.is_ordinary = !slab.host.is_pinned();
  num_ordinary_ += slab.is_ordinary ? 1 : 0;
  pins_ = !slab.is_ordinary;
  return Status::Ok();
}

Status SlotSlabs::AddSlab() {
  if ((slabs_.size() + 1) * uint64_t{slab_slots_} > UINT32_MAX / 2) {
    return OutOfMemory("a tier has reached ", UINT32_MAX / 2, " slots");
  }
  HIPATTN_RETURN_IF_ERROR(CatchBadAlloc([this] { return MakeNumber(); }));
  HIPATTN_RETURN_IF_ERROR(budget_->ChargeOwn(slab_bytes()));
  Slab& slab = slabs_[numbers_.back()];
  Status allocated = CatchBadAlloc([&] { return MapSlab(slab); });
  if (!allocated.ok()) {
    budget_->Release(slab_bytes());
    return allocated;
  }
  const uint32_t number = numbers_.back();
  numbers_.pop_back();
  table_.as<std::byte*>()[number] =
      kind_ == device::MemoryKind::kPinned ? slab.host.data() : slab.memory.data();
  for (uint32_t slot = (number + 1) * slab_slots_; slot > number * slab_slots_; --slot) {
    slab.free.push_back(slot - 1);
  }
  slab.exists = true;
  slab.closed = false;
  slab.open_place = static_cast<uint32_t>(open_.size());
  open_.push_back(number);
  ++num_slabs_;
  return Status::Ok();
}

void SlotSlabs::Unlist(Slab& slab) {
  if (slab.open_place == kNowhere) {
    return;
  }
  slabs_[open_.back()].open_place = slab.open_place;
  open_[slab.open_place] = open_.back();
  open_.pop_back();
  slab.open_place = kNowhere;
}

bool SlotSlabs::Take(uint32_t* slot) {
  if (open_.empty()) {
    return false;
  }
  Slab& slab = slabs_[open_.back()];
  *slot = slab.free.back();
  slab.free.pop_back();
  ++num_taken_;
  if (slab.free.empty()) {
    Unlist(slab);
  }
  return true;
}

void SlotSlabs::Free(uint32_t slot) {
  Slab& slab = slabs_[SlabOf(slot)];
  slab.free.push_back(slot);
  --num_taken_;
  if (!slab.closed && slab.open_place == kNowhere) {
    Open(SlabOf(slot));
  }
}

void SlotSlabs::Close(uint32_t number) {
  slabs_[number].closed = true;
  Unlist(slabs_[number]);
}

void SlotSlabs::Open(uint32_t number) {
  Slab& slab = slabs_[number];
  slab.closed = false;
  if (!slab.free.empty() && slab.open_place == kNowhere) {
    slab.open_place = static_cast<uint32_t>(open_.size());
    open_.push_back(number);
  }
}

void SlotSlabs::Drop(uint32_t number) {
  Slab& slab = slabs_[number];
  Unlist(slab);
  slab.memory = {};
  slab.host = {};
  num_ordinary_ -= slab.is_ordinary ? 1 : 0;
  pins_ = pins_ || !slab.is_ordinary;
  slab.is_ordinary = false;
  slab.free.clear();
  slab.exists = false;
  table_.as<std::byte*>()[number] = nullptr;
  numbers_.push_back(number);
  --num_slabs_;
  budget_->Release(slab_bytes());
}

}  // namespace hipattn::offload
