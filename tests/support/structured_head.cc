// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "tests/support/structured_head.h"

#include "tests/support/kv_fixture.h"

#include <algorithm>
#include <cmath>
#include <complex>
#include <numbers>
#include <numeric>
#include <set>

namespace hipattn::testing {
namespace {

constexpr uint32_t kFrequencies = 40;
constexpr uint32_t kSinkDim = 2 * kFrequencies;
constexpr uint32_t kColumnDim = kSinkDim + 1;
constexpr uint32_t kNeedleDim = kSinkDim + 2;
constexpr uint32_t kTopicDim = kSinkDim + 3;
constexpr uint32_t kTopicDims = 16;
constexpr uint32_t kNoiseDim = kTopicDim + kTopicDims;
constexpr uint32_t kNoiseDims = StructuredHead::kDim - kNoiseDim;
constexpr uint32_t kBlock = 64;

// Of each frequency: what a query turns the position's phase by, summed over the offsets.
struct Positions {
  Positions(const HeadPlan& plan, Random* random) {
    for (uint32_t m = 0; m < kFrequencies; ++m) {
      const double place = (m + random->Uniform()) / kFrequencies;
      frequency[m] = std::numbers::pi / plan.slash_width * place;
      for (const uint32_t offset : plan.offsets) {
        turn[m] += std::polar(plan.slash / kFrequencies, -frequency[m] * offset);
      }
    }
  }

  void Write(uint32_t position, float* q, float* k) const {
    for (uint32_t m = 0; m < kFrequencies; ++m) {
      const std::complex<double> phase = std::polar(1.0, frequency[m] * position);
      const std::complex<double> query = phase * turn[m];
      q[2 * m] = static_cast<float>(query.real());
      q[2 * m + 1] = static_cast<float>(query.imag());
      k[2 * m] = static_cast<float>(phase.real());
      k[2 * m + 1] = static_cast<float>(phase.imag());
    }
  }

  double frequency[kFrequencies];
  std::complex<double> turn[kFrequencies];
};

// One unit vector per topic.
std::vector<float> TopicCodes(uint32_t num_topics, Random* random) {
  std::vector<float> codes = random->Normals(size_t{num_topics} * kTopicDims);
  for (size_t begin = 0; begin < codes.size(); begin += kTopicDims) {
    const auto first = codes.begin() + static_cast<std::ptrdiff_t>(begin);
    const float length = std::sqrt(std::inner_product(first, first + kTopicDims, first, 0.0F));
    std::for_each(first, first + kTopicDims, [=](float& x) { x /= length; });
  }
  return codes;
}

}  // namespace

StructuredHead::StructuredHead(const HeadPlan& plan)
    : num_tokens_(plan.num_tokens),
      q_(size_t{plan.num_tokens} * kDim),
      k_(q_.size()),
      v_(q_.size()) {
  Random random(plan.seed);
  const Positions positions(plan, &random);
  const std::vector<float> codes = TopicCodes(plan.num_topics, &random);
  std::set<int32_t> columns;
  while (columns.size() < plan.num_columns) {
    columns.insert(static_cast<int32_t>(kNumSinks + random.Below(num_tokens_ - kNumSinks)));
  }
  columns_.assign(columns.begin(), columns.end());
  const auto noise = static_cast<float>(std::sqrt(plan.noise / std::sqrt(double{kNoiseDims})));
  const float* topic = nullptr;
  for (uint32_t i = 0; i < num_tokens_; ++i) {
    float* q = q_.data() + size_t{i} * kDim;
    float* k = k_.data() + size_t{i} * kDim;
    positions.Write(i, q, k);
    q[kSinkDim] = static_cast<float>(plan.sink);
    k[kSinkDim] = i < kNumSinks ? 1.0F : 0.0F;
    q[kColumnDim] = static_cast<float>(plan.column);
    k[kColumnDim] = columns.contains(static_cast<int32_t>(i))
                        ? 0.8F + 0.2F * static_cast<float>(random.Uniform())
                        : 0.0F;
    q[kNeedleDim] = i + kNeedleRows >= num_tokens_ ? static_cast<float>(plan.needle_score) : 0.0F;
    k[kNeedleDim] = plan.needle == i ? 1.0F : 0.0F;
    topic = i % kBlock == 0 ? codes.data() + random.Below(plan.num_topics) * kTopicDims : topic;
    for (uint32_t d = 0; d < kTopicDims; ++d) {
      q[kTopicDim + d] = static_cast<float>(plan.topic) * topic[d];
      k[kTopicDim + d] = topic[d];
    }
    for (uint32_t d = 0; d < kNoiseDims; ++d) {
      q[kNoiseDim + d] = noise * random.Normal();
      k[kNoiseDim + d] = noise * random.Normal();
    }
    for (uint32_t d = 0; d < kDim; ++d) {
      v_[size_t{i} * kDim + d] = plan.needle == i ? kNeedleValue : random.Normal();
    }
  }
}

StructuredHead::RowMass StructuredHead::Mass(uint32_t row) const {
  std::vector<double> shares(row + 1);
  const float* q = q_.data() + size_t{row} * kDim;
  for (uint32_t key = 0; key <= row; ++key) {
    const float* k = k_.data() + size_t{key} * kDim;
    shares[key] = std::inner_product(q, q + kDim, k, 0.0);
  }
  const double most = *std::max_element(shares.begin(), shares.end());
  double sum = 0;
  for (double& share : shares) {
    share = std::exp(share - most);
    sum += share;
  }
  for (double& share : shares) {
    share /= sum;
  }
  return {shares, most + std::log(sum)};
}

StructuredHead::Sums StructuredHead::SumsOf(std::span<const uint32_t> rows) const {
  std::vector<double> vertical(num_tokens_);
  std::vector<double> slash(num_tokens_);
  for (const uint32_t row : rows) {
    const std::vector<double> mass = Mass(row).shares;
    for (uint32_t key = 0; key <= row; ++key) {
      vertical[key] += mass[key];
      slash[row - key] += mass[key];
    }
  }
  return {{vertical.begin(), vertical.end()}, {slash.begin(), slash.end()}};
}

std::vector<uint32_t> StructuredHead::LastRows(uint32_t count) const {
  std::vector<uint32_t> rows(count);
  std::iota(rows.begin(), rows.end(), num_tokens_ - count);
  return rows;
}

std::vector<double> StructuredHead::Out(std::span<const double> mass) const {
  std::vector<double> out(kDim);
  for (size_t key = 0; key < mass.size(); ++key) {
    for (uint32_t d = 0; d < kDim; ++d) {
      out[d] += mass[key] * v_[key * kDim + d];
    }
  }
  return out;
}

}  // namespace hipattn::testing
