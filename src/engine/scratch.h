// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Scratch<T>: memory of a device that keeps its size between steps: job lists, split states,
// scores.
#ifndef HIPATTN_ENGINE_SCRATCH_H_
#define HIPATTN_ENGINE_SCRATCH_H_

#include "device/device.h"

#include <cstddef>
#include <type_traits>

namespace hipattn::engine {

template <typename T, device::MemoryKind Kind = device::MemoryKind::kHostVisible>
class Scratch {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  T* data() const { return buffer_.as<T>(); }
  T& operator[](size_t i) const { return data()[i]; }

  // At least `count` elements; what was in them is lost when it has to grow.
  Status Grow(device::Device& device, size_t count) {
    if (count * sizeof(T) <= buffer_.size_bytes()) {
      return Status::Ok();
    }
    HIPATTN_ASSIGN_OR_RETURN(buffer_, device.Allocate(Kind, (count + count / 4 + 16) * sizeof(T)));
    return Status::Ok();
  }

 private:
  device::Buffer buffer_;
};

}  // namespace hipattn::engine

#endif  // HIPATTN_ENGINE_SCRATCH_H_
