// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "logits.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace hipattn_run {
namespace {

double LogSumExp(const std::vector<float>& logits) {
  const double greatest = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  double sum = 0;
  for (const float logit : logits) {
    sum += std::exp(static_cast<double>(logit) - greatest);
  }
  return greatest + std::log(sum);
}

}  // namespace

double KullbackLeibler(const std::vector<float>& p, const std::vector<float>& q) {
  const double p_lse = LogSumExp(p);
  const double q_lse = LogSumExp(q);
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    const double log_p = static_cast<double>(p[i]) - p_lse;
    sum += std::exp(log_p) * (log_p - (static_cast<double>(q[i]) - q_lse));
  }
  return sum;
}

}  // namespace hipattn_run
