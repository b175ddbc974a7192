// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "tests/support/naive_model.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace hipattn::test {
namespace {

double RoundTo(DType dtype, double value) {
  const auto narrow = static_cast<float>(value);
  switch (dtype) {
    case DType::kF32:
      return narrow;
    case DType::kF16:
      return F16ToF32(F32ToF16(narrow));
    case DType::kBf16:
      return Bf16ToF32(F32ToBf16(narrow));
  }
  return value;
}

uint64_t Mix(uint64_t x) {  // splitmix64
  x += 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

// A sum of four uniform numbers, scaled to variance 1.
float Noise(uint64_t key) {
  const uint64_t bits = Mix(key);
  float sum = 0.0F;
  for (int i = 0; i < 4; ++i) {
    sum += static_cast<float>((bits >> (16 * i)) & 0xffffU) / 65536.0F - 0.5F;
  }
  return sum * 1.7320508F;
}

}  // namespace

std::vector<double> NaiveLayer::Rotated(const float* head, uint64_t position) const {
  const uint32_t dim = options_.geometry.head_dim;
  std::vector<double> rotated(head, head + dim);
  if (options_.rope_mode == 0) {
    return rotated;
  }
  for (uint32_t i = 0; i < dim / 2; ++i) {
    const double angle =
        static_cast<double>(position) * std::pow(options_.rope_theta, -2.0 * i / dim);
    const uint32_t x = options_.rope_mode == 1 ? i : 2 * i;
    const uint32_t y = options_.rope_mode == 1 ? i + dim / 2 : 2 * i + 1;
    rotated[x] = double{head[x]} * std::cos(angle) - double{head[y]} * std::sin(angle);
    rotated[y] = double{head[y]} * std::cos(angle) + double{head[x]} * std::sin(angle);
  }
  return rotated;
}

void NaiveLayer::Append(const float* k, const float* v, uint64_t count) {
  const Geometry& g = options_.geometry;
  for (uint64_t i = 0; i < count * g.kv_heads; ++i) {
    for (const double key : Rotated(k + i * g.head_dim, length_ + i / g.kv_heads)) {
      keys_.push_back(RoundTo(options_.kv_dtype, key));
    }
    for (uint32_t d = 0; d < g.head_dim; ++d) {
      values_.push_back(RoundTo(options_.kv_dtype, double{v[i * g.head_dim + d]}));
    }
  }
  length_ += count;
}

void NaiveLayer::Truncate(uint64_t length) {
  length_ = length;
  keys_.resize(length * options_.geometry.kv_row());
  values_.resize(length * options_.geometry.kv_row());
}

NaiveResult NaiveLayer::Attend(const float* q, uint64_t position, const Attended& attended) const {
  const Geometry& g = options_.geometry;
  const double scale =
      options_.scale > 0.0 ? options_.scale : 1.0 / std::sqrt(double{1} * g.head_dim);
  NaiveResult result{std::vector<double>(g.q_row(), 0.0),
                     std::vector<double>(g.q_heads, -std::numeric_limits<double>::infinity())};
  for (uint32_t h = 0; h < g.q_heads; ++h) {
    const uint32_t kv_head = h / g.group();
    const std::vector<double> query = Rotated(q + size_t{h} * g.head_dim, position);
    std::vector<uint64_t> tokens;
    std::vector<double> scores;
    for (uint64_t t = 0; t <= position; ++t) {
      if (!attended(kv_head, t)) {
        continue;
      }
      const double* key = &keys_[t * g.kv_row() + size_t{kv_head} * g.head_dim];
      double score = 0.0;
      for (uint32_t d = 0; d < g.head_dim; ++d) {
        score += query[d] * key[d];
      }
      score *= scale;
      tokens.push_back(t);
      scores.push_back(
          options_.softcap > 0.0 ? options_.softcap * std::tanh(score / options_.softcap) : score);
    }
    if (tokens.empty()) {
      continue;
    }
    const double most = *std::max_element(scores.begin(), scores.end());
    double sum = 0.0;
    double* out = &result.out[size_t{h} * g.head_dim];
    for (size_t i = 0; i < tokens.size(); ++i) {
      const double weight = std::exp(scores[i] - most);
      sum += weight;
      const double* value = &values_[tokens[i] * g.kv_row() + size_t{kv_head} * g.head_dim];
      for (uint32_t d = 0; d < g.head_dim; ++d) {
        out[d] += weight * value[d];
      }
    }
    for (uint32_t d = 0; d < g.head_dim; ++d) {
      out[d] /= sum;
    }
    result.lse[h] = most + std::log(sum);
  }
  return result;
}

Rows MakeRows(
    const Geometry& geometry, uint32_t seed, uint32_t layer, uint64_t begin, uint64_t count) {
  Rows rows(geometry, count);
  const uint64_t base = Mix((uint64_t{seed} << 32) + layer);
  const auto fill = [&](Floats& array, size_t row, uint64_t kind) {
    for (uint64_t r = 0; r < count; ++r) {
      const uint64_t key = Mix(base + (begin + r) * 4 + kind);
      for (size_t i = 0; i < row; ++i) {
        array[r * row + i] = Noise(key + i);
      }
    }
  };
  fill(rows.q, geometry.q_row(), 0);
  fill(rows.k, geometry.kv_row(), 1);
  fill(rows.v, geometry.kv_row(), 2);
  return rows;
}

double RelativeError(const float* got, const std::vector<double>& want, size_t row_size) {
  double worst = 0.0;
  for (size_t begin = 0; begin < want.size(); begin += row_size) {
    double largest = 0.0;
    double error = 0.0;
    for (size_t i = begin; i < begin + row_size; ++i) {
      const double difference = std::abs(double{got[i]} - want[i]);
      if (std::isnan(difference)) {
        return std::numeric_limits<double>::infinity();
      }
      largest = std::max(largest, std::abs(want[i]));
      error = std::max(error, difference);
    }
    worst = std::max(worst, error / std::max(largest, 1e-30));
  }
  return worst;
}

}  // namespace hipattn::test
