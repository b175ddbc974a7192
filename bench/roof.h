// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What this machine can do at most, measured in the same run as what is compared with it: the
// multiply-add peak, the sequential read bandwidth, and the bare read of a given list of blocks
// with the prefetching that suits it best.
#ifndef HIPATTN_BENCH_ROOF_H_
#define HIPATTN_BENCH_ROOF_H_

#include "bench/roof_kernels.h"
#include "device/executor.h"

#include <cstddef>
#include <vector>

namespace hipattn::bench {

// The executor of that many threads; it lives as long as the program.
device::Executor& ExecutorOf(unsigned num_threads);

// Seconds on a clock that suits work on that many threads: for one, the calling thread's CPU time,
// which does not count what other programs take; for more, the wall clock.
double Now(unsigned num_threads);

struct Peaks {
  double flops;             // f32 multiply-adds, counted as 2, per second
  double short_ops;         // int16 multiply-adds, counted as 2, per second
  double sequential_bytes;  // read per second
};

// Measured once per number of threads, over `memory`.
const Peaks& PeaksOf(unsigned num_threads);

// Memory of at least `bytes` on huge pages where the system gives them, filled with numbers that
// are finite in every storage type. The largest request stays as long as the program; a later call
// may return the same memory.
std::byte* BenchMemory(size_t bytes);

// A list of blocks of one size, cut into equal slices that are read bare.
class BareRead {
 public:
  BareRead(std::vector<const std::byte*> blocks,
           size_t block_bytes,
           size_t num_slices,
           unsigned num_threads);

  // Tries numbers of streams, prefetch distances and targets, and keeps the fastest for Run.
  void Tune();
  // Reads one slice once; returns the seconds it took.
  double Run(size_t slice) const;
  size_t num_slices() const { return num_slices_; }

 private:
  std::vector<const std::byte*> blocks_;
  size_t block_bytes_;
  size_t num_slices_;
  unsigned num_threads_;
  ReadList best_ = {};
};

}  // namespace hipattn::bench

#endif  // HIPATTN_BENCH_ROOF_H_
