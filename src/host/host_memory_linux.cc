// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "host/host_memory_linux.h"

#include "base/int_math.h"
#include "host/page_arena.h"

#include <hwloc.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <string>
#include <vector>

namespace hipattn::host {
namespace {

std::string ReadLine(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

uint32_t AffinityCpus() {
  // The mask of a machine with more CPUs than a cpu_set_t holds needs a larger set; the kernel says
  // EINVAL until it fits.
  for (int cpus = 1024; cpus <= (1 << 20); cpus *= 2) {
    cpu_set_t* set = CPU_ALLOC(cpus);
    if (set == nullptr) {
      break;
    }
    const size_t bytes = CPU_ALLOC_SIZE(cpus);
    const int rc = sched_getaffinity(0, bytes, set);
    const int count = rc == 0 ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (count > 0) {
      return static_cast<uint32_t>(count);
    }
  }
  return 1;
}

uint32_t CountNumaNodes() {
  hwloc_topology_t topology = nullptr;
  if (hwloc_topology_init(&topology) != 0) {
    return 1;
  }
  int nodes = 1;
  if (hwloc_topology_load(topology) == 0) {
    nodes = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_NUMANODE);
  }
  hwloc_topology_destroy(topology);
  return static_cast<uint32_t>(std::max(nodes, 1));
}

class LinuxHostMemory : public device::HostMemory {
 public:
  LinuxHostMemory() : num_nodes_(CountNumaNodes()), usable_cpus_(AffinityCpus()) {
    const uint32_t quota = ParseCpuMax(ReadLine("/sys/fs/cgroup/cpu.max"));
    if (quota != 0) {
      usable_cpus_ = std::min(usable_cpus_, quota);
    }
  }

  uint32_t num_nodes() const override { return num_nodes_; }
  uint32_t usable_cpus() const override { return usable_cpus_; }

  uint64_t available_bytes() const override {
    std::ifstream file("/proc/meminfo");
    std::string key;
    uint64_t kib = 0;
    std::string unit;
    while (file >> key >> kib) {
      std::getline(file, unit);
      if (key == "MemAvailable:") {
        return kib * 1024;
      }
    }
    const auto pages = static_cast<uint64_t>(std::max(sysconf(_SC_AVPHYS_PAGES), 0L));
    return pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  }

  Result<std::byte*> Map(size_t bytes, int node) override {
    // Over-map by one huge page and give back what lies outside the aligned part.
    uint64_t padded = 0;
    if (!CheckedAdd(bytes, kHugePageBytes + 4095, &padded)) {
      return OutOfMemory("cannot map ", bytes, " bytes");
    }
    padded = padded / 4096 * 4096;
    void* raw = mmap(nullptr,
                     padded,
                     PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                     -1,
                     0);
    if (raw == MAP_FAILED) {
      return OutOfMemory("the system refused ", bytes, " bytes of memory");
    }
    auto* const begin = static_cast<std::byte*>(raw);
    const auto address = reinterpret_cast<uintptr_t>(raw);
    std::byte* const data = begin + (RoundUp<uintptr_t>(address, kHugePageBytes) - address);
    std::byte* const end = data + RoundUp<uint64_t>(bytes, 4096);
    if (data > begin) {
      munmap(begin, static_cast<size_t>(data - begin));
    }
    if (begin + padded > end) {
      munmap(end, static_cast<size_t>(begin + padded - end));
    }
    // Both are wishes; a system without huge pages or that refuses placement serves ordinary pages.
    (void)madvise(data, bytes, MADV_HUGEPAGE);
    if (node != kAnyNode && num_nodes_ > 1 && node < 64) {
      const uint64_t mask = uint64_t{1} << node;
      (void)syscall(SYS_mbind, data, bytes, MPOL_PREFERRED, &mask, 64UL, 0U);
    }
    return data;
  }

  void Unmap(std::byte* data, size_t bytes) override {
    munmap(data, RoundUp<uint64_t>(bytes, 4096));
  }

  void Discard(std::byte* data, size_t bytes) override {
    // A refusal costs memory, no result.
    (void)madvise(data, bytes, MADV_DONTNEED);
  }

 private:
  uint32_t num_nodes_;
  uint32_t usable_cpus_;
};

}  // namespace

uint32_t ParseCpuMax(std::string_view text) {
  uint64_t quota = 0;
  uint64_t period = 0;
  const char* end = text.data() + text.size();
  const auto first = std::from_chars(text.data(), end, quota);
  if (first.ec != std::errc() || first.ptr == end || *first.ptr != ' ') {
    return 0;
  }
  const auto second = std::from_chars(first.ptr + 1, end, period);
  if (second.ec != std::errc() || quota == 0 || period == 0) {
    return 0;
  }
  return static_cast<uint32_t>(std::min<uint64_t>(CeilDiv(quota, period), UINT32_MAX));
}

std::unique_ptr<device::HostMemory> CreateHostMemory() {
  return std::make_unique<LinuxHostMemory>();
}

}  // namespace hipattn::host
