// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "host/ref/ref_summary.h"
#include "host/ref/reference_table.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace hipattn::host::ref {
namespace {

double ScoreNode(const SummaryGroup& summaries, uint32_t child, const float* q, uint32_t head_dim) {
  double dot_m = 0;
  double dot_w = 0;
  for (uint32_t dim = 0; dim < head_dim; ++dim) {
    dot_m += double{q[dim]} * summaries.m(child, dim);
    dot_w += std::fabs(double{q[dim]}) * summaries.w(child, dim);
  }
  return summaries.scale_m(child) * dot_m + summaries.scale_w(child) * dot_w;
}

// Best of all rows and heads.
double BestScore(const device::QueryRows& rows,
                 uint32_t head_dim,
                 const SummaryGroup& summaries,
                 uint32_t child) {
  double best = -std::numeric_limits<double>::infinity();
  for (uint32_t row = 0; row < rows.num_rows; ++row) {
    for (uint32_t head = 0; head < rows.group; ++head) {
      const float* q = rows.q + row * rows.row_stride + size_t{head} * head_dim;
      best = std::max(best, ScoreNode(summaries, child, q, head_dim));
    }
  }
  return best;
}

void ScoreJobNodes(const device::ScoreParams& params, const device::ScoreJob& job) {
  for (uint32_t i = 0; i < job.num_groups; ++i) {
    const SummaryGroup summaries(
        job.level, params.head_dim, params.has_spread != 0, job.groups[i].index);
    for (uint32_t child = 0; child < kFanOut; ++child) {
      if ((job.groups[i].mask >> child & 1U) != 0) {
        job.scores[size_t{i} * kFanOut + child] =
            static_cast<float>(BestScore(job.rows, params.head_dim, summaries, child));
      }
    }
  }
}

}  // namespace

void ScoreNodes(const device::OpContext&, const device::ScoreParams& params) {
  for (uint32_t job_idx = 0; job_idx < params.num_jobs; ++job_idx) {
    ScoreJobNodes(params, params.jobs[job_idx]);
  }
}

}  // namespace hipattn::host::ref
