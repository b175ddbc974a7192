// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "host/ref/ref_attention.h"
#include "host/ref/reference_table.h"

namespace hipattn::host::ref {

void DensePrefill(const device::OpContext&, const device::PrefillParams& params) {
  const device::BlockPool& pool = params.pool;
  const RowConfig config{pool.head_dim, params.scale, params.softcap, params.out_dtype};
  for (uint32_t job_idx = 0; job_idx < params.num_jobs; ++job_idx) {
    const device::PrefillJob& job = params.jobs[job_idx];
    TokenRows rows;
    for (uint32_t token = 0; token < job.first_pos + job.num_rows; ++token) {
      AddToken(pool, job.slots[token / pool.block_tokens], token % pool.block_tokens, &rows);
    }
    for (uint32_t row = 0; row < job.num_rows; ++row) {
      for (uint32_t head = 0; head < params.group; ++head) {
        const size_t in_head = size_t{head} * pool.head_dim;
        AttendRow(config,
                  job.q + row * params.q_row_stride + in_head,
                  rows,
                  size_t{job.first_pos} + row + 1,
                  job.out,
                  row * params.out_row_stride + in_head,
                  job.lse == nullptr ? nullptr : job.lse + row * params.lse_row_stride + head);
      }
    }
  }
}

}  // namespace hipattn::host::ref
