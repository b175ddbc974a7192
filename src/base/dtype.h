// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Element types and their scalar conversions (round to nearest even). The numbers are those of
// hipattn.h.
#ifndef HIPATTN_BASE_DTYPE_H_
#define HIPATTN_BASE_DTYPE_H_

#include <bit>
#include <cstddef>
#include <cstdint>

namespace hipattn {

enum class DType : uint32_t { kF32 = 1, kF16 = 2, kBf16 = 3 };

// Bytes of one element.
constexpr size_t DTypeBytes(DType dtype) {
  return dtype == DType::kF32 ? 4 : 2;
}

constexpr const char* DTypeName(DType dtype) {
  return dtype == DType::kF32 ? "f32" : dtype == DType::kF16 ? "f16" : "bf16";
}

constexpr float Bf16ToF32(uint16_t bits) {
  return std::bit_cast<float>(uint32_t{bits} << 16);
}

constexpr uint16_t F32ToBf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) {  // NaN stays NaN: rounding could carry into infinity
    return static_cast<uint16_t>((bits >> 16) | 0x40U);
  }
  return static_cast<uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

constexpr float F16ToF32(uint16_t half) {
  const uint32_t sign = uint32_t{half & 0x8000U} << 16;
  const uint32_t exponent = (half >> 10) & 0x1fU;
  const uint32_t mantissa = half & 0x3ffU;
  if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24 is exact in f32
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
  }
  const uint32_t wide = exponent == 31 ? 255U : exponent + 112U;
  return std::bit_cast<float>(sign | (wide << 23) | (mantissa << 13));
}

constexpr uint16_t F32ToF16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000U);
  const uint32_t magnitude = bits & 0x7fffffffU;
  if (magnitude > 0x7f800000U) {
    return static_cast<uint16_t>(sign | 0x7e00U | ((magnitude >> 13) & 0x3ffU));
  }
  if (magnitude >= 0x477ff000U) {  // rounds to 65536 or more
    return static_cast<uint16_t>(sign | 0x7c00U);
  }
  if (magnitude < 0x38800000U) {  // subnormal half: adding 0.5 aligns the mantissa and rounds it
    const float shifted = std::bit_cast<float>(magnitude) + 0.5F;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000U));
  }
  const uint32_t rounded = magnitude + 0xfffU + ((magnitude >> 13) & 1U);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000U) >> 13));
}

// Element i of an array of `dtype`, widened.
inline float LoadElement(const void* array, DType dtype, size_t i) {
  switch (dtype) {
    case DType::kF32:
      return static_cast<const float*>(array)[i];
    case DType::kF16:
      return F16ToF32(static_cast<const uint16_t*>(array)[i]);
    case DType::kBf16:
      return Bf16ToF32(static_cast<const uint16_t*>(array)[i]);
  }
  return 0.0F;
}

// Sets element i of an array of `dtype` to `value`, rounded.
inline void StoreElement(void* array, DType dtype, size_t i, float value) {
  switch (dtype) {
    case DType::kF32:
      static_cast<float*>(array)[i] = value;
      return;
    case DType::kF16:
      static_cast<uint16_t*>(array)[i] = F32ToF16(value);
      return;
    case DType::kBf16:
      static_cast<uint16_t*>(array)[i] = F32ToBf16(value);
      return;
  }
}

}  // namespace hipattn

#endif  // HIPATTN_BASE_DTYPE_H_
