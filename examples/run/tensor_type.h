// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The element types of GGUF tensors this program reads. A row is a whole number of blocks; a block
// of block_elements weights takes block_bytes bytes, and scales are IEEE half floats.
//
//   Q8_0  d, 32 x int8                     value = d q
//   Q4_0  d, 32 x 4 bits                   value = d (q - 8);  byte i has elements i and i + 16
//   Q4_1  d, m, 32 x 4 bits                value = d q + m;    same order
//   Q4_K  d, dmin, 8 x (6-bit scale, 6-bit min), 256 x 4 bits
//                                          value = d s q - dmin m, 32 weights share s and m
//   Q6_K  256 x (4 low bits, 2 high bits), 16 x int8 scale, d
//                                          value = d s (q - 32), 16 weights share s
#ifndef HIPATTN_EXAMPLES_RUN_TENSOR_TYPE_H_
#define HIPATTN_EXAMPLES_RUN_TENSOR_TYPE_H_

#include <cstddef>
#include <cstdint>

namespace hipattn_run {

// The values are GGUF's numbers.
enum class TensorType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ8_0 = 8,
  kQ4_K = 12,
  kQ6_K = 14,
  kBF16 = 30,
};

struct TensorTypeInfo {
  TensorType type;
  const char* name;
  uint32_t block_elements;
  uint32_t block_bytes;
};

// Null for a number that is not in the list above.
const TensorTypeInfo* FindTensorType(uint32_t number);
// For a type of the enumeration.
const TensorTypeInfo& GetTensorTypeInfo(TensorType type);

// Bytes of a row of `columns` weights, a multiple of block_elements.
size_t RowBytes(TensorType type, size_t columns);

}  // namespace hipattn_run

#endif  // HIPATTN_EXAMPLES_RUN_TENSOR_TYPE_H_
