// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#ifndef HIPATTN_TESTS_SUPPORT_ALIGNED_FLOATS_H_
#define HIPATTN_TESTS_SUPPORT_ALIGNED_FLOATS_H_

#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

namespace hipattn::test {

// An array of floats that begins at a multiple of 64 bytes.
class Floats {
 public:
  explicit Floats(size_t size, float fill = 0.0F) : memory_(size + 16, fill), size_(size) {
    const auto address = reinterpret_cast<uintptr_t>(memory_.data());
    offset_ = (64 - address % 64) % 64 / sizeof(float);
  }
  Floats(Floats&&) = default;  // the memory does not move
  Floats& operator=(Floats&&) = default;
  Floats(const Floats&) = delete;
  Floats& operator=(const Floats&) = delete;

  float* data() { return memory_.data() + offset_; }
  const float* data() const { return memory_.data() + offset_; }
  size_t size() const { return size_; }
  float& operator[](size_t i) { return data()[i]; }
  float operator[](size_t i) const { return data()[i]; }
  std::vector<float> copy() const { return {data(), data() + size_}; }
  std::span<float> span() { return {data(), size_}; }
  std::span<const float> span() const { return {data(), size_}; }

  void FillRandom(uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (size_t i = 0; i < size_; ++i) {
      data()[i] = normal(random);
    }
  }

 private:
  std::vector<float> memory_;
  size_t size_;
  size_t offset_ = 0;
};

}  // namespace hipattn::test

#endif  // HIPATTN_TESTS_SUPPORT_ALIGNED_FLOATS_H_
