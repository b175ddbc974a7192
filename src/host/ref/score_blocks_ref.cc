// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "host/ref/reference_table.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace hipattn::host::ref {
namespace {

constexpr double kNone = -std::numeric_limits<double>::infinity();

// scale * q.(mean key of a block)
double Score(const device::BlockScoreParams& params,
             const device::BlockScoreJob& job,
             const std::vector<double>& q,
             uint32_t block) {
  const uint32_t lane = block % device::kPanelTokens;
  const float* panel = job.panel + device::ColumnPanelElements(block - lane, params.head_dim);
  double dot = 0;
  for (uint32_t dim = 0; dim < params.head_dim; ++dim) {
    dot += q[dim] * double{panel[size_t{dim} * device::kPanelTokens + lane]};
  }
  return dot * double{params.scale};
}

double Pooled(const device::BlockScoreParams& params,
              const device::BlockScoreJob& job,
              uint32_t first_row,
              uint32_t block) {
  const uint32_t end = std::min(first_row + kRowTile, job.num_rows);
  if (uint64_t{block} * device::kPoolTokens >= uint64_t{job.first_pos} + end) {
    return kNone;
  }
  std::vector<double> mean(params.head_dim);
  for (uint32_t row = first_row; row < end; ++row) {
    for (uint32_t dim = 0; dim < params.head_dim; ++dim) {
      mean[dim] += double{job.q[row * params.q_row_stride + dim]} / kRowTile;
    }
  }
  return Score(params, job, mean, block);
}

double Mass(const device::BlockScoreParams& params,
            const device::BlockScoreJob& job,
            uint32_t first_row,
            uint32_t block) {
  std::vector<double> scores;
  for (uint32_t row = first_row; row < std::min(first_row + kRowTile, job.num_rows); ++row) {
    if (uint64_t{block + 1} * device::kPoolTokens <= uint64_t{job.first_pos} + row + 1) {
      const float* q = job.q + row * params.q_row_stride;
      scores.push_back(Score(params, job, std::vector<double>(q, q + params.head_dim), block));
    }
  }
  if (scores.empty()) {
    return kNone;
  }
  const double max = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (const double score : scores) {
    sum += std::exp(score - max);
  }
  return max + std::log(sum);
}

}  // namespace

void ScoreBlocks(const device::OpContext&, const device::BlockScoreParams& params) {
  for (uint32_t job_idx = 0; job_idx < params.num_jobs; ++job_idx) {
    const device::BlockScoreJob& job = params.jobs[job_idx];
    for (uint32_t row = 0; row < job.num_rows; row += kRowTile) {
      for (uint32_t block = 0; block < job.num_blocks; ++block) {
        const bool pooled = params.score == device::BlockScore::kPooled;
        const double score =
            pooled ? Pooled(params, job, row, block) : Mass(params, job, row, block);
        job.scores[uint64_t{row} / kRowTile * job.num_blocks + block] = static_cast<float>(score);
      }
    }
  }
}

}  // namespace hipattn::host::ref
