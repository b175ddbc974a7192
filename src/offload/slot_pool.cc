// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "offload/slot_pool.h"

#include "base/bad_alloc.h"

#include <algorithm>
#include <bit>

namespace hipattn::offload {
namespace {

// Large enough for huge pages to matter, small enough that a short text maps little.
constexpr uint64_t kSlabBytes = uint64_t{32} << 20;

}  // namespace

SlotPool::SlotPool(device::Device* device, MemoryBudget* budget, const SlotGeometry& geometry)
    : device_(device), budget_(budget) {
  view_.block_tokens = geometry.block_tokens;
  view_.head_dim = geometry.head_dim;
  view_.kv_dtype = geometry.kv_dtype;
  view_.block_bytes = BlockBytes(geometry);
  slab_runs_ =
      static_cast<uint32_t>(std::bit_floor(std::max<uint64_t>(kSlabBytes / run_bytes(), 1)));
  view_.slab_slots_log2 = static_cast<uint32_t>(std::countr_zero(slab_runs_ * kRunSlots));
}

Status SlotPool::AddSlab() {
  if ((slabs_.size() + 1) * slab_runs_ > UINT32_MAX / kRunSlots) {
    return OutOfMemory("the pool has reached ", UINT32_MAX, " slots");
  }
  // Lists first: what follows, and every later Release, may then not run out of memory half-way.
  const size_t runs = (slabs_.size() + 1) * slab_runs_;
  free_runs_.reserve(runs);
  holders_.reserve(runs);
  slabs_.reserve(slabs_.size() + 1);
  slab_tables_.reserve(slab_tables_.size() + 1);
  if (slabs_.size() == slab_table_size_) {
    const size_t size = std::max<size_t>(16, 2 * slab_table_size_);
    HIPATTN_ASSIGN_OR_RETURN(
        device::Buffer table,
        device_->Allocate(device::MemoryKind::kHostVisible, size * sizeof(std::byte*)));
    if (!slab_tables_.empty()) {
      std::copy_n(slab_tables_.back().as<std::byte*>(), slabs_.size(), table.as<std::byte*>());
    }
    slab_tables_.push_back(std::move(table));
    slab_table_size_ = size;
  }
  HIPATTN_ASSIGN_OR_RETURN(
      device::Buffer slab,
      device_->Allocate(device::MemoryKind::kDevice, slab_runs_ * run_bytes()));
  slab_tables_.back().as<std::byte*>()[slabs_.size()] = slab.data();
  const auto first = static_cast<uint32_t>(slabs_.size()) * slab_runs_;
  for (uint32_t run = first + slab_runs_; run > first; --run) {
    free_runs_.push_back(run - 1);
  }
  holders_.resize(holders_.size() + slab_runs_, 0);
  slabs_.push_back(std::move(slab));
  return Status::Ok();
}

Result<uint32_t> SlotPool::TakeRun() {
  HIPATTN_RETURN_IF_ERROR(budget_->Charge(run_bytes()));
  const std::lock_guard<std::mutex> lock(mutex_);
  if (free_runs_.empty()) {
    if (Status status = CatchBadAlloc([this] { return AddSlab(); }); !status.ok()) {
      budget_->Release(run_bytes());
      return status;
    }
  }
  const uint32_t run = free_runs_.back();
  free_runs_.pop_back();
  holders_[run] = 1;
  return run * kRunSlots;
}

void SlotPool::Retain(uint32_t first_slot) {
  const std::lock_guard<std::mutex> lock(mutex_);
  ++holders_[first_slot / kRunSlots];
}

void SlotPool::Release(uint32_t first_slot) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const uint32_t run = first_slot / kRunSlots;
  if (--holders_[run] == 0) {
    free_runs_.push_back(run);
    budget_->Release(run_bytes());
  }
}

device::BlockPool SlotPool::view() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  device::BlockPool view = view_;
  view.slabs = slab_tables_.empty() ? nullptr : slab_tables_.back().as<std::byte*>();
  return view;
}

}  // namespace hipattn::offload
