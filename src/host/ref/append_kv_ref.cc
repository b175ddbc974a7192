// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "host/ref/ref_kv.h"
#include "host/ref/reference_table.h"

#include <vector>

namespace hipattn::host::ref {

void AppendKv(const device::OpContext&, const device::AppendParams& params) {
  const device::BlockPool& pool = params.pool;
  std::vector<float> key(pool.head_dim);
  for (uint32_t job_idx = 0; job_idx < params.num_jobs; ++job_idx) {
    const device::AppendJob& job = params.jobs[job_idx];
    const uint32_t first_block = job.first_pos / pool.block_tokens;
    for (uint32_t i = 0; i < job.num_tokens; ++i) {
      const uint32_t position = job.first_pos + i;
      const uint32_t slot = job.slots[position / pool.block_tokens - first_block];
      const uint32_t token = position % pool.block_tokens;
      std::byte* block = device::BlockAddress(pool, slot);
      for (uint32_t dim = 0; dim < pool.head_dim; ++dim) {
        key[dim] = LoadElement(job.k, params.io_dtype, i * params.kv_row_stride + dim);
        StoreElement(block,
                     pool.kv_dtype,
                     ValueIndex(pool, token, dim),
                     LoadElement(job.v, params.io_dtype, i * params.kv_row_stride + dim));
      }
      RotateRow(params.rope, position, key.data());
      for (uint32_t dim = 0; dim < pool.head_dim; ++dim) {
        StoreElement(block, pool.kv_dtype, KeyIndex(pool, token, dim), key[dim]);
      }
    }
  }
}

}  // namespace hipattn::host::ref
