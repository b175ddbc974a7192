// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What the benchmarks' inputs share.
#ifndef HIPATTN_BENCH_SHAPES_H_
#define HIPATTN_BENCH_SHAPES_H_

#include "base/dtype.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <random>
#include <string>
#include <vector>

namespace hipattn::bench {

inline constexpr int kIterations = 100;  // of about a millisecond: some are undisturbed
inline constexpr size_t kSliceBytes = size_t{16} << 20;

inline std::string ShapeName(uint32_t head_dim, uint32_t group, DType dtype) {
  return "/d:" + std::to_string(head_dim) + "/group:" + std::to_string(group) +
         "/dtype:" + DTypeName(dtype);
}

inline std::vector<float> Normals(size_t count) {
  std::mt19937 generator(1);
  std::normal_distribution<float> normal;
  std::vector<float> numbers(count);
  std::generate(numbers.begin(), numbers.end(), [&] { return normal(generator); });
  return numbers;
}

// 0 .. count - 1, in order or shuffled.
inline std::vector<uint32_t> Slots(size_t count, bool shuffled) {
  std::vector<uint32_t> slots(count);
  std::iota(slots.begin(), slots.end(), uint32_t{0});
  if (shuffled) {
    std::shuffle(slots.begin(), slots.end(), std::mt19937(1));
  }
  return slots;
}

}  // namespace hipattn::bench

#endif  // HIPATTN_BENCH_SHAPES_H_
