// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "host/ref/ref_attention.h"
#include "host/ref/reference_table.h"

namespace hipattn::host::ref {

namespace {

TokenRows ReadList(const device::BlockPool& pool, const device::DecodeJob& job) {
  TokenRows rows;
  if (job.ranges == nullptr) {
    for (uint32_t token = 0; token < job.num_tokens; ++token) {
      AddToken(pool, job.slots[token / pool.block_tokens], token % pool.block_tokens, &rows);
    }
    return rows;
  }
  for (uint32_t i = 0; i < job.num_ranges; ++i) {
    for (uint32_t token = job.ranges[i].begin; token < job.ranges[i].end; ++token) {
      AddToken(pool, job.ranges[i].slot, token, &rows);
    }
  }
  return rows;
}

}  // namespace

void SparseDecode(const device::OpContext&, const device::DecodeParams& params) {
  const device::BlockPool& pool = params.pool;
  const RowConfig config{pool.head_dim, params.scale, params.softcap, params.out_dtype};
  for (uint32_t job_idx = 0; job_idx < params.num_jobs; ++job_idx) {
    const device::DecodeJob& job = params.jobs[job_idx];
    const TokenRows rows = ReadList(pool, job);
    for (uint32_t head = 0; head < params.group; ++head) {
      const size_t begin = size_t{head} * pool.head_dim;
      // One state for all parts, in the place of the first split's.
      const RowPart part = {
          job.states == nullptr ? nullptr : job.states + head * (size_t{pool.head_dim} + 16),
          job.splits_before != 0,
          job.more != 0};
      AttendPart(config,
                 job.q + begin,
                 rows,
                 rows.k.size() / pool.head_dim,
                 part,
                 {job.out, begin, job.lse == nullptr ? nullptr : job.lse + head});
    }
  }
}

}  // namespace hipattn::host::ref
