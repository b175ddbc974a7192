// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "host/ref/ref_kv.h"
#include "host/ref/reference_table.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace hipattn::host::ref {
namespace {

// The capped scores of row `row` against its keys.
std::vector<double> ScoresOf(const device::LinesParams& params,
                             const device::LinesJob& job,
                             uint32_t row) {
  const device::BlockPool& pool = params.pool;
  const float* q = job.q + row * params.q_row_stride;
  std::vector<double> scores;
  std::vector<float> k(pool.head_dim);
  for (uint32_t key = 0; key <= job.first_pos + row; ++key) {
    ReadToken(pool, job.slots[key / pool.block_tokens], key % pool.block_tokens, k.data(), nullptr);
    double dot = 0;
    for (uint32_t dim = 0; dim < pool.head_dim; ++dim) {
      dot += double{q[dim]} * double{k[dim]};
    }
    const double score = dot * double{params.scale};
    const double cap = double{params.softcap};
    scores.push_back(cap > 0 ? cap * std::tanh(score / cap) : score);
  }
  return scores;
}

}  // namespace

void EstimateLines(const device::OpContext&, const device::LinesParams& params) {
  for (uint32_t job_idx = 0; job_idx < params.num_jobs; ++job_idx) {
    const device::LinesJob& job = params.jobs[job_idx];
    const uint32_t num_keys = job.first_pos + job.num_rows;
    std::vector<double> vertical(num_keys);
    std::vector<double> slash(num_keys);
    for (uint32_t row = 0; row < job.num_rows; ++row) {
      const std::vector<double> scores = ScoresOf(params, job, row);
      const double max = *std::max_element(scores.begin(), scores.end());
      double sum = 0;
      for (const double score : scores) {
        sum += std::exp(score - max);
      }
      for (uint32_t key = 0; key < scores.size(); ++key) {
        const double weight = std::exp(scores[key] - max) / sum;
        vertical[key] += weight;
        slash[job.first_pos + row - key] += weight;
      }
      job.lse[row] = static_cast<float>(max + std::log(sum));
    }
    for (uint32_t i = 0; i < num_keys; ++i) {
      job.vertical[i] = static_cast<float>(vertical[i]);
      job.slash[i] = static_cast<float>(slash[i]);
    }
  }
}

}  // namespace hipattn::host::ref
