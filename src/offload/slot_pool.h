// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// SlotPool: the slots of one tier. A slot is room for one block; slots are handed out in runs of
// kRunSlots neighbours, so that a text's blocks lie next to each other in memory. A run is shared
// by counting: fork retains it, and it is free when the last holder let go.
//
// Slabs of many runs are mapped when the free list is empty and kept until the pool goes. The
// budget is charged per run in use.
#ifndef HIPATTN_OFFLOAD_SLOT_POOL_H_
#define HIPATTN_OFFLOAD_SLOT_POOL_H_

#include "base/result.h"
#include "device/device.h"
#include "device/params.h"
#include "offload/memory_budget.h"

#include <cstdint>
#include <mutex>
#include <vector>

namespace hipattn::offload {

inline constexpr uint32_t kRunSlots = 8;

struct SlotGeometry {
  uint32_t block_tokens;
  uint32_t head_dim;
  DType kv_dtype;
};

constexpr uint64_t BlockBytes(const SlotGeometry& geometry) {
  return uint64_t{2} * geometry.block_tokens * geometry.head_dim * DTypeBytes(geometry.kv_dtype);
}

// Thread-safe.
class SlotPool {
 public:
  // `device` and `budget` outlive the pool.
  SlotPool(device::Device* device, MemoryBudget* budget, const SlotGeometry& geometry);

  // Takes a run; returns its first slot, a multiple of kRunSlots. kOutOfBudget, kOutOfMemory.
  Result<uint32_t> TakeRun();
  void Retain(uint32_t first_slot);
  void Release(uint32_t first_slot);

  uint64_t run_bytes() const { return kRunSlots * view_.block_bytes; }

  // Where the slots taken so far are, as ops want it. Stays valid while further runs are taken.
  device::BlockPool view() const;

 private:
  Status AddSlab();

  device::Device* const device_;
  MemoryBudget* const budget_;
  device::BlockPool view_{};  // slabs is filled in by view()
  uint32_t slab_runs_;
  mutable std::mutex mutex_;
  std::vector<device::Buffer> slabs_;
  std::vector<device::Buffer>
      slab_tables_;  // std::byte*[]; the last is current, earlier ones may still be read
  size_t slab_table_size_ = 0;
  std::vector<uint32_t> free_runs_;  // by number, last out first
  std::vector<uint32_t> holders_;    // per run
};

}  // namespace hipattn::offload

#endif  // HIPATTN_OFFLOAD_SLOT_POOL_H_
