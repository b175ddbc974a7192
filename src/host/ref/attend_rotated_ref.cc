// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "host/ref/ref_attention.h"
#include "host/ref/ref_kv.h"
#include "host/ref/reference_table.h"

#include <algorithm>
#include <vector>

namespace hipattn::host::ref {

void AttendRotated(const device::OpContext&, const device::RotatedParams& params) {
  const device::BlockPool& pool = params.pool;
  const size_t head_dim = pool.head_dim;
  const RowConfig config{pool.head_dim, params.scale, params.softcap, params.out_dtype};
  std::vector<float> query(head_dim);
  for (uint32_t job_idx = 0; job_idx < params.num_jobs; ++job_idx) {
    const device::RotatedJob& job = params.jobs[job_idx];
    TokenRows rows;
    for (uint32_t i = 0; i < job.num_ranges; ++i) {
      const device::KvRange& range = job.ranges[i];
      for (uint32_t token = range.begin; token < range.end; ++token) {
        AddToken(pool, range.slot, token, &rows);
        const int64_t position = job.positions[i] + (token - range.begin);
        RotateRow(params.rope, std::max<int64_t>(0, position), &rows.k[rows.k.size() - head_dim]);
      }
    }
    for (uint32_t head = 0; head < params.group; ++head) {
      const size_t begin = head * head_dim;
      query.assign(job.q + begin, job.q + begin + head_dim);
      RotateRow(params.rope, job.query_pos, query.data());
      const RowPart part = {job.state == nullptr ? nullptr : job.state + head * (head_dim + 2),
                            job.later != 0,
                            job.more != 0};
      AttendPart(config,
                 query.data(),
                 rows,
                 rows.k.size() / head_dim,
                 part,
                 {job.out, begin, job.lse == nullptr ? nullptr : job.lse + head});
    }
  }
}

}  // namespace hipattn::host::ref
