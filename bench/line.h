// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// One line of hipattn-bench: a kernel timed in alternation with what it is compared with.
#ifndef HIPATTN_BENCH_LINE_H_
#define HIPATTN_BENCH_LINE_H_

#include "bench/roof.h"

#include <benchmark/benchmark.h>

#include <utility>
#include <vector>

namespace hipattn::bench {

// Work of one run of a kernel.
struct Work {
  double bytes;
  double flops;
  bool whole_numbers = false;  // the products are of int16
};

struct LineTimes {
  std::vector<double> kernel;
  std::vector<double> read;
};

// Sets, from the fastest twentieth of both,
//   GB/s, GFLOP/s       of the kernel
//   peak_%              of the multiply-add peak, of f32 or of int16
//   read_GB/s           of the bare read, read_of_seq_% its share of the sequential bandwidth
//   roof_%              time the roof needs / time of the kernel; the roof is the slower of the
//   bare
//                       read and the multiply-add peak
//   roof_median_%       the same from the medians
// Without times of reads the sequential bandwidth stands for them.
void SetCounters(benchmark::State& state, const Work& work, unsigned num_threads, LineTimes times);

// An iteration is one slice: kernel(slice), then the bare read of the slice furthest from it, so
// that neither finds the other's data in a cache. `work` is that of a slice.
template <typename Kernel>
void RunLine(benchmark::State& state,
             const Work& work,
             unsigned num_threads,
             const BareRead& read,
             Kernel&& kernel) {
  LineTimes times;
  const size_t num_slices = read.num_slices();
  size_t slice = 0;
  kernel(slice);  // workspaces are touched, threads awake
  for (auto _ : state) {
    slice = (slice + 1) % num_slices;
    const double start = Now(num_threads);
    kernel(slice);
    times.kernel.push_back(Now(num_threads) - start);
    state.SetIterationTime(times.kernel.back());
    times.read.push_back(read.Run((slice + num_slices / 2) % num_slices));
  }
  SetCounters(state, work, num_threads, std::move(times));
}

// The same for a kernel that has no list of blocks.
template <typename Kernel>
void RunLine(benchmark::State& state, const Work& work, unsigned num_threads, Kernel&& kernel) {
  LineTimes times;
  kernel();
  for (auto _ : state) {
    const double start = Now(num_threads);
    kernel();
    times.kernel.push_back(Now(num_threads) - start);
    state.SetIterationTime(times.kernel.back());
  }
  SetCounters(state, work, num_threads, std::move(times));
}

// Registers every benchmark of one file.
void RegisterDecode();
void RegisterAutoPrefill();
void RegisterSelectorPrefill();
void RegisterSearch();
void RegisterSketches();
void RegisterIndex();
void RegisterPrefill();
void RegisterSparsePrefill();
void RegisterMerge();
void RegisterSteps();
void RegisterTierSteps();
void RegisterSnapshots();
void RegisterGather();
void RegisterDisk();

}  // namespace hipattn::bench

#endif  // HIPATTN_BENCH_LINE_H_
