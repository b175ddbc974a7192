// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "host/ref/ref_kv.h"
#include "host/ref/reference_table.h"

#include <vector>

namespace hipattn::host::ref {

void PackColumns(const device::OpContext&, const device::PackParams& params) {
  // A column panel is a pool of blocks of 16 tokens: KeyIndex and ValueIndex place its elements.
  device::BlockPool panel = params.pool;
  panel.block_tokens = device::kPanelTokens;
  const uint32_t head_dim = params.pool.head_dim;
  const uint64_t block_elements = device::ColumnPanelElements(1, head_dim);
  for (uint32_t job_idx = 0; job_idx < params.num_jobs; ++job_idx) {
    const device::PackJob& job = params.jobs[job_idx];
    const uint64_t lanes = device::ColumnPanelElements(job.num_columns, head_dim) / 2 / head_dim;
    for (uint64_t column = 0; column < lanes; ++column) {
      std::vector<float> k(head_dim);
      std::vector<float> v(head_dim);
      if (column < job.num_columns) {
        const uint32_t token = job.positions[column];
        ReadToken(params.pool,
                  job.slots[token / params.pool.block_tokens],
                  token % params.pool.block_tokens,
                  k.data(),
                  v.data());
      }
      const uint64_t block = column / device::kPanelTokens * block_elements;
      const auto lane = static_cast<uint32_t>(column % device::kPanelTokens);
      for (uint32_t dim = 0; dim < head_dim; ++dim) {
        StoreElement(job.panel, panel.kv_dtype, block + KeyIndex(panel, lane, dim), k[dim]);
        StoreElement(job.panel, panel.kv_dtype, block + ValueIndex(panel, lane, dim), v[dim]);
      }
    }
  }
}

}  // namespace hipattn::host::ref
