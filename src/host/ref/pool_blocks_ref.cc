// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "host/ref/ref_kv.h"
#include "host/ref/reference_table.h"

#include <algorithm>
#include <vector>

namespace hipattn::host::ref {

namespace {

// Keys and values of a block, added up.
struct BlockSum {
  std::vector<double> k, v;
};

BlockSum SumBlock(const device::BlockPool& pool, const device::PoolJob& job, uint64_t block) {
  BlockSum sum = {std::vector<double>(pool.head_dim), std::vector<double>(pool.head_dim)};
  std::vector<float> k(pool.head_dim);
  std::vector<float> v(pool.head_dim);
  const uint64_t begin = block * device::kPoolTokens;
  const uint64_t end = std::min<uint64_t>(begin + device::kPoolTokens, job.num_tokens);
  for (uint64_t token = begin; token < end; ++token) {
    ReadToken(pool,
              job.slots[token / pool.block_tokens],
              static_cast<uint32_t>(token % pool.block_tokens),
              k.data(),
              v.data());
    for (uint32_t dim = 0; dim < pool.head_dim; ++dim) {
      sum.k[dim] += double{k[dim]};
      sum.v[dim] += double{v[dim]};
    }
  }
  return sum;
}

}  // namespace

void PoolBlocks(const device::OpContext&, const device::PoolParams& params) {
  const device::BlockPool& pool = params.pool;
  // The panel's place rules are those of blocks of 16 tokens.
  device::BlockPool panel = pool;
  panel.block_tokens = device::kPanelTokens;
  const uint64_t panel_floats = device::ColumnPanelElements(1, pool.head_dim);
  for (uint32_t job_idx = 0; job_idx < params.num_jobs; ++job_idx) {
    const device::PoolJob& job = params.jobs[job_idx];
    const uint64_t blocks =
        (uint64_t{job.num_tokens} + device::kPoolTokens - 1) / device::kPoolTokens;
    const uint64_t lanes =
        device::ColumnPanelElements(static_cast<uint32_t>(blocks), pool.head_dim) / 2 /
        pool.head_dim;
    for (uint64_t block = job.first_block; block < lanes; ++block) {
      const BlockSum sum = SumBlock(pool, job, block);
      float* first = job.panel + block / device::kPanelTokens * panel_floats;
      const auto lane = static_cast<uint32_t>(block % device::kPanelTokens);
      for (uint32_t dim = 0; dim < pool.head_dim; ++dim) {
        first[KeyIndex(panel, lane, dim)] = static_cast<float>(sum.k[dim] / device::kPoolTokens);
        first[ValueIndex(panel, lane, dim)] = static_cast<float>(sum.v[dim] / device::kPoolTokens);
      }
    }
  }
}

}  // namespace hipattn::host::ref
