// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// One way to read every weight format: 32 consecutive weights as small integers with one affine
// map, value = scale * w + offset. Q4_K and Q6_K multiply their sub-block scales into w, which
// stays below 2^12 in size. The functions are plain loops of fixed length and always inlined, so
// that each caller compiles them for its own instruction set.
#ifndef HIPATTN_EXAMPLES_RUN_QUANT_FORMATS_H_
#define HIPATTN_EXAMPLES_RUN_QUANT_FORMATS_H_

#include "tensor_type.h"

#include <cstddef>
#include <cstdint>
#include <cstring>

#define RUN_INLINE [[gnu::always_inline]] inline

namespace hipattn_run {

constexpr size_t kQuantBlock = 32;  // weights that share one scale and one activation scale

struct QuantBlock {
  int16_t w[kQuantBlock];
  float scale;
  float offset;
};

// IEEE half to float, every value but the payload of NaNs exactly.
RUN_INLINE float HalfToFloat(uint16_t half) {
  const uint32_t magnitude = (half & 0x7fffU) << 13;
  const uint32_t sign = (half & 0x8000U) << 16;
  const uint32_t infinite_bits = magnitude >= 0x0f800000U ? 0x70000000U : 0U;
  const uint32_t scaled_bits = magnitude | infinite_bits;
  float scaled;
  std::memcpy(&scaled, &scaled_bits, sizeof(scaled));
  // Moving the exponent bias by a product makes subnormals right as well.
  float value = infinite_bits != 0 ? scaled : scaled * 0x1p112F;
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  bits |= sign;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

RUN_INLINE float Bfloat16ToFloat(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof(value));
  return value;
}

RUN_INLINE uint16_t LoadUint16(const uint8_t* bytes) {
  uint16_t value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

RUN_INLINE float LoadHalf(const uint8_t* bytes) {
  return HalfToFloat(LoadUint16(bytes));
}

// The 6-bit scale and minimum of sub-block `index` (0..7) of a Q4_K block: twelve bytes hold the
// low six bits of the first four pairs, then four low and two high bits of the others.
RUN_INLINE void UnpackQ4KScale(const uint8_t* packed, size_t index, int* scale, int* minimum) {
  if (index < 4) {
    *scale = packed[index] & 63;
    *minimum = packed[index + 4] & 63;
  } else {
    *scale = (packed[index + 4] & 15) | ((packed[index - 4] >> 6) << 4);
    *minimum = (packed[index + 4] >> 4) | ((packed[index] >> 6) << 4);
  }
}

// Weights 32 * index ... 32 * index + 31 of a row.
template <TensorType Type>
RUN_INLINE void UnpackBlock(const uint8_t* row, size_t index, QuantBlock* block) {
  if constexpr (Type == TensorType::kQ8_0) {
    const uint8_t* bytes = row + index * 34;
    for (size_t i = 0; i < kQuantBlock; ++i) {
      block->w[i] = static_cast<int8_t>(bytes[2 + i]);
    }
    block->scale = LoadHalf(bytes);
    block->offset = 0;
  } else if constexpr (Type == TensorType::kQ4_0 || Type == TensorType::kQ4_1) {
    constexpr bool kHasOffset = Type == TensorType::kQ4_1;
    constexpr size_t kHeader = kHasOffset ? 4 : 2;
    const uint8_t* bytes = row + index * (kHeader + 16);
    for (size_t i = 0; i < 16; ++i) {
      block->w[i] = bytes[kHeader + i] & 15;
      block->w[i + 16] = static_cast<int16_t>(bytes[kHeader + i] >> 4);
    }
    block->scale = LoadHalf(bytes);
    block->offset = kHasOffset ? LoadHalf(bytes + 2) : -8 * block->scale;
  } else if constexpr (Type == TensorType::kQ4_K) {
    const uint8_t* bytes = row + index / 8 * 144;
    const size_t sub = index % 8;
    int scale;
    int minimum;
    UnpackQ4KScale(bytes + 4, sub, &scale, &minimum);
    const uint8_t* nibbles = bytes + 16 + sub / 2 * 32;
    const int shift = sub % 2 == 0 ? 0 : 4;
    for (size_t i = 0; i < kQuantBlock; ++i) {
      block->w[i] = static_cast<int16_t>(scale * ((nibbles[i] >> shift) & 15));
    }
    block->scale = LoadHalf(bytes);
    block->offset = -LoadHalf(bytes + 2) * static_cast<float>(minimum);
  } else {
    static_assert(Type == TensorType::kQ6_K);
    const uint8_t* bytes = row + index / 8 * 210;
    const size_t sub = index % 8;
    // Each half of 128 weights: 64 bytes of low nibbles, 32 bytes of high bit pairs.
    const uint8_t* low = bytes + sub / 4 * 64 + sub % 2 * 32;
    const uint8_t* high = bytes + 128 + sub / 4 * 32;
    const uint8_t* scales = bytes + 192 + sub * 2;
    const int low_shift = sub % 4 < 2 ? 0 : 4;
    const int high_shift = static_cast<int>(sub % 4) * 2;
    for (size_t i = 0; i < kQuantBlock; ++i) {
      const int q = ((low[i] >> low_shift) & 15) | (((high[i] >> high_shift) & 3) << 4);
      block->w[i] = static_cast<int16_t>(static_cast<int8_t>(scales[i / 16]) * (q - 32));
    }
    block->scale = LoadHalf(bytes + 208);
    block->offset = 0;
  }
}

}  // namespace hipattn_run

#endif  // HIPATTN_EXAMPLES_RUN_QUANT_FORMATS_H_
