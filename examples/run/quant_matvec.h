// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// y = W x for one token, on the quantised weights as they are in the file, and the expansion of
// rows to f32 for the matrix products of whole chunks.
//
// The activation is rounded once per product to integers of 14 bits with one scale per 32 values;
// the products are integer dot products, exact in 32 bits. The rounding error is at most
// 2^-15 of the largest of 32 activations each, so the result is as good as with f32 activations
// for every weight format. (8 bits would not be faster: the weights' bytes set the speed.) Weights
// in F32, F16 and BF16 are multiplied in f32.
//
// The implementation is chosen once, by what the processor has: AVX2 with FMA and F16C, or plain
// C++. Results differ between them by rounding of f32 sums only. (512-bit vectors were tried on a
// Zen 4: no faster, the memory and the unpacking of nibbles set the speed.)
#ifndef HIPATTN_EXAMPLES_RUN_QUANT_MATVEC_H_
#define HIPATTN_EXAMPLES_RUN_QUANT_MATVEC_H_

#include "tensor_type.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace hipattn_run {

// The right-hand side of a product, in both forms that the kernels read.
struct Activation {
  std::span<const float> values;
  std::vector<int16_t> quants;  // values[i] ~ blocks[i / 32].scale * quants[i]
  struct Block {
    float scale;
    float sum;  // scale times the sum of the 32 quants
  };
  std::vector<Block> blocks;
};

// Views `values` (which must stay) and fills the rest; the length need not be a multiple of 32.
void QuantizeActivation(std::span<const float> values, Activation* activation);

// Rows `begin` to `end` of a weight matrix: rows of `columns` weights, one after the other.
struct WeightRows {
  TensorType type;
  const uint8_t* data;  // of row 0
  size_t columns;
  size_t begin;
  size_t end;
};

// y[i] = row (begin + i) times x, for every row. columns equals the length of x.
void MultiplyRows(const WeightRows& rows, const Activation& x, float* y);

// The rows as f32, [end - begin, columns].
void DequantizeRows(const WeightRows& rows, float* out);

// The implementations by name; tests compare each one that the processor can run.
enum class MatvecIsa { kPortable, kAvx2 };
bool IsSupported(MatvecIsa isa);
void MultiplyRowsWith(MatvecIsa isa, const WeightRows& rows, const Activation& x, float* y);

}  // namespace hipattn_run

#endif  // HIPATTN_EXAMPLES_RUN_QUANT_MATVEC_H_
