// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "host/ref/ref_kv.h"
#include "host/ref/reference_table.h"

namespace hipattn::host::ref {

void LoadQ(const device::OpContext&, const device::LoadQParams& params) {
  const size_t head_dim = params.head_dim;
  for (uint32_t row = 0; row < params.num_rows; ++row) {
    for (uint32_t head = 0; head < params.num_heads; ++head) {
      const size_t begin = (size_t{row} * params.num_heads + head) * head_dim;
      for (size_t dim = 0; dim < head_dim; ++dim) {
        params.q_f32[begin + dim] = LoadElement(params.q, params.io_dtype, begin + dim);
      }
      if (params.rope.mode != 0) {
        RotateRow(params.rope, params.positions[row], params.q_f32 + begin);
      }
    }
  }
}

}  // namespace hipattn::host::ref
