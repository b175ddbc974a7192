// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The elementwise parts of a Llama layer, on rows of f32.
#ifndef HIPATTN_EXAMPLES_RUN_VECTOR_OPS_H_
#define HIPATTN_EXAMPLES_RUN_VECTOR_OPS_H_

#include <cstddef>

namespace hipattn_run {

// out[i] = x[i] * weight[i] / sqrt(mean(x^2) + epsilon). out may be x.
void RmsNorm(const float* x, const float* weight, size_t size, float epsilon, float* out);

// gate[i] = silu(gate[i]) * up[i], silu(z) = z / (1 + exp(-z)); relative error below 1e-6.
void SiluMultiply(float* gate, const float* up, size_t size);

// x[i] = exp(x[i] - shift), to 1e-6 of its value; what would be below exp(-87) is that. sums[p] is
// the sum of the kPanelLanes values of panel p.
constexpr size_t kPanelLanes = 16;
void ExpOfPanels(float* x, size_t panels, float shift, float* sums);

// x[i] += y[i]
void AddTo(float* x, const float* y, size_t size);

}  // namespace hipattn_run

#endif  // HIPATTN_EXAMPLES_RUN_VECTOR_OPS_H_
