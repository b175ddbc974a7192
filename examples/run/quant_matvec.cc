// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "quant_matvec.h"

#include "quant_formats.h"
#include "quant_matvec_isa.h"

#include <algorithm>
#include <cmath>

namespace hipattn_run {
namespace {

// 32 products of a weight below 2^12 and this stay below 2^31.
constexpr float kMaxQuant = 16000.0F;

template <TensorType Type>
float DotQuantized(const uint8_t* row, const Activation& x) {
  float sum = 0;
  QuantBlock block = {};
  for (size_t b = 0; b < x.blocks.size(); ++b) {
    UnpackBlock<Type>(row, b, &block);
    const int16_t* quants = x.quants.data() + b * kQuantBlock;
    int32_t dot = 0;
    for (size_t i = 0; i < kQuantBlock; ++i) {
      dot += block.w[i] * quants[i];
    }
    sum +=
        block.scale * x.blocks[b].scale * static_cast<float>(dot) + block.offset * x.blocks[b].sum;
  }
  return sum;
}

float DotFloat(TensorType type, const uint8_t* row, const Activation& x) {
  double sum = 0;
  for (size_t i = 0; i < x.values.size(); ++i) {
    float weight;
    if (type == TensorType::kF32) {
      std::memcpy(&weight, row + 4 * i, sizeof(weight));
    } else {
      const uint16_t bits = LoadUint16(row + 2 * i);
      weight = type == TensorType::kF16 ? HalfToFloat(bits) : Bfloat16ToFloat(bits);
    }
    sum += static_cast<double>(weight) * static_cast<double>(x.values[i]);
  }
  return static_cast<float>(sum);
}

float DotRow(TensorType type, const uint8_t* row, const Activation& x) {
  switch (type) {
    case TensorType::kQ8_0:
      return DotQuantized<TensorType::kQ8_0>(row, x);
    case TensorType::kQ4_0:
      return DotQuantized<TensorType::kQ4_0>(row, x);
    case TensorType::kQ4_1:
      return DotQuantized<TensorType::kQ4_1>(row, x);
    case TensorType::kQ4_K:
      return DotQuantized<TensorType::kQ4_K>(row, x);
    case TensorType::kQ6_K:
      return DotQuantized<TensorType::kQ6_K>(row, x);
    default:
      return DotFloat(type, row, x);
  }
}

MatvecIsa BestIsa() {
  static const MatvecIsa best =
      IsSupported(MatvecIsa::kAvx2) ? MatvecIsa::kAvx2 : MatvecIsa::kPortable;
  return best;
}

}  // namespace

void MultiplyRowsPortable(const WeightRows& rows, const Activation& x, float* y) {
  const size_t row_bytes = RowBytes(rows.type, rows.columns);
  for (size_t r = rows.begin; r < rows.end; ++r) {
    y[r - rows.begin] = DotRow(rows.type, rows.data + r * row_bytes, x);
  }
}

void QuantizeActivation(std::span<const float> values, Activation* activation) {
  const size_t blocks = (values.size() + kQuantBlock - 1) / kQuantBlock;
  activation->values = values;
  activation->quants.assign(blocks * kQuantBlock, 0);
  activation->blocks.resize(blocks);
  for (size_t b = 0; b < blocks; ++b) {
    const std::span<const float> part =
        values.subspan(b * kQuantBlock, std::min(kQuantBlock, values.size() - b * kQuantBlock));
    float largest = 0;
    for (const float value : part) {
      largest = std::max(largest, std::abs(value));
    }
    const float inverse = largest > 0 ? kMaxQuant / largest : 0;
    int32_t sum = 0;
    for (size_t i = 0; i < part.size(); ++i) {
      const int32_t quant = static_cast<int32_t>(std::lrintf(part[i] * inverse));
      activation->quants[b * kQuantBlock + i] = static_cast<int16_t>(quant);
      sum += quant;
    }
    const float scale = largest / kMaxQuant;
    activation->blocks[b] = {scale, scale * static_cast<float>(sum)};
  }
}

bool IsSupported(MatvecIsa isa) {
#if defined(__x86_64__)
  if (isa == MatvecIsa::kAvx2) {
    // Every processor with AVX2 has F16C, which clang 16 cannot be asked about.
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  }
#endif
  return isa == MatvecIsa::kPortable;
}

void MultiplyRowsWith(MatvecIsa isa, const WeightRows& rows, const Activation& x, float* y) {
#if defined(__x86_64__)
  if (isa == MatvecIsa::kAvx2) {
    return MultiplyRowsAvx2(rows, x, y);
  }
#endif
  static_cast<void>(isa);
  MultiplyRowsPortable(rows, x, y);
}

void MultiplyRows(const WeightRows& rows, const Activation& x, float* y) {
  MultiplyRowsWith(BestIsa(), rows, x, y);
}

}  // namespace hipattn_run
