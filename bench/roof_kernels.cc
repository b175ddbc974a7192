// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "bench/roof_kernels.h"

#include "host/vec/vec.h"

namespace hipattn::host::HIPATTN_ISA {
namespace {

constexpr int kChains = 12;  // independent sums: latency 4 or 5 times two units, with room
constexpr int kLineVectors = 64 / static_cast<int>(kLanes * sizeof(float));

uint64_t MultiplyAdd(uint64_t rounds, float* sink) {
  VF sum[kChains];
  HIPATTN_UNROLL
  for (int i = 0; i < kChains; ++i) {
    sum[i] = Set1(sink[i]);
  }
  const VF factor = Set1(sink[kChains]);
  for (uint64_t round = 0; round < rounds; ++round) {
    HIPATTN_UNROLL
    for (int i = 0; i < kChains; ++i) {
      sum[i] = MulAdd(sum[i], factor, factor);
    }
  }
  HIPATTN_UNROLL
  for (int i = 0; i < kChains; ++i) {
    sink[i] = ReduceAdd(sum[i]);
  }
  return uint64_t{2} * kChains * kLanes;
}

// No two products are the same, so that none can be taken out of the loop.
uint64_t DotAddShorts(uint64_t rounds, float* sink) {
  alignas(64) int16_t numbers[(kChains + 2) * 2 * kLanes];
  for (int i = 0; i < (kChains + 2) * 2 * kLanes; ++i) {
    numbers[i] = static_cast<int16_t>(i + static_cast<int>(sink[0]));
  }
  VI sum[kChains];
  VS factor[kChains];
  HIPATTN_UNROLL
  for (int i = 0; i < kChains; ++i) {
    sum[i] = ZeroInts();
    factor[i] = LoadShorts(numbers + i * 2 * kLanes);
  }
  for (uint64_t round = 0; round < rounds; ++round) {
    const VS other = LoadShorts(numbers + (kChains + round % 2) * 2 * kLanes);
    HIPATTN_UNROLL
    for (int i = 0; i < kChains; ++i) {
      sum[i] = DotAdd(factor[i], other, sum[i]);
    }
  }
  HIPATTN_UNROLL
  for (int i = 0; i < kChains; ++i) {
    sink[i] = ReduceAdd(ToFloat(sum[i]));
  }
  return uint64_t{4} * kChains * kLanes;
}

// kPrefetch: 0 none, 1 into L1, 2 into L2. The additions are cheap enough to hide: 1 a line with
// AVX-512, 2 with AVX2.
template <int kPrefetch, int kStreams>
size_t ReadBlocks(const bench::ReadList& list, size_t block, float* sink) {
  VF sum[kLineVectors];
  HIPATTN_UNROLL
  for (int i = 0; i < kLineVectors; ++i) {
    sum[i] = Zero();
  }
  for (; block + kStreams <= list.count; block += kStreams) {
    const std::byte* ahead[kStreams];
    for (int s = 0; s < kStreams; ++s) {
      const size_t own = block + static_cast<size_t>(s);
      const size_t next = own + static_cast<size_t>(list.distance);
      ahead[s] = list.blocks[next < list.count ? next : own];
    }
    for (size_t offset = 0; offset < list.block_bytes; offset += 64) {
      HIPATTN_UNROLL
      for (int s = 0; s < kStreams; ++s) {
        if constexpr (kPrefetch == 1) {
          PrefetchL1(ahead[s] + offset);
        } else if constexpr (kPrefetch == 2) {
          PrefetchL2(ahead[s] + offset);
        }
        const std::byte* data = list.blocks[block + static_cast<size_t>(s)] + offset;
        HIPATTN_UNROLL
        for (int i = 0; i < kLineVectors; ++i) {
          sum[i] = Add(sum[i], Load(reinterpret_cast<const float*>(data) + i * kLanes));
        }
      }
    }
  }
  for (int i = 0; i < kLineVectors; ++i) {
    sink[i] = ReduceAdd(sum[i]);
  }
  return block;
}

template <int kPrefetch>
void ReadList(const bench::ReadList& list, float* sink) {
  size_t block = 0;
  if (list.streams == bench::kReadStreams) {
    block = ReadBlocks<kPrefetch, bench::kReadStreams>(list, 0, sink);
  }
  ReadBlocks<kPrefetch, 1>(list, block, sink);
}

void Read(const bench::ReadList& list, float* sink) {
  if (list.distance == 0) {
    ReadList<0>(list, sink);
  } else if (list.into_l2) {
    ReadList<2>(list, sink);
  } else {
    ReadList<1>(list, sink);
  }
}

}  // namespace

const bench::RoofKernels* Roof() {
  static constexpr bench::RoofKernels kKernels = {MultiplyAdd, DotAddShorts, Read};
  return &kKernels;
}

}  // namespace hipattn::host::HIPATTN_ISA
