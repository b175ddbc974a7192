// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "host/ref/ref_summary.h"
#include "host/ref/reference_table.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace hipattn::host::ref {
namespace {

// The exponent of SPEC D36 for one node.
double NodeExponent(const device::EstimateParams& params,
                    const SummaryGroup& summaries,
                    uint32_t child,
                    const float* q) {
  double dot = 0;
  double variance = 0;
  for (uint32_t dim = 0; dim < params.head_dim; ++dim) {
    const double deviation =
        double{q[dim]} * double{summaries.scale_w(child)} * summaries.w(child, dim);
    dot += double{q[dim]} * double{summaries.scale_m(child)} * summaries.m(child, dim);
    variance += deviation * deviation;
  }
  const double scale = params.scale;
  const double exponent = scale * dot + scale * scale / 2 * variance;
  const double cap = params.softcap;
  return cap > 0 ? cap * std::tanh(exponent / cap) : exponent;
}

float HeadLogMass(const device::EstimateParams& params,
                  const device::EstimateJob& job,
                  uint32_t head) {
  const float* q = job.q + size_t{head} * params.head_dim;
  std::vector<double> terms;
  for (uint32_t i = 0; i < job.num_groups; ++i) {
    const SummaryGroup summaries(job.level, params.head_dim, true, job.groups[i].index);
    for (uint32_t child = 0; child < kFanOut; ++child) {
      const double tokens = job.tokens[size_t{i} * kFanOut + child];
      if ((job.groups[i].mask >> child & 1U) != 0 && tokens > 0) {
        terms.push_back(std::log(tokens) + NodeExponent(params, summaries, child, q));
      }
    }
  }
  if (terms.empty()) {
    return -std::numeric_limits<float>::infinity();
  }
  const double max_term = *std::max_element(terms.begin(), terms.end());
  double sum = 0;
  for (const double term : terms) {
    sum += std::exp(term - max_term);
  }
  return static_cast<float>(max_term + std::log(sum));
}

}  // namespace

void EstimateNodes(const device::OpContext&, const device::EstimateParams& params) {
  for (uint32_t job_idx = 0; job_idx < params.num_jobs; ++job_idx) {
    const device::EstimateJob& job = params.jobs[job_idx];
    for (uint32_t head = 0; head < params.group; ++head) {
      job.log_mass[head] = HeadLogMass(params, job, head);
    }
  }
}

}  // namespace hipattn::host::ref
