// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The skeleton op of docs/add-a-kernel.md: what a new op consists of, small enough to read in one
// go. It is no part of the library; in the library its parameters would stand in device/params.h
// and its kernel in host/kernels.
#ifndef HIPATTN_TESTS_SKELETON_ROW_NORMS_H_
#define HIPATTN_TESTS_SKELETON_ROW_NORMS_H_

#include "base/dtype.h"
#include "device/ops.h"

#include <cstdint>

namespace hipattn::device {

// norms[r] = sum of the squares of row r.
struct RowNormsParams {
  const void* rows;  // [num_rows, row_length] dtype, contiguous
  float* norms;      // [num_rows]
  uint32_t num_rows;
  uint32_t row_length;  // a multiple of 8
  DType dtype;
};

}  // namespace hipattn::device

namespace hipattn::host::ref {
void RowNorms(const device::OpContext& context, const device::RowNormsParams& params);
}  // namespace hipattn::host::ref

#endif  // HIPATTN_TESTS_SKELETON_ROW_NORMS_H_
