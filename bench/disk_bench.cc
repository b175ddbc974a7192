// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// disk: scattered blocks of a file of 512 MB in the working directory are read past the page cache,
// 64 at a time as a fetch does it: one after the other, by threads, and by io_uring, in turn.
//   one_MB/s, threads_MB/s, ring_MB/s   from the medians; time is that of the ring
//   ring_cpu_%, threads_cpu_%           processor time of the process, of the time it took
#include "bench/line.h"
#include "bench/roof.h"
#include "offload/disk_store.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace hipattn::bench {
namespace {

constexpr uint64_t kFileBytes = uint64_t{512} << 20;
constexpr uint64_t kRunBytes = uint64_t{16} << 20;  // of one timed run
constexpr size_t kFetchBlocks = 64;
constexpr int kRounds = 9;
constexpr unsigned kWallClock = 2;  // threads, for Now

// As where the system refuses io_uring.
class NoRing : public offload::FileCalls {
 public:
  int MakeRing(int, unsigned, std::unique_ptr<offload::FileRing>*) override {
    errno = EPERM;
    return -1;
  }
};

// A store that is full of blocks.
struct FullStore {
  FullStore(offload::FileCalls* calls, uint64_t block_bytes) : content(64 * block_bytes) {
    store = std::move(offload::DiskStore::Create(calls, &budget, ".", block_bytes).value());
    std::vector<offload::DiskSource> sources;
    for (uint64_t written = 0; written < kFileBytes; written += content.size()) {
      sources.clear();
      for (size_t i = 0; i < kFetchBlocks; ++i) {
        extents.push_back(store->Take().value());
        sources.push_back({extents.back(), content.data() + i * block_bytes});
      }
      good = good && store->Write(sources).ok();
    }
  }

  std::vector<std::byte> content;
  offload::MemoryBudget budget{2 * kFileBytes, "disk"};
  std::unique_ptr<offload::DiskStore> store;
  std::vector<uint32_t> extents;
  bool good = true;
};

struct Cost {
  double seconds, cpu_seconds;
};

double CpuSeconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Reads other blocks in every call.
Cost ReadScattered(FullStore* full, uint64_t block_bytes, size_t at_once, std::mt19937_64* random) {
  std::vector<offload::DiskTarget> targets;
  const Cost before = {Now(kWallClock), CpuSeconds()};
  for (uint64_t read = 0; read < kRunBytes; read += at_once * block_bytes) {
    targets.clear();
    for (size_t i = 0; i < at_once; ++i) {
      const uint32_t extent = full->extents[(*random)() % full->extents.size()];
      targets.push_back({extent, full->content.data() + i * block_bytes});
    }
    full->good = full->good && full->store->Read(targets).ok();
  }
  return {Now(kWallClock) - before.seconds, CpuSeconds() - before.cpu_seconds};
}

double MedianSeconds(std::vector<Cost> costs) {
  std::nth_element(
      costs.begin(), costs.begin() + kRounds / 2, costs.end(), [](const Cost& a, const Cost& b) {
        return a.seconds < b.seconds;
      });
  return costs[kRounds / 2].seconds;
}

double CpuShare(const std::vector<Cost>& costs) {
  Cost sum = {0, 0};
  for (const Cost& cost : costs) {
    sum = {sum.seconds + cost.seconds, sum.cpu_seconds + cost.cpu_seconds};
  }
  return 100 * sum.cpu_seconds / sum.seconds;
}

void RunScattered(benchmark::State& state, uint64_t block_bytes) {
  NoRing no_ring;
  FullStore threads(&no_ring, block_bytes);
  FullStore ring(&offload::SystemFileCalls(), block_bytes);
  std::mt19937_64 random(7);
  std::vector<Cost> one;
  std::vector<Cost> by_threads;
  std::vector<Cost> by_ring;
  for (auto _ : state) {
    one.push_back(ReadScattered(&threads, block_bytes, 1, &random));
    by_threads.push_back(ReadScattered(&threads, block_bytes, kFetchBlocks, &random));
    by_ring.push_back(ReadScattered(&ring, block_bytes, kFetchBlocks, &random));
    state.SetIterationTime(by_ring.back().seconds);
  }
  if (!threads.good || !ring.good) {
    state.SkipWithError("the disk has failed");
    return;
  }
  const auto rate = [](const std::vector<Cost>& costs) {
    return static_cast<double>(kRunBytes) * 1e-6 / MedianSeconds(costs);
  };
  state.counters["one_MB/s"] = rate(one);
  state.counters["threads_MB/s"] = rate(by_threads);
  state.counters["ring_MB/s"] = rate(by_ring);
  state.counters["threads_cpu_%"] = CpuShare(by_threads);
  state.counters["ring_cpu_%"] = CpuShare(by_ring);
  state.SetLabel(ring.store->transport());
}

}  // namespace

void RegisterDisk() {
  for (const uint64_t kilobytes : {uint64_t{8}, uint64_t{16}}) {
    benchmark::RegisterBenchmark(
        ("disk/" + std::to_string(kilobytes) + "K").c_str(),
        [kilobytes](benchmark::State& state) { RunScattered(state, kilobytes << 10); })
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond)
        ->Iterations(kRounds);
  }
}

}  // namespace hipattn::bench
