// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// JobSlots: room for single jobs where the device sees them. An op reads its list of jobs itself,
// so a job on the host's stack would only do on a CPU.
#ifndef HIPATTN_ENGINE_JOB_SLOTS_H_
#define HIPATTN_ENGINE_JOB_SLOTS_H_

#include "device/device.h"

#include <cstddef>
#include <mutex>
#include <vector>

namespace hipattn::engine {

// Thread-safe: heads search in parallel. Keeps as many slots as were ever taken at the same time.
class JobSlots {
 public:
  static constexpr size_t kSlotBytes = 128;

  // kSlotBytes bytes, 64-byte aligned. kOutOfMemory.
  Result<std::byte*> Take(device::Device& device) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (free_.empty()) {
      free_.reserve((buffers_.size() + 1) * kSlotsPerBuffer);  // Give finds room
      buffers_.reserve(buffers_.size() + 1);
      HIPATTN_ASSIGN_OR_RETURN(
          device::Buffer buffer,
          device.Allocate(device::MemoryKind::kHostVisible, kSlotsPerBuffer * kSlotBytes));
      for (size_t i = 0; i < kSlotsPerBuffer; ++i) {
        free_.push_back(buffer.data() + i * kSlotBytes);
      }
      buffers_.push_back(std::move(buffer));
    }
    std::byte* const slot = free_.back();
    free_.pop_back();
    return slot;
  }

  // Once the device has read it.
  void Give(std::byte* slot) {
    const std::lock_guard<std::mutex> lock(mutex_);
    free_.push_back(slot);
  }

 private:
  static constexpr size_t kSlotsPerBuffer = 32;

  std::mutex mutex_;
  std::vector<device::Buffer> buffers_;
  std::vector<std::byte*> free_;
};

}  // namespace hipattn::engine

#endif  // HIPATTN_ENGINE_JOB_SLOTS_H_
