// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// HostMemory of Linux: topology by hwloc, pages by mmap, placement by the mbind system call itself
// (libnuma's allocating calls print to stderr when a container refuses them).
//
// A node is preferred, not demanded: pages that a full node demands bring the system's killer.
#ifndef HIPATTN_HOST_HOST_MEMORY_LINUX_H_
#define HIPATTN_HOST_HOST_MEMORY_LINUX_H_

#include "device/host_memory.h"
#include "host/topology.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace hipattn::host {

// The system calls that place memory. Thread-safe; a test puts others in their place.
class PlacementCalls {
 public:
  PlacementCalls() = default;
  PlacementCalls(const PlacementCalls&) = delete;
  PlacementCalls& operator=(const PlacementCalls&) = delete;
  virtual ~PlacementCalls() = default;

  // Pages of this range come from the node while it has some. 0 or an errno.
  virtual int Prefer(std::byte* data, size_t bytes, int node);
  // The calling thread runs on these CPUs alone. 0 or an errno.
  virtual int RunOn(std::span<const Cpu> cpus);
};

struct HostMemoryOptions {
  TopologySource topology;
  PlacementCalls* calls = nullptr;  // which outlive the memory; nullptr: the system's
  std::string nodes_folder = "/sys/devices/system/node";
};

// Where hwloc sees nothing the machine has one node.
std::unique_ptr<device::HostMemory> CreateHostMemory(const HostMemoryOptions& options);
std::unique_ptr<device::HostMemory> CreateHostMemory();  // of this machine

// CPUs worth of time that a cgroup v2 cpu.max file grants ("150000 100000" -> 2, "max 100000" -> 0
// = no limit); 0 for anything else.
uint32_t ParseCpuMax(std::string_view text);

// Bytes that a node's meminfo file says are free or hold nothing but clean files.
uint64_t ParseNodeAvailable(std::string_view text);

}  // namespace hipattn::host

#endif  // HIPATTN_HOST_HOST_MEMORY_LINUX_H_
