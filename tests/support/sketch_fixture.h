// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Memory for the sketches of one kv head's blocks, and what a sketch says in plain numbers.
#ifndef HIPATTN_TESTS_SUPPORT_SKETCH_FIXTURE_H_
#define HIPATTN_TESTS_SUPPORT_SKETCH_FIXTURE_H_

#include "device/params.h"
#include "tests/support/kv_fixture.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace hipattn::testing {

// x in the rotated basis, by the definition: block after block of the powers of two that its length
// is the sum of, y_i = sum_j (-1)^(ones of i & j) x_j / sqrt(size).
inline std::vector<double> Rotated(const float* x, uint32_t head_dim) {
  std::vector<double> y;
  uint32_t begin = 0;
  for (uint32_t size = 256; size > 0; size /= 2) {
    if ((head_dim & size) == 0) {
      continue;
    }
    for (uint32_t i = 0; i < size; ++i) {
      double sum = 0;
      for (uint32_t j = 0; j < size; ++j) {
        const bool odd = std::popcount(i & j) % 2 != 0;
        sum += double{x[begin + j]} * (odd ? -1 : 1);
      }
      y.push_back(sum / std::sqrt(static_cast<double>(size)));
    }
    begin += size;
  }
  return y;
}

// One sketch in plain numbers.
struct PlainSketch {
  int step_exponent = 0, base_exponent = 0;
  std::vector<double> step, base;  // [dims], times their powers of two
  std::vector<uint32_t> codes;     // [dims][16]
  std::vector<int> whole_step, whole_base;
};

// Every byte is 0xff at first.
class SketchStore {
 public:
  SketchStore(uint32_t head_dim, uint32_t num_sketches) : head_dim_(head_dim) {
    for (uint32_t i = 0; i < CeilDiv(num_sketches, uint32_t{1} << kChunkSketchesLog2); ++i) {
      chunks_.emplace_back(device::SketchBytes(head_dim) << kChunkSketchesLog2);
      std::memset(chunks_.back().data(), 0xff, chunks_.back().size());
      addresses_.push_back(chunks_.back().data());
    }
  }
  SketchStore(const SketchStore&) = delete;
  SketchStore& operator=(const SketchStore&) = delete;

  device::SketchTable table() const { return {addresses_.data(), kChunkSketchesLog2}; }
  std::vector<uint8_t> Bytes() const {
    std::vector<uint8_t> bytes;
    for (const AlignedBytes& chunk : chunks_) {
      const auto* data = reinterpret_cast<const uint8_t*>(chunk.data());
      bytes.insert(bytes.end(), data, data + chunk.size());
    }
    return bytes;
  }

  PlainSketch Read(uint32_t sketch) const {
    const uint32_t dims = device::SketchDims(head_dim_);
    const auto* data = reinterpret_cast<const uint8_t*>(
        device::SketchAddress(table(), device::SketchBytes(head_dim_), sketch));
    PlainSketch plain;
    for (uint32_t bit = 0; bit < 8; ++bit) {
      plain.step_exponent |= (data[bit] >> 7) << bit;
      plain.base_exponent |= (data[bit + 8] >> 7) << bit;
    }
    plain.step_exponent = static_cast<int8_t>(plain.step_exponent);
    plain.base_exponent = static_cast<int8_t>(plain.base_exponent);
    for (uint32_t d = 0; d < dims; ++d) {
      plain.whole_step.push_back(data[d] & 0x7f);
      plain.whole_base.push_back(static_cast<int8_t>(data[dims + d]));
      plain.step.push_back(std::ldexp(plain.whole_step[d], plain.step_exponent));
      plain.base.push_back(std::ldexp(plain.whole_base[d], plain.base_exponent));
      for (uint32_t t = 0; t < 16; ++t) {
        uint32_t row;
        std::memcpy(&row, data + 2 * dims + (d / 16 * 16 + t) * sizeof(row), sizeof(row));
        plain.codes.push_back(row >> (8 * (d % 4) + 2 * (d % 16 / 4)) & 3);
      }
    }
    return plain;
  }

 private:
  static constexpr uint32_t kChunkSketchesLog2 = 3;
  uint32_t head_dim_;
  std::vector<AlignedBytes> chunks_;
  std::vector<std::byte*> addresses_;
};

}  // namespace hipattn::testing

#endif  // HIPATTN_TESTS_SUPPORT_SKETCH_FIXTURE_H_
