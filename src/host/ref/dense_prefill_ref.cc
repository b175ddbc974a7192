// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "host/ref/ref_attention.h"
#include "host/ref/reference_table.h"

#include <algorithm>

namespace hipattn::host::ref {

void DensePrefill(const device::OpContext&, const device::PrefillParams& params) {
  const device::BlockPool& pool = params.pool;
  const RowConfig config{pool.head_dim, params.scale, params.softcap, params.out_dtype};
  for (uint32_t job_idx = 0; job_idx < params.num_jobs; ++job_idx) {
    const device::PrefillJob& job = params.jobs[job_idx];
    TokenRows rows;
    const bool in_parts = job.state != nullptr;
    const uint32_t all = job.first_pos + job.num_rows;
    const uint32_t key_begin = in_parts ? job.key_begin : 0;
    const uint32_t key_end = in_parts ? std::min(job.key_end, all) : all;
    for (uint32_t token = key_begin; token < key_end; ++token) {
      AddToken(pool, job.slots[token / pool.block_tokens], token % pool.block_tokens, &rows);
    }
    for (uint32_t row = 0; row < job.num_rows; ++row) {
      for (uint32_t head = 0; head < params.group; ++head) {
        const size_t in_head = size_t{head} * pool.head_dim;
        const uint32_t past = std::min(job.first_pos + row + 1, key_end);
        const uint64_t state = device::PrefillStateFloats(row, params.group, pool.head_dim) +
                               device::PrefillStateFloats(1, head, pool.head_dim);
        AttendPart(config,
                   job.q + row * params.q_row_stride + in_head,
                   rows,
                   past > key_begin ? past - key_begin : 0,
                   {in_parts ? job.state + state : nullptr, key_begin > 0, key_end < all},
                   {job.out,
                    row * params.out_row_stride + in_head,
                    job.lse == nullptr ? nullptr : job.lse + row * params.lse_row_stride + head});
      }
    }
  }
}

}  // namespace hipattn::host::ref
