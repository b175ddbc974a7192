// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The loops that measure the two roofs of one instruction set: multiply-adds in registers, and bare
// reads.
#ifndef HIPATTN_BENCH_ROOF_KERNELS_H_
#define HIPATTN_BENCH_ROOF_KERNELS_H_

#include <cstddef>
#include <cstdint>

namespace hipattn::bench {

// Blocks of equal size, every line of which is read once: `streams` blocks in lockstep, while the
// lines at the same places of the blocks `distance` further in the list are prefetched. distance 0:
// without prefetching.
struct ReadList {
  const std::byte* const* blocks;
  size_t count;
  size_t block_bytes;  // a multiple of 64
  int streams;         // 1 or kReadStreams
  int distance;
  bool into_l2;  // the prefetches go to L2 only
};
inline constexpr int kReadStreams = 8;

struct RoofKernels {
  // Runs `rounds` rounds of independent multiply-adds; returns the flops of one round.
  uint64_t (*multiply_add)(uint64_t rounds, float* sink);
  // The same of products of int16, summed as int32.
  uint64_t (*dot_add)(uint64_t rounds, float* sink);
  // Reads every byte of the list into registers.
  void (*read)(const ReadList& list, float* sink);
};

// Those of the best instruction set of this CPU.
const RoofKernels& BestRoofKernels();

}  // namespace hipattn::bench

namespace hipattn::host {
namespace portable {
const bench::RoofKernels* Roof();
}
namespace avx2 {
const bench::RoofKernels* Roof();
}
namespace avx512 {
const bench::RoofKernels* Roof();
}
namespace avx512bf16 {
const bench::RoofKernels* Roof();
}
}  // namespace hipattn::host

#endif  // HIPATTN_BENCH_ROOF_KERNELS_H_
