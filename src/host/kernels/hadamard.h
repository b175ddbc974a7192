// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The rotation of sketched keys and of their queries (docs/search.md): Hadamard transforms of the
// powers of two that head_dim is the sum of, largest first, additions and subtractions in a fixed
// order, one multiplication at the end. Compiled once per instruction set; the bits are the same on
// every one.
#ifndef HIPATTN_HOST_KERNELS_HADAMARD_H_
#define HIPATTN_HOST_KERNELS_HADAMARD_H_

#include "host/vec/vec.h"

#include <cstdint>

namespace hipattn::host::HIPATTN_ISA {

// 1 / sqrt(8 * 2^i), rounded to f32.
static constexpr float kHadamardScale[] = {
    0x1.6a09e6p-2F, 0x1p-2F, 0x1.6a09e6p-3F, 0x1p-3F, 0x1.6a09e6p-4F, 0x1p-4F};

// fn(begin, size, scale) for every block of a vector of head_dim, a multiple of 8 up to 256.
template <typename Fn>
static inline void ForEachHadamardBlock(uint32_t head_dim, Fn&& fn) {
  uint32_t begin = 0;
  for (int i = 5; i >= 0; --i) {
    const uint32_t size = 8U << i;
    if ((head_dim & size) != 0) {
      fn(begin, size, kHadamardScale[i]);
      begin += size;
    }
  }
}

using Eight = float __attribute__((vector_size(32)));

// A step inside eights of dimensions: x[i] with x[i ^ kHalf].
template <int kHalf>
static inline void HadamardEights(uint32_t size, float* block) {
  constexpr auto kSign = [](int i) { return (i & kHalf) != 0 ? -1.0F : 1.0F; };
  const Eight sign = {
      kSign(0), kSign(1), kSign(2), kSign(3), kSign(4), kSign(5), kSign(6), kSign(7)};
  for (uint32_t first = 0; first < size; first += 8) {
    Eight x;
    __builtin_memcpy(&x, block + first, sizeof(x));
    const Eight other = __builtin_shufflevector(x,
                                                x,
                                                0 ^ kHalf,
                                                1 ^ kHalf,
                                                2 ^ kHalf,
                                                3 ^ kHalf,
                                                4 ^ kHalf,
                                                5 ^ kHalf,
                                                6 ^ kHalf,
                                                7 ^ kHalf);
    x = other + sign * x;
    __builtin_memcpy(block + first, &x, sizeof(x));
  }
}

// One vector.
static inline void HadamardRow(uint32_t head_dim, float* row) {
  ForEachHadamardBlock(head_dim, [&](uint32_t begin, uint32_t size, float scale) {
    float* block = row + begin;
    HadamardEights<1>(size, block);
    HadamardEights<2>(size, block);
    HadamardEights<4>(size, block);
    for (uint32_t half = 8; half < size; half *= 2) {
      for (uint32_t first = 0; first < size; first += 2 * half) {
        for (uint32_t i = first; i < first + half; i += 8) {
          Eight a;
          Eight b;
          __builtin_memcpy(&a, block + i, sizeof(a));
          __builtin_memcpy(&b, block + i + half, sizeof(b));
          const Eight sum = a + b;
          const Eight difference = a - b;
          __builtin_memcpy(block + i, &sum, sizeof(sum));
          __builtin_memcpy(block + i + half, &difference, sizeof(difference));
        }
      }
    }
    for (uint32_t i = 0; i < size; ++i) {
      block[i] = block[i] * scale;
    }
  });
}

// 16 vectors at once: rows[head_dim][16], lane t of row d being dimension d of vector t.
static inline void HadamardPanel(uint32_t head_dim, float* rows) {
  ForEachHadamardBlock(head_dim, [&](uint32_t begin, uint32_t size, float scale) {
    float* block = rows + begin * 16;
    for (uint32_t half = 1; half < size; half *= 2) {
      for (uint32_t first = 0; first < size; first += 2 * half) {
        for (uint32_t i = first * 16; i < (first + half) * 16; i += kLanes) {
          const VF a = Load(block + i);
          const VF b = Load(block + i + half * 16);
          Store(block + i, Add(a, b));
          Store(block + i + half * 16, Sub(a, b));
        }
      }
    }
    for (uint32_t i = 0; i < size * 16; i += kLanes) {
      Store(block + i, Mul(Load(block + i), Set1(scale)));
    }
  });
}

}  // namespace hipattn::host::HIPATTN_ISA

#endif  // HIPATTN_HOST_KERNELS_HADAMARD_H_
