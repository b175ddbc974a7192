// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "base/int_math.h"
#include "host/ref/ref_kv.h"
#include "host/ref/reference_table.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace hipattn::host::ref {
namespace {

double CellScore(const device::AntidiagonalParams& params,
                 const device::AntidiagonalJob& job,
                 uint32_t row_cell,
                 uint32_t key_cell) {
  const device::BlockPool& pool = params.pool;
  std::vector<float> k(pool.head_dim);
  double dot = 0;
  for (uint32_t n = 0; n < params.stride; ++n) {
    const uint32_t row = (row_cell + 1) * params.stride - 1 - n;
    const uint32_t key = key_cell * params.stride + n;
    if (row >= job.num_rows || key >= job.first_pos + job.num_rows) {
      continue;
    }
    ReadToken(pool, job.slots[key / pool.block_tokens], key % pool.block_tokens, k.data(), nullptr);
    for (uint32_t dim = 0; dim < pool.head_dim; ++dim) {
      dot += double{job.q[row * params.q_row_stride + dim]} * double{k[dim]};
    }
  }
  return dot * double{params.scale} / params.stride;
}

}  // namespace

void ScoreAntidiagonals(const device::OpContext&, const device::AntidiagonalParams& params) {
  for (uint32_t job_idx = 0; job_idx < params.num_jobs; ++job_idx) {
    const device::AntidiagonalJob& job = params.jobs[job_idx];
    const uint32_t num_keys = job.first_pos + job.num_rows;
    const uint32_t num_blocks = CeilDiv(num_keys, device::kAntidiagonalBlock);
    const uint32_t block_cells = device::kAntidiagonalBlock / params.stride;
    std::vector<double> mass(size_t{CeilDiv(job.num_rows, device::kAntidiagonalBlock)} *
                             num_blocks);
    for (uint32_t cell = 0; cell < CeilDiv(job.num_rows, params.stride); ++cell) {
      const uint32_t row_end = std::min((cell + 1) * params.stride, job.num_rows);
      std::vector<double> scores;
      for (uint32_t key = 0; key * params.stride < job.first_pos + row_end; ++key) {
        scores.push_back(CellScore(params, job, cell, key));
      }
      const double max = *std::max_element(scores.begin(), scores.end());
      double sum = 0;
      for (const double score : scores) {
        sum += std::exp(score - max);
      }
      for (uint32_t key = 0; key < scores.size(); ++key) {
        mass[size_t{cell / block_cells} * num_blocks + key / block_cells] +=
            std::exp(scores[key] - max) / sum;
      }
    }
    std::transform(
        mass.begin(), mass.end(), job.mass, [](double share) { return static_cast<float>(share); });
  }
}

}  // namespace hipattn::host::ref
