// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "isa_clones.h"
#include "quant_formats.h"
#include "quant_matvec.h"

namespace hipattn_run {
namespace {

template <TensorType Type>
RUN_INLINE void DequantizeBlocks(const uint8_t* row, size_t columns, float* out) {
  QuantBlock block = {};
  for (size_t b = 0; b < columns / kQuantBlock; ++b) {
    UnpackBlock<Type>(row, b, &block);
    for (size_t i = 0; i < kQuantBlock; ++i) {
      out[b * kQuantBlock + i] = block.scale * static_cast<float>(block.w[i]) + block.offset;
    }
  }
}

RUN_INLINE void DequantizeRowBody(TensorType type, const uint8_t* row, size_t columns, float* out) {
  switch (type) {
    case TensorType::kQ8_0:
      return DequantizeBlocks<TensorType::kQ8_0>(row, columns, out);
    case TensorType::kQ4_0:
      return DequantizeBlocks<TensorType::kQ4_0>(row, columns, out);
    case TensorType::kQ4_1:
      return DequantizeBlocks<TensorType::kQ4_1>(row, columns, out);
    case TensorType::kQ4_K:
      return DequantizeBlocks<TensorType::kQ4_K>(row, columns, out);
    case TensorType::kQ6_K:
      return DequantizeBlocks<TensorType::kQ6_K>(row, columns, out);
    case TensorType::kF32:
      std::memcpy(out, row, columns * sizeof(float));
      return;
    case TensorType::kF16:
      for (size_t i = 0; i < columns; ++i) {
        out[i] = LoadHalf(row + 2 * i);
      }
      return;
    case TensorType::kBF16:
      for (size_t i = 0; i < columns; ++i) {
        out[i] = Bfloat16ToFloat(LoadUint16(row + 2 * i));
      }
      return;
  }
}

RUN_FOR_EACH_ISA(DequantizeRow,
                 (TensorType type, const uint8_t* row, size_t columns, float* out),
                 (type, row, columns, out))

}  // namespace

void DequantizeRows(const WeightRows& rows, float* out) {
  const size_t row_bytes = RowBytes(rows.type, rows.columns);
  for (size_t r = rows.begin; r < rows.end; ++r) {
    DequantizeRow(
        rows.type, rows.data + r * row_bytes, rows.columns, out + (r - rows.begin) * rows.columns);
  }
}

}  // namespace hipattn_run
