// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "host/host_memory_linux.h"

#include "base/int_math.h"
#include "host/page_arena.h"

#include <linux/mempolicy.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <iterator>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace hipattn::host {
namespace {

constexpr size_t kPageBytes = 4096;

std::string ReadLine(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// A set of CPUs of a machine of any size.
class CpuSet {
 public:
  explicit CpuSet(size_t cpus) : bytes_(CPU_ALLOC_SIZE(cpus)), set_(CPU_ALLOC(cpus)) {
    if (set_ != nullptr) {
      CPU_ZERO_S(bytes_, set_);
    }
  }
  ~CpuSet() { CPU_FREE(set_); }
  CpuSet(const CpuSet&) = delete;
  CpuSet& operator=(const CpuSet&) = delete;

  size_t bytes() const { return bytes_; }
  cpu_set_t* get() const { return set_; }

 private:
  size_t bytes_;
  cpu_set_t* set_;
};

std::vector<uint32_t> AffinityCpus() {
  // The mask of a machine with more CPUs than a cpu_set_t holds needs a larger set; the kernel says
  // EINVAL until it fits.
  for (size_t cpus = 1024; cpus <= (1 << 20); cpus *= 2) {
    const CpuSet set(cpus);
    if (set.get() == nullptr || sched_getaffinity(0, set.bytes(), set.get()) != 0) {
      continue;
    }
    std::vector<uint32_t> numbers;
    for (size_t cpu = 0; cpu < cpus; ++cpu) {
      if (CPU_ISSET_S(cpu, set.bytes(), set.get())) {
        numbers.push_back(static_cast<uint32_t>(cpu));
      }
    }
    return numbers;
  }
  return {};
}

PlacementCalls& SystemPlacementCalls() {
  static PlacementCalls calls;
  return calls;
}

// Calls touch(data, bytes) for pieces of a huge page, from several threads at once.
class Toucher {
 public:
  Toucher(std::byte* data, size_t bytes)
      : data_(data), bytes_(bytes), num_pieces_(CeilDiv(bytes, kHugePageBytes)) {}

  size_t num_pieces() const { return num_pieces_; }

  void TouchPiece(size_t piece) const {
    const size_t end = std::min(bytes_, (piece + 1) * kHugePageBytes);
    for (size_t at = piece * kHugePageBytes; at < end; at += kPageBytes) {
      *static_cast<volatile std::byte*>(data_ + at) = std::byte{0};
    }
  }

  void TouchWhatIsLeft() {
    for (size_t piece = next_++; piece < num_pieces_; piece = next_++) {
      TouchPiece(piece);
    }
  }

 private:
  std::byte* const data_;
  const size_t bytes_;
  const size_t num_pieces_;
  std::atomic<size_t> next_{0};
};

class LinuxHostMemory : public device::HostMemory {
 public:
  LinuxHostMemory(const HostMemoryOptions& options, Topology topology)
      : calls_(options.calls == nullptr ? SystemPlacementCalls() : *options.calls),
        nodes_folder_(options.nodes_folder),
        topology_(std::move(topology)) {
    const std::vector<uint32_t> cpus = AffinityCpus();
    usable_cpus_ = static_cast<uint32_t>(std::max<size_t>(cpus.size(), 1));
    const uint32_t quota = ParseCpuMax(ReadLine("/sys/fs/cgroup/cpu.max"));
    if (quota != 0) {
      usable_cpus_ = std::min(usable_cpus_, quota);
    }
    own_node_ = topology_.OnlyNode(cpus);
    if (topology_.nodes().size() > 1) {
      TryPolicy();
    }
  }

  uint32_t num_nodes() const override { return static_cast<uint32_t>(topology_.nodes().size()); }
  uint32_t usable_cpus() const override { return usable_cpus_; }
  int own_node() const override { return own_node_; }
  device::Placement placement() const override {
    return placement_.load(std::memory_order_relaxed);
  }
  uint64_t misplaced_bytes() const override {
    return misplaced_bytes_.load(std::memory_order_relaxed);
  }

  uint64_t available_bytes(int node) const override {
    if (node != kAnyNode && num_nodes() > 1) {
      std::ifstream file(StrCat(nodes_folder_, "/node", node, "/meminfo"));
      if (file) {
        return ParseNodeAvailable(std::string(std::istreambuf_iterator<char>(file), {}));
      }
    }
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
    if (!CheckedAdd(bytes, kHugePageBytes + kPageBytes - 1, &padded)) {
      return OutOfMemory("cannot map ", bytes, " bytes");
    }
    padded = padded / kPageBytes * kPageBytes;
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
    std::byte* const end = data + RoundUp<uint64_t>(bytes, kPageBytes);
    if (data > begin) {
      munmap(begin, static_cast<size_t>(data - begin));
    }
    if (begin + padded > end) {
      munmap(end, static_cast<size_t>(begin + padded - end));
    }
    // A wish; a system without huge pages serves ordinary ones.
    (void)madvise(data, bytes, MADV_HUGEPAGE);
    if (node != kAnyNode && placement() == device::Placement::kPolicy &&
        calls_.Prefer(data, RoundUp<uint64_t>(bytes, kPageBytes), node) != 0) {
      placement_.store(device::Placement::kFirstTouch, std::memory_order_relaxed);
    }
    return data;
  }

  void Unmap(std::byte* data, size_t bytes) override {
    munmap(data, RoundUp<uint64_t>(bytes, kPageBytes));
  }

  void Discard(std::byte* data, size_t bytes) override {
    // A refusal costs memory, no result.
    (void)madvise(data, bytes, MADV_DONTNEED);
  }

  void Touch(std::byte* data, size_t bytes, int node, device::Executor& executor) override {
    Toucher toucher(data, bytes);
    const bool chooses = node != kAnyNode && placement() != device::Placement::kOneNode;
    const bool has_room = !chooses || available_bytes(node) >= bytes;
    const NumaNode* const place = chooses ? topology_.FindNode(node) : nullptr;
    bool is_placed = has_room;
    if (chooses && placement() == device::Placement::kFirstTouch) {
      is_placed =
          TouchOn(place, executor.concurrency(), &toucher) == toucher.num_pieces() && has_room;
    } else {
      device::ParallelFor(
          executor, toucher.num_pieces(), [&](size_t piece) { toucher.TouchPiece(piece); });
    }
    if (!is_placed) {
      misplaced_bytes_.fetch_add(bytes, std::memory_order_relaxed);
    }
  }

 private:
  // Whether the system places pages at all.
  void TryPolicy() {
    void* const page =
        mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
      return;
    }
    const int refusal =
        calls_.Prefer(static_cast<std::byte*>(page), kPageBytes, topology_.nodes().front().number);
    placement_ = refusal == 0 ? device::Placement::kPolicy : device::Placement::kFirstTouch;
    munmap(page, kPageBytes);
  }

  // Touches by threads that run on the node; what they leave is touched here. Returns how many
  // pieces a thread on the node touched, or may have.
  size_t TouchOn(const NumaNode* node, unsigned num_threads, Toucher* toucher) {
    std::atomic<bool> runs_there{false};
    if (node != nullptr && !node->cpus.empty()) {
      const size_t count =
          std::min({size_t{num_threads}, node->cpus.size(), toucher->num_pieces()});
      std::vector<std::thread> threads;
      try {
        threads.reserve(count);
        for (size_t i = 0; i < count; ++i) {
          threads.emplace_back([&] {
            if (calls_.RunOn(node->cpus) == 0) {
              runs_there = true;
              toucher->TouchWhatIsLeft();
            }
          });
        }
      } catch (const std::exception&) {
        // The system has no thread, or no memory for one: fewer do as well.
      }
      for (std::thread& thread : threads) {
        thread.join();
      }
    }
    if (runs_there) {
      return toucher->num_pieces();
    }
    toucher->TouchWhatIsLeft();
    return 0;
  }

  PlacementCalls& calls_;
  const std::string nodes_folder_;
  const Topology topology_;
  uint32_t usable_cpus_ = 1;
  int own_node_ = kAnyNode;
  std::atomic<device::Placement> placement_{device::Placement::kOneNode};
  std::atomic<uint64_t> misplaced_bytes_{0};
};

}  // namespace

int PlacementCalls::Prefer(std::byte* data, size_t bytes, int node) {
  constexpr int kBits = 8 * sizeof(unsigned long);
  std::vector<unsigned long> mask(static_cast<size_t>(node / kBits) + 1);
  mask.back() = 1UL << (node % kBits);
  // The kernel takes one bit less than it is told.
  const long result =
      syscall(SYS_mbind, data, bytes, MPOL_PREFERRED, mask.data(), mask.size() * kBits + 1, 0U);
  return result == 0 ? 0 : errno;
}

int PlacementCalls::RunOn(std::span<const Cpu> cpus) {
  uint32_t last = 0;
  for (const Cpu& cpu : cpus) {
    last = std::max(last, cpu.number);
  }
  const CpuSet set(size_t{last} + 1);
  if (set.get() == nullptr) {
    return ENOMEM;
  }
  for (const Cpu& cpu : cpus) {
    CPU_SET_S(cpu.number, set.bytes(), set.get());
  }
  return sched_setaffinity(0, set.bytes(), set.get()) == 0 ? 0 : errno;
}

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

uint64_t ParseNodeAvailable(std::string_view text) {
  uint64_t kib = 0;
  for (const std::string_view key : {" MemFree:", " Inactive(file):"}) {
    const size_t found = text.find(key);
    if (found == std::string_view::npos) {
      continue;
    }
    const size_t digits = text.find_first_not_of(' ', found + key.size());
    uint64_t number = 0;
    if (digits != std::string_view::npos &&
        std::from_chars(text.data() + digits, text.data() + text.size(), number).ec ==
            std::errc()) {
      kib += number;
    }
  }
  return kib * 1024;
}

std::unique_ptr<device::HostMemory> CreateHostMemory(const HostMemoryOptions& options) {
  Result<Topology> topology = Topology::Load(options.topology);
  return std::make_unique<LinuxHostMemory>(
      options, topology.ok() ? std::move(topology.value()) : Topology::OfOneNode());
}

std::unique_ptr<device::HostMemory> CreateHostMemory() {
  const HostMemoryOptions options;
  return CreateHostMemory(options);
}

}  // namespace hipattn::host
