// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// HostMemory: what the machine's memory looks like and how pages of it are had. Implemented in
// src/host; handed to devices that pin host memory and to the tiers of offload.
//
// Host memory for a device comes in this order: Map, preferring the node next to the device; Touch,
// so that the pages are there; then the device registers them, where it has to.
#ifndef HIPATTN_DEVICE_HOST_MEMORY_H_
#define HIPATTN_DEVICE_HOST_MEMORY_H_

#include "base/result.h"
#include "device/executor.h"

#include <cstddef>
#include <cstdint>
#include <memory>

namespace hipattn::device {

// How pages come to lie on the node that was asked for.
enum class Placement : uint8_t {
  kOneNode,     // there is no choice
  kPolicy,      // the system places them
  kFirstTouch,  // the system refuses to, as containers do: they lie where they are touched first
};

class HostMemory {
 public:
  HostMemory() = default;
  HostMemory(const HostMemory&) = delete;
  HostMemory& operator=(const HostMemory&) = delete;
  virtual ~HostMemory() = default;

  // NUMA nodes that have memory and are next to CPUs; at least 1.
  virtual uint32_t num_nodes() const = 0;

  // CPUs this process may use: its affinity mask, cut to the cgroup's CPU quota (rounded up); at
  // least 1.
  virtual uint32_t usable_cpus() const = 0;

  static constexpr int kAnyNode = -1;

  // The node that all of the process's CPUs are next to, or kAnyNode.
  virtual int own_node() const = 0;

  // Bytes the system could give now without swapping: in all, or on one node.
  virtual uint64_t available_bytes(int node = kAnyNode) const = 0;

  virtual Placement placement() const = 0;
  // Bytes that Touch touched for a node which had no room for them, or on which no thread of ours
  // could run: they lie elsewhere.
  virtual uint64_t misplaced_bytes() const = 0;

  // Maps zeroed pages, on huge pages where the system gives them, 2 MiB-aligned; preferring `node`,
  // which is a wish: of a node that is full, or where the system refuses placement, the pages come
  // from elsewhere. kOutOfMemory. Thread-safe.
  virtual Result<std::byte*> Map(size_t bytes, int node) = 0;
  // The same bytes as were mapped.
  virtual void Unmap(std::byte* data, size_t bytes) = 0;
  // Gives the memory of mapped pages back and keeps their addresses: the next touch finds zeros.
  // Whole pages, of a huge page all or nothing.
  virtual void Discard(std::byte* data, size_t bytes) = 0;
  // Makes the system give the memory of mapped pages now, on several threads at once; what they
  // hold is lost. Threads of the executor, or, with Placement::kFirstTouch, threads that run on the
  // node. Thread-safe.
  virtual void Touch(std::byte* data, size_t bytes, int node, Executor& executor) = 0;
};

}  // namespace hipattn::device

#endif  // HIPATTN_DEVICE_HOST_MEMORY_H_
