// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "bench/roof.h"

#include "base/dtype.h"
#include "base/int_math.h"
#include "host/executors.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>
#include <memory>
#include <utility>

namespace hipattn::bench {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kSequentialBytes = size_t{512} << 20;
constexpr size_t kSequentialBlock = size_t{64} << 10;
constexpr size_t kSequentialSlices = 64;
constexpr int kTries = 10;

using PeakLoop = uint64_t (*)(uint64_t rounds, float* sink);

double MeasureOps(PeakLoop loop, unsigned num_threads) {
  constexpr uint64_t kRounds = 200000;
  double best = 0;
  for (int i = 0; i < kTries; ++i) {
    std::vector<uint64_t> flops(num_threads);
    const double start = Now(num_threads);
    device::ParallelFor(ExecutorOf(num_threads), num_threads, [&](size_t task) {
      float sink[16];
      std::fill(sink, sink + 16, 0.5F);
      flops[task] = loop(kRounds, sink);
    });
    const double seconds = Now(num_threads) - start;
    best = std::max(best, static_cast<double>(flops[0] * kRounds * num_threads) / seconds);
  }
  return best;
}

double MeasureSequential(unsigned num_threads) {
  const std::byte* memory = BenchMemory(kSequentialBytes);
  std::vector<const std::byte*> blocks;
  for (size_t offset = 0; offset < kSequentialBytes; offset += kSequentialBlock) {
    blocks.push_back(memory + offset);
  }
  BareRead read(std::move(blocks), kSequentialBlock, kSequentialSlices, num_threads);
  read.Tune();
  double best = read.Run(0);
  for (size_t slice = 0; slice < 2 * kSequentialSlices; ++slice) {
    best = std::min(best, read.Run(slice % kSequentialSlices));
  }
  return static_cast<double>(kSequentialBytes / kSequentialSlices) / best;
}

}  // namespace

const RoofKernels& BestRoofKernels() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    if (__builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni")) {
      return *host::avx512bf16::Roof();
    }
    return *host::avx512::Roof();
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("f16c")) {
    return *host::avx2::Roof();
  }
#endif
  return *host::portable::Roof();
}

device::Executor& ExecutorOf(unsigned num_threads) {
  static std::map<unsigned, std::unique_ptr<device::Executor>> executors;
  std::unique_ptr<device::Executor>& executor = executors[num_threads];
  if (executor == nullptr) {
    executor = host::CreateExecutor(num_threads);
  }
  return *executor;
}

double Now(unsigned num_threads) {
  timespec time = {};
  clock_gettime(num_threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

const Peaks& PeaksOf(unsigned num_threads) {
  static std::map<unsigned, Peaks> peaks;
  const auto found = peaks.find(num_threads);
  if (found != peaks.end()) {
    return found->second;
  }
  return peaks[num_threads] = {MeasureOps(BestRoofKernels().multiply_add, num_threads),
                               MeasureOps(BestRoofKernels().dot_add, num_threads),
                               MeasureSequential(num_threads)};
}

std::byte* BenchMemory(size_t bytes) {
  static std::byte* memory = nullptr;
  static size_t size = 0;
  if (bytes <= size) {
    return memory;
  }
  const size_t rounded = RoundUp(bytes, kHugePage) + kHugePage;
  void* mapped = mmap(nullptr, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) {
    std::abort();
  }
  const auto address = RoundUp(reinterpret_cast<uintptr_t>(mapped), uintptr_t{kHugePage});
  memory = reinterpret_cast<std::byte*>(address);
  size = rounded - kHugePage;
  madvise(memory, size, MADV_HUGEPAGE);
  // Words whose halves are bf16 (f16) of magnitude near 1 and whose whole is such an f32.
  uint32_t state = 1;
  auto* words = reinterpret_cast<uint32_t*>(memory);
  for (size_t i = 0; i < size / sizeof(uint32_t); ++i) {
    state = state * 1664525U + 1013904223U;
    words[i] = (state & 0x81ff81ffU) | 0x3c003c00U;
  }
  return memory;
}

BareRead::BareRead(std::vector<const std::byte*> blocks,
                   size_t block_bytes,
                   size_t num_slices,
                   unsigned num_threads)
    : blocks_(std::move(blocks)),
      block_bytes_(block_bytes),
      num_slices_(num_slices),
      num_threads_(num_threads) {
  best_ = {nullptr, 0, block_bytes_, 1, 0, false};
}

void BareRead::Tune() {
  constexpr size_t kSlicesPerTry = 12;
  double best_seconds = 1e9;
  ReadList best = best_;
  size_t slice = 0;
  for (const int streams : {1, kReadStreams}) {
    for (const int distance : {0, 1, 2, 4, 6, 8, 12, 16, 24}) {
      for (const bool into_l2 : {false, true}) {
        best_.streams = streams;
        best_.distance = distance;
        best_.into_l2 = into_l2;
        double seconds = 1e9;
        for (size_t i = 0; i < kSlicesPerTry; ++i) {
          seconds = std::min(seconds, Run(slice++ % num_slices_));
        }
        if (seconds < best_seconds) {
          best_seconds = seconds;
          best = best_;
        }
      }
    }
  }
  best_ = best;
}

double BareRead::Run(size_t slice) const {
  const size_t slice_blocks = blocks_.size() / num_slices_;
  const double start = Now(num_threads_);
  device::ParallelFor(ExecutorOf(num_threads_), num_threads_, [&](size_t task) {
    const size_t first = slice * slice_blocks + slice_blocks * task / num_threads_;
    const size_t last = slice * slice_blocks + slice_blocks * (task + 1) / num_threads_;
    ReadList list = best_;
    list.blocks = blocks_.data() + first;
    list.count = last - first;
    float sink[16];
    BestRoofKernels().read(list, sink);
  });
  return Now(num_threads_) - start;
}

}  // namespace hipattn::bench
