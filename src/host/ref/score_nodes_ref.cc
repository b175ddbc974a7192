// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "base/fixed_point.h"
#include "host/ref/ref_summary.h"
#include "host/ref/reference_table.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <vector>

namespace hipattn::host::ref {
namespace {

struct WholeQuery {
  std::vector<int32_t> steps;
  float step;
};

WholeQuery MakeWhole(const float* q, uint32_t head_dim) {
  float largest = 0;
  for (uint32_t dim = 0; dim < head_dim; ++dim) {
    largest = std::fabs(q[dim]) > largest ? std::fabs(q[dim]) : largest;
  }
  const Int16Step step = StepOfInt16(largest);
  WholeQuery whole{{}, step.step};
  for (uint32_t dim = 0; dim < head_dim; ++dim) {
    const float value = q[dim] * step.inverse;
    const float above = value > -kMaxInt16Steps ? value : -kMaxInt16Steps;  // NaN, too
    whole.steps.push_back(
        static_cast<int32_t>(std::nearbyint(above < kMaxInt16Steps ? above : kMaxInt16Steps)));
  }
  return whole;
}

float ScoreNode(const SummaryGroup& summaries,
                bool has_spread,
                uint32_t child,
                const WholeQuery& q) {
  int32_t sums[2] = {};
  for (uint32_t dim = 0; dim < q.steps.size(); ++dim) {
    sums[has_spread ? 0 : dim / 2 % 2] += q.steps[dim] * summaries.m(child, dim);
    sums[1] += std::abs(q.steps[dim]) * summaries.w(child, dim);
  }
  const float first = static_cast<float>(sums[0]) * summaries.scale_m(child);
  const float second = static_cast<float>(sums[1]) * summaries.scale_w(child);
  return (first + second) * q.step;
}

void ScoreJobNodes(const device::ScoreParams& params, const device::ScoreJob& job) {
  std::vector<WholeQuery> queries;
  for (uint32_t row = 0; row < job.rows.num_rows; ++row) {
    for (uint32_t head = 0; head < job.rows.group; ++head) {
      queries.push_back(
          MakeWhole(job.rows.q + row * job.rows.row_stride + size_t{head} * params.head_dim,
                    params.head_dim));
    }
  }
  const bool has_spread = params.has_spread != 0;
  for (uint32_t i = 0; i < job.num_groups; ++i) {
    const SummaryGroup summaries(job.level, params.head_dim, has_spread, job.groups[i].index);
    for (uint32_t child = 0; child < kFanOut; ++child) {
      if ((job.groups[i].mask >> child & 1U) == 0) {
        continue;
      }
      float best = -std::numeric_limits<float>::infinity();
      for (const WholeQuery& q : queries) {
        best = std::max(best, ScoreNode(summaries, has_spread, child, q));
      }
      job.scores[size_t{i} * kFanOut + child] = best;
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
