// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Logits of a model as the distributions they stand for.
#ifndef HIPATTN_EXAMPLES_RUN_LOGITS_H_
#define HIPATTN_EXAMPLES_RUN_LOGITS_H_

#include <vector>

namespace hipattn_run {

// Kullback-Leibler divergence of softmax(q) from softmax(p), in nats; at least 0 but for rounding.
// Both have the same size, which is not 0.
double KullbackLeibler(const std::vector<float>& p, const std::vector<float>& q);

}  // namespace hipattn_run

#endif  // HIPATTN_EXAMPLES_RUN_LOGITS_H_
