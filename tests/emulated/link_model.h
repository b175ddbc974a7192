// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// LinkModel: how long a copy takes on one direction of a bus.
#ifndef HIPATTN_TESTS_EMULATED_LINK_MODEL_H_
#define HIPATTN_TESTS_EMULATED_LINK_MODEL_H_

#include <cmath>
#include <cstddef>
#include <cstdint>

namespace hipattn::test {

// A submission takes latency_ns, then every piece its bytes at the rate of its size. 0 for a rate:
// no time at all. Bytes per nanosecond are GB/s.
struct LinkModel {
  int64_t latency_ns = 0;
  double bytes_per_ns = 0.0;
  // Copy engines move small pieces at a fraction of the link's rate (vLLM 42212: 4 to 7 GB/s below
  // 28 KiB where pieces above get 44).
  size_t small_below_bytes = 0;
  double small_bytes_per_ns = 0.0;

  int64_t PieceNs(size_t bytes) const {
    const double rate = bytes < small_below_bytes ? small_bytes_per_ns : bytes_per_ns;
    return rate > 0.0 ? static_cast<int64_t>(std::ceil(static_cast<double>(bytes) / rate)) : 0;
  }
};

// The directions, each a copy engine that does one submission after the other.
enum Link : uint32_t { kToDevice, kToHost, kOnDevice, kNumLinks };

// PCIe 4 x16 as the project's targets take it: 25 GB/s, 1.3 us, a sixth of that for pieces below
// 28 KiB.
inline constexpr LinkModel kPcie4 = {1300, 25.0, 28 << 10, 4.0};

}  // namespace hipattn::test

#endif  // HIPATTN_TESTS_EMULATED_LINK_MODEL_H_
