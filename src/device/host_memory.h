// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// HostMemory: what the machine's memory looks like and how pages of it are had. Implemented in
// src/host; handed to devices that pin host memory and to the tiers of offload.
#ifndef HIPATTN_DEVICE_HOST_MEMORY_H_
#define HIPATTN_DEVICE_HOST_MEMORY_H_

#include "base/result.h"

#include <cstddef>
#include <cstdint>
#include <memory>

namespace hipattn::device {

class HostMemory {
 public:
  HostMemory() = default;
  HostMemory(const HostMemory&) = delete;
  HostMemory& operator=(const HostMemory&) = delete;
  virtual ~HostMemory() = default;

  // NUMA nodes that have memory; at least 1.
  virtual uint32_t num_nodes() const = 0;

  // CPUs this process may use: its affinity mask, cut to the cgroup's CPU quota (rounded up); at
  // least 1.
  virtual uint32_t usable_cpus() const = 0;

  // Bytes the system could give now without swapping.
  virtual uint64_t available_bytes() const = 0;

  static constexpr int kAnyNode = -1;

  // Maps zeroed pages, on huge pages where the system gives them, 2 MiB-aligned; preferring `node`,
  // which is a wish: where the system refuses placement (containers do) the pages come from
  // wherever the first touch puts them. kOutOfMemory. Thread-safe.
  virtual Result<std::byte*> Map(size_t bytes, int node) = 0;
  // The same bytes as were mapped.
  virtual void Unmap(std::byte* data, size_t bytes) = 0;
  // Gives the memory of mapped pages back and keeps their addresses: the next touch finds zeros.
  // Whole pages, of a huge page all or nothing.
  virtual void Discard(std::byte* data, size_t bytes) = 0;
};

}  // namespace hipattn::device

#endif  // HIPATTN_DEVICE_HOST_MEMORY_H_
