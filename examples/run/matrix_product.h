// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// y = x W^T for several weight matrices that share the input, as one parallel loop over tiles of
// their rows. One token multiplies the quantised rows directly; a chunk expands each tile to f32
// once and leaves the product to BLAS, so that never more than one tile per thread is expanded.
#ifndef HIPATTN_EXAMPLES_RUN_MATRIX_PRODUCT_H_
#define HIPATTN_EXAMPLES_RUN_MATRIX_PRODUCT_H_

#include "llama_model.h"
#include "workers.h"

#include <span>

namespace hipattn_run {

struct Product {
  const Weight* weight;
  float* y;  // [tokens, weight->rows]
};

// Must be called once before any product: threads are this program's, not the BLAS library's.
void UseSingleThreadedBlas();

// An error when the system would refuse the memory that BLAS takes when `num_threads` multiply: it
// asks for it again and again, without end.
Status CheckMemoryForBlas(size_t num_threads);

// x: [tokens, columns], the same number of columns in all weights.
void MultiplyAll(std::span<const Product> products,
                 const float* x,
                 size_t tokens,
                 Workers& workers);

}  // namespace hipattn_run

#endif  // HIPATTN_EXAMPLES_RUN_MATRIX_PRODUCT_H_
