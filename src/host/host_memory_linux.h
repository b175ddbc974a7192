// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// HostMemory of Linux: topology by hwloc, pages by mmap, placement by the mbind system call itself
// (libnuma's allocating calls print to stderr when a container refuses them).
#ifndef HIPATTN_HOST_HOST_MEMORY_LINUX_H_
#define HIPATTN_HOST_HOST_MEMORY_LINUX_H_

#include "device/host_memory.h"

#include <memory>
#include <string_view>

namespace hipattn::host {

std::unique_ptr<device::HostMemory> CreateHostMemory();

// CPUs worth of time that a cgroup v2 cpu.max file grants ("150000 100000" -> 2, "max 100000" -> 0
// = no limit); 0 for anything else.
uint32_t ParseCpuMax(std::string_view text);

}  // namespace hipattn::host

#endif  // HIPATTN_HOST_HOST_MEMORY_LINUX_H_
