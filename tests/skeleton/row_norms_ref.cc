// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "tests/skeleton/row_norms.h"

namespace hipattn::host::ref {

void RowNorms(const device::OpContext&, const device::RowNormsParams& params) {
  for (uint32_t row = 0; row < params.num_rows; ++row) {
    double sum = 0;
    for (uint32_t i = 0; i < params.row_length; ++i) {
      const double x = LoadElement(params.rows, params.dtype, size_t{row} * params.row_length + i);
      sum += x * x;
    }
    params.norms[row] = static_cast<float>(sum);
  }
}

}  // namespace hipattn::host::ref
