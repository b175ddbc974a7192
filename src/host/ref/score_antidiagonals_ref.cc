// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "base/int_math.h"
#include "host/ref/log_sum.h"
#include "host/ref/ref_text.h"
#include "host/ref/reference_table.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace hipattn::host::ref {
namespace {

double CellScore(const device::AntidiagonalParams& params,
                 const device::AntidiagonalJob& job,
                 RefText& text,
                 uint32_t row_cell,
                 uint32_t key_cell) {
  double dot = 0;
  for (uint32_t n = 0; n < params.stride; ++n) {
    const uint32_t row = (row_cell + 1) * params.stride - 1 - n;
    const uint32_t key = key_cell * params.stride + n;
    if (row >= job.num_rows || key >= job.first_pos + job.num_rows) {
      continue;
    }
    const float* k = text.Key(key);
    for (uint32_t dim = 0; dim < params.pool.head_dim; ++dim) {
      dot += double{job.q[row * params.q_row_stride + dim]} * double{k[dim]};
    }
  }
  return dot * double{params.scale} / params.stride;
}

uint32_t NumKeys(const device::AntidiagonalJob& job) {
  return job.first_pos + job.num_rows;
}

// Logs of the sums of exp of the scores by row cell and block of keys of this part.
void AddPart(const device::AntidiagonalParams& params, const device::AntidiagonalJob& job) {
  const uint32_t num_blocks = CeilDiv(NumKeys(job), device::kAntidiagonalBlock);
  const uint32_t end_block =
      CeilDiv(std::min(job.key_end, NumKeys(job)), device::kAntidiagonalBlock);
  const uint32_t block_cells = device::kAntidiagonalBlock / params.stride;
  RefText text(params.pool, job.slots, NumKeys(job));
  for (uint32_t cell = 0; cell < CeilDiv(job.num_rows, params.stride); ++cell) {
    const uint32_t row_end = std::min((cell + 1) * params.stride, job.num_rows);
    const uint32_t seen = CeilDiv(job.first_pos + row_end, params.stride);
    for (uint32_t block = job.key_begin / device::kAntidiagonalBlock; block < end_block; ++block) {
      std::vector<double> scores;
      for (uint32_t key = block * block_cells; key < std::min((block + 1) * block_cells, seen);
           ++key) {
        scores.push_back(CellScore(params, job, text, cell, key));
      }
      job.workspace[size_t{cell} * num_blocks + block] = static_cast<float>(LogSum(scores));
    }
  }
}

void AddShares(const device::AntidiagonalParams& params, const device::AntidiagonalJob& job) {
  const uint32_t num_blocks = CeilDiv(NumKeys(job), device::kAntidiagonalBlock);
  const uint32_t block_cells = device::kAntidiagonalBlock / params.stride;
  std::vector<double> mass(size_t{CeilDiv(job.num_rows, device::kAntidiagonalBlock)} * num_blocks);
  for (uint32_t cell = 0; cell < CeilDiv(job.num_rows, params.stride); ++cell) {
    const float* logs = job.workspace + size_t{cell} * num_blocks;
    const double max = double{*std::max_element(logs, logs + num_blocks)};
    double sum = 0;
    for (uint32_t block = 0; block < num_blocks; ++block) {
      sum += std::exp(double{logs[block]} - max);
    }
    for (uint32_t block = 0; block < num_blocks; ++block) {
      mass[size_t{cell / block_cells} * num_blocks + block] +=
          std::exp(double{logs[block]} - max) / sum;
    }
  }
  std::transform(
      mass.begin(), mass.end(), job.mass, [](double share) { return static_cast<float>(share); });
}

}  // namespace

void ScoreAntidiagonals(const device::OpContext&, const device::AntidiagonalParams& params) {
  for (uint32_t job_idx = 0; job_idx < params.num_jobs; ++job_idx) {
    const device::AntidiagonalJob& job = params.jobs[job_idx];
    AddPart(params, job);
    if (job.key_end >= NumKeys(job)) {
      AddShares(params, job);
    }
  }
}

}  // namespace hipattn::host::ref
