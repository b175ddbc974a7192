// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// HostSlab: host memory for a device: pinned while the device pins, else ordinary memory on the
// node next to it, which a device copies slowly or only through pinned memory.
#ifndef HIPATTN_OFFLOAD_HOST_SLAB_H_
#define HIPATTN_OFFLOAD_HOST_SLAB_H_

#include "base/result.h"
#include "device/device.h"

#include <cstddef>
#include <utility>

namespace hipattn::offload {

// Movable.
class HostSlab {
 public:
  enum class Pinning : uint8_t {
    kTried,     // what the device refuses to pin is ordinary memory
    kNotTried,  // ordinary memory
  };

  HostSlab() = default;
  // kOutOfMemory: the system has no such memory. `device` outlives it.
  static Result<HostSlab> Take(device::Device* device, size_t bytes, Pinning pinning);

  HostSlab(HostSlab&& other) noexcept { Swap(other); }
  HostSlab& operator=(HostSlab&& other) noexcept {
    HostSlab moved(std::move(other));
    Swap(moved);
    return *this;
  }
  HostSlab(const HostSlab&) = delete;
  HostSlab& operator=(const HostSlab&) = delete;
  ~HostSlab();

  // nullptr: none was taken.
  std::byte* data() const { return ordinary_ != nullptr ? ordinary_ : pinned_.data(); }
  bool is_pinned() const { return ordinary_ == nullptr; }

 private:
  void Swap(HostSlab& other) noexcept {
    std::swap(pinned_, other.pinned_);
    std::swap(memory_, other.memory_);
    std::swap(ordinary_, other.ordinary_);
    std::swap(ordinary_bytes_, other.ordinary_bytes_);
  }

  device::Buffer pinned_;
  device::HostMemory* memory_ = nullptr;  // of the ordinary pages
  std::byte* ordinary_ = nullptr;
  size_t ordinary_bytes_ = 0;
};

}  // namespace hipattn::offload

#endif  // HIPATTN_OFFLOAD_HOST_SLAB_H_
