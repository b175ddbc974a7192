// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "tensor_type.h"

namespace hipattn_run {
namespace {

constexpr TensorTypeInfo kTypes[] = {
    {TensorType::kF32, "F32", 1, 4},
    {TensorType::kF16, "F16", 1, 2},
    {TensorType::kQ4_0, "Q4_0", 32, 18},
    {TensorType::kQ4_1, "Q4_1", 32, 20},
    {TensorType::kQ8_0, "Q8_0", 32, 34},
    {TensorType::kQ4_K, "Q4_K", 256, 144},
    {TensorType::kQ6_K, "Q6_K", 256, 210},
    {TensorType::kBF16, "BF16", 1, 2},
};

}  // namespace

const TensorTypeInfo* FindTensorType(uint32_t number) {
  for (const TensorTypeInfo& info : kTypes) {
    if (static_cast<uint32_t>(info.type) == number) {
      return &info;
    }
  }
  return nullptr;
}

const TensorTypeInfo& GetTensorTypeInfo(TensorType type) {
  return *FindTensorType(static_cast<uint32_t>(type));
}

size_t RowBytes(TensorType type, size_t columns) {
  const TensorTypeInfo& info = GetTensorTypeInfo(type);
  return columns / info.block_elements * info.block_bytes;
}

}  // namespace hipattn_run
