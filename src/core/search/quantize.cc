// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/search/quantize.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace hipattn::core {
namespace {

constexpr float kMaxStep = 127.0F;

std::vector<float> Dequantize(const QuantizedVector& x) {
  std::vector<float> values;
  for (const int8_t step : x.steps) {
    values.push_back(x.scale * static_cast<float>(step));
  }
  return values;
}

}  // namespace

QuantizedVector Quantize(std::span<const float> x) {
  QuantizedVector out;
  float largest = 0.0F;
  for (const float value : x) {
    largest = std::max(largest, std::abs(value));
  }
  out.scale = largest / kMaxStep;
  for (const float value : x) {
    const float step = out.scale > 0.0F ? std::nearbyint(value / out.scale) : 0.0F;
    out.steps.push_back(static_cast<int8_t>(std::clamp(step, -kMaxStep, kMaxStep)));
  }
  return out;
}

float ScoreQuantized(const QuantizedVector& m,
                     const QuantizedVector& w,
                     std::span<const float> rows) {
  const size_t dim = m.steps.size();
  float best = -std::numeric_limits<float>::infinity();
  for (size_t row = 0; row < rows.size(); row += dim) {
    float centre = 0.0F;
    float spread = 0.0F;
    for (size_t i = 0; i < dim; ++i) {
      centre += rows[row + i] * static_cast<float>(m.steps[i]);
    }
    for (size_t i = 0; i < w.steps.size(); ++i) {
      spread += std::abs(rows[row + i]) * static_cast<float>(w.steps[i]);
    }
    best = std::max(best, m.scale * centre + w.scale * spread);
  }
  return best;
}

NodeVectors ThroughInt8(const NodeVectors& vectors) {
  return {Dequantize(Quantize(vectors.m)), Dequantize(Quantize(vectors.w))};
}

}  // namespace hipattn::core
