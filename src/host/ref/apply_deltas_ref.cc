// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "base/dtype.h"
#include "host/ref/reference_table.h"

namespace hipattn::host::ref {

void ApplyDeltas(const device::OpContext&, const device::DeltaParams& params) {
  for (uint32_t i = 0; i < params.num_jobs; ++i) {
    const device::DeltaJob& job = params.jobs[i];
    uint32_t anchor = 0;
    for (uint32_t row = 0; row < params.num_rows; ++row) {
      const bool is_anchor = anchor < params.num_anchors && params.anchors[anchor] == row;
      for (uint32_t dim = 0; dim < params.head_dim; ++dim) {
        const size_t at = row * params.out_stride + dim;
        const float sparse = LoadElement(job.out, params.io_dtype, at);
        if (is_anchor) {
          const float dense = job.dense[anchor * params.dense_stride + dim];
          job.delta[dim] = dense - sparse;
          StoreElement(job.out, params.io_dtype, at, dense);
        } else {
          StoreElement(job.out, params.io_dtype, at, sparse + job.delta[dim]);
        }
      }
      anchor += is_anchor ? 1 : 0;
    }
  }
}

}  // namespace hipattn::host::ref
