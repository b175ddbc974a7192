// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "vector_ops.h"

#include "isa_clones.h"
#include "quant_formats.h"

#include <cmath>
#include <cstdint>
#include <cstring>

namespace hipattn_run {
namespace {

// exp(x) for x in [-87, 87], clamped outside: x = n ln 2 + r, |r| <= ln 2 / 2, and a polynomial of
// degree 6 for exp(r) (truncation below 2e-7). Plain arithmetic, so that loops over it vectorise.
RUN_INLINE float Exp(float x) {
  constexpr float kLog2E = 1.44269504F;
  constexpr float kLn2High = 0.693359375F;
  constexpr float kLn2Low = -2.12194440e-4F;
  constexpr float kRoundToInteger = 12582912.0F;  // 1.5 * 2^23
  x = x < -87.0F ? -87.0F : x;
  x = x > 87.0F ? 87.0F : x;
  const float shifted = x * kLog2E + kRoundToInteger;
  const float n = shifted - kRoundToInteger;
  const float r = (x - n * kLn2High) - n * kLn2Low;
  float p = 1.0F / 720.0F;
  p = p * r + 1.0F / 120.0F;
  p = p * r + 1.0F / 24.0F;
  p = p * r + 1.0F / 6.0F;
  p = p * r + 0.5F;
  p = p * r + 1.0F;
  p = p * r + 1.0F;
  int32_t bits;
  std::memcpy(&bits, &shifted, sizeof(bits));
  const int32_t power_bits = static_cast<int32_t>(static_cast<uint32_t>(bits) << 23) + 0x3f800000;
  float power;
  std::memcpy(&power, &power_bits, sizeof(power));
  return p * power;
}

RUN_INLINE void RmsNormBody(
    const float* x, const float* weight, size_t size, float epsilon, float* out) {
  constexpr size_t kLanes = 16;
  float lanes[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    for (size_t j = 0; j < kLanes; ++j) {
      lanes[j] += x[i + j] * x[i + j];
    }
  }
  float sum = 0;
  for (const float lane : lanes) {
    sum += lane;
  }
  for (; i < size; ++i) {
    sum += x[i] * x[i];
  }
  const float scale = 1.0F / std::sqrt(sum / static_cast<float>(size) + epsilon);
  for (i = 0; i < size; ++i) {
    out[i] = x[i] * scale * weight[i];
  }
}

RUN_INLINE void SiluMultiplyBody(float* gate, const float* up, size_t size) {
  for (size_t i = 0; i < size; ++i) {
    gate[i] = gate[i] / (1.0F + Exp(-gate[i])) * up[i];
  }
}

RUN_INLINE void ExpOfPanelsBody(float* x, size_t panels, float shift, float* sums) {
  for (size_t p = 0; p < panels; ++p) {
    float* const lane = x + p * kPanelLanes;
    for (size_t j = 0; j < kPanelLanes; ++j) {
      lane[j] = Exp(lane[j] - shift);
    }
    float sum = 0;
    for (size_t j = 0; j < kPanelLanes; ++j) {
      sum += lane[j];
    }
    sums[p] = sum;
  }
}

RUN_INLINE void AddToBody(float* x, const float* y, size_t size) {
  for (size_t i = 0; i < size; ++i) {
    x[i] += y[i];
  }
}

}  // namespace

RUN_FOR_EACH_ISA(RmsNorm,
                 (const float* x, const float* weight, size_t size, float epsilon, float* out),
                 (x, weight, size, epsilon, out))
RUN_FOR_EACH_ISA(SiluMultiply, (float* gate, const float* up, size_t size), (gate, up, size))
RUN_FOR_EACH_ISA(ExpOfPanels,
                 (float* x, size_t panels, float shift, float* sums),
                 (x, panels, shift, sums))
RUN_FOR_EACH_ISA(AddTo, (float* x, const float* y, size_t size), (x, y, size))

}  // namespace hipattn_run
