// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What the references of write_sketches and score_sketches share: the Hadamard rotation and where a
// sketch lies (docs/search.md). All of it in f32, every step rounded, in the order that stands
// there.
#ifndef HIPATTN_HOST_REF_REF_SKETCH_H_
#define HIPATTN_HOST_REF_REF_SKETCH_H_

#include "device/params.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace hipattn::host::ref {

// An orthonormal Hadamard transform of a power of two of numbers, in Sylvester's order.
inline void HadamardBlock(float* block, size_t size) {
  for (size_t half = 1; half < size; half *= 2) {
    for (size_t i = 0; i < size; ++i) {
      if ((i & half) == 0) {
        const float a = block[i];
        const float b = block[i + half];
        block[i] = a + b;
        block[i + half] = a - b;
      }
    }
  }
  const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(size)));
  for (size_t i = 0; i < size; ++i) {
    block[i] = block[i] * scale;
  }
}

// x = H x: one block for each of the powers of two that head_dim is the sum of, largest first.
inline void HadamardRotate(std::vector<float>* x) {
  size_t begin = 0;
  for (size_t size = size_t{1} << 31; size > 0; size /= 2) {
    if ((x->size() & size) != 0) {
      HadamardBlock(x->data() + begin, size);
      begin += size;
    }
  }
}

// The sum of 16 numbers: halves against halves, then quarters, and so on.
inline float SumOf16(const float (&x)[16]) {
  float sum[16];
  for (size_t i = 0; i < 16; ++i) {
    sum[i] = x[i];
  }
  for (size_t half = 8; half > 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) {
      sum[i] = sum[i] + sum[i + half];
    }
  }
  return sum[0];
}

// The nearest whole number of x / scale, ties to even, in [-limit, limit]; NaN gives -limit.
inline int32_t ToSteps(float x, float scale, float limit) {
  const float step = std::nearbyint(x / (scale > 0 ? scale : 1.0F));
  const float above = step > -limit ? step : -limit;
  return static_cast<int32_t>(above < limit ? above : limit);
}

// The least e with x <= 127 * 2^e, cut to what a sketch may hold; the least of all for 0.
inline int32_t ExponentOf(float x) {
  int32_t exponent = device::kLeastSketchExponent;
  while (exponent < device::kMostSketchExponent && x > std::ldexp(127.0F, exponent)) {
    ++exponent;
  }
  return exponent;
}

// One sketch.
class SketchView {
 public:
  SketchView(const device::SketchTable& table, uint32_t head_dim, uint32_t sketch)
      : dims_(device::SketchDims(head_dim)),
        data_(reinterpret_cast<uint8_t*>(
            device::SketchAddress(table, device::SketchBytes(head_dim), sketch))) {}

  int32_t step_exponent() const { return Exponent(0); }
  int32_t base_exponent() const { return Exponent(8); }
  int32_t step(size_t dim) const { return data_[dim] & 0x7f; }
  int32_t base(size_t dim) const { return static_cast<int8_t>(data_[dims_ + dim]); }
  uint32_t code(size_t dim, size_t token) const { return Codes(dim, token) >> Shift(dim) & 3U; }

  // Steps before exponents.
  void set_step(size_t dim, int32_t step) const { data_[dim] = static_cast<uint8_t>(step); }
  void set_exponents(int32_t step, int32_t base) const {
    for (size_t bit = 0; bit < 8; ++bit) {
      data_[bit] |= static_cast<uint8_t>((static_cast<uint32_t>(step) >> bit & 1U) << 7);
      data_[bit + 8] |= static_cast<uint8_t>((static_cast<uint32_t>(base) >> bit & 1U) << 7);
    }
  }
  void set_base(size_t dim, int32_t base) const { data_[dims_ + dim] = static_cast<uint8_t>(base); }
  void set_code(size_t dim, size_t token, uint32_t code) const {
    uint32_t& codes = Codes(dim, token);
    codes = (codes & ~(3U << Shift(dim))) | code << Shift(dim);
  }
  size_t dims() const { return dims_; }

 private:
  static size_t Shift(size_t dim) { return dim % 4 * 8 + dim % 16 / 4 * 2; }
  int32_t Exponent(size_t first) const {
    uint32_t bits = 0;
    for (size_t bit = 0; bit < 8; ++bit) {
      bits |= static_cast<uint32_t>(data_[first + bit] >> 7) << bit;
    }
    return static_cast<int8_t>(bits);
  }
  uint32_t& Codes(size_t dim, size_t token) const {
    return reinterpret_cast<uint32_t*>(data_ + 2 * dims_)[dim / 16 * 16 + token];
  }

  size_t dims_;
  uint8_t* data_;
};

}  // namespace hipattn::host::ref

#endif  // HIPATTN_HOST_REF_REF_SKETCH_H_
