// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "host/ref/ref_attention.h"

#include "host/ref/ref_kv.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace hipattn::host::ref {

void AddToken(const device::BlockPool& pool, uint32_t slot, uint32_t token, TokenRows* rows) {
  const size_t old_size = rows->k.size();
  rows->k.resize(old_size + pool.head_dim);
  rows->v.resize(old_size + pool.head_dim);
  ReadToken(pool, slot, token, rows->k.data() + old_size, rows->v.data() + old_size);
}

void AttendRow(const RowConfig& config,
               const float* q,
               const TokenRows& rows,
               size_t num_tokens,
               void* out,
               size_t out_index,
               float* lse) {
  const size_t head_dim = config.head_dim;
  std::vector<double> scores(num_tokens);
  double max_score = -std::numeric_limits<double>::infinity();
  for (size_t token = 0; token < num_tokens; ++token) {
    const float* k = rows.k.data() + token * head_dim;
    double dot = 0;
    for (size_t dim = 0; dim < head_dim; ++dim) {
      dot += double{q[dim]} * double{k[dim]};
    }
    double score = dot * double{config.scale};
    if (config.softcap > 0) {
      score = double{config.softcap} * std::tanh(score / double{config.softcap});
    }
    scores[token] = rows.bias.empty() ? score : score + double{rows.bias[token]};
    max_score = std::max(max_score, scores[token]);
  }
  std::vector<double> sums(head_dim, 0.0);
  double* sum_values = sums.data();
  double sum_weights = 0;
  for (size_t token = 0; token < num_tokens; ++token) {
    const double weight = std::exp(scores[token] - max_score);
    const float* v = rows.v.data() + token * head_dim;
    sum_weights += weight;
    for (size_t dim = 0; dim < head_dim; ++dim) {
      sum_values[dim] += weight * double{v[dim]};
    }
  }
  for (size_t dim = 0; dim < head_dim; ++dim) {
    const double value = num_tokens == 0 ? 0.0 : sum_values[dim] / sum_weights;
    StoreElement(out, config.out_dtype, out_index + dim, static_cast<float>(value));
  }
  if (lse != nullptr) {
    *lse = static_cast<float>(max_score + (num_tokens == 0 ? 0.0 : std::log(sum_weights)));
  }
}

void AttendPart(const RowConfig& config,
                const float* q,
                const TokenRows& rows,
                size_t num_tokens,
                const RowPart& part,
                const RowResult& result) {
  if (part.state == nullptr) {
    AttendRow(config, q, rows, num_tokens, result.out, result.index, result.lse);
    return;
  }
  std::vector<float> o(config.head_dim);
  float lse = 0;
  RowConfig config_f32 = config;
  config_f32.out_dtype = DType::kF32;
  AttendRow(config_f32, q, rows, num_tokens, o.data(), 0, &lse);
  if (part.later && part.state[config.head_dim] > -std::numeric_limits<float>::infinity()) {
    const double before = double{part.state[config.head_dim]};
    const double top = std::max(before, double{lse});
    const double weight_before = std::exp(before - top);
    const double weight = std::exp(double{lse} - top);
    for (size_t dim = 0; dim < config.head_dim; ++dim) {
      const double sum = weight_before * double{part.state[dim]} + weight * double{o[dim]};
      o[dim] = static_cast<float>(sum / (weight_before + weight));
    }
    lse = static_cast<float>(top + std::log(weight_before + weight));
  }
  if (part.more) {
    std::copy(o.begin(), o.end(), part.state);
    part.state[config.head_dim] = lse;
    return;
  }
  for (size_t dim = 0; dim < config.head_dim; ++dim) {
    StoreElement(result.out, config.out_dtype, result.index + dim, o[dim]);
  }
  if (result.lse != nullptr) {
    *result.lse = lse;
  }
}

}  // namespace hipattn::host::ref
