// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "host/ref/ref_kv.h"
#include "host/ref/reference_table.h"

#include <algorithm>
#include <limits>
#include <vector>

namespace hipattn::host::ref {
namespace {

void ScoreJobKeys(const device::ScoreKeysParams& params, const device::ScoreKeysJob& job) {
  const uint32_t head_dim = params.pool.head_dim;
  const uint32_t block_tokens = params.pool.block_tokens;
  const device::QueryRows& rows = job.rows;
  std::vector<float> key(head_dim);
  std::vector<float> query(head_dim);
  for (uint32_t i = 0; i < job.num_tokens; ++i) {
    const uint32_t token = job.tokens[i];
    ReadToken(
        params.pool, job.slots[token / block_tokens], token % block_tokens, key.data(), nullptr);
    RotateRow(params.rope, params.rope.mode == 0 ? 0 : job.key_pos[i], key.data());
    double best = -std::numeric_limits<double>::infinity();
    for (uint32_t row = 0; row < rows.num_rows; ++row) {
      for (uint32_t head = 0; head < rows.group; ++head) {
        const float* q = rows.q + row * rows.row_stride + size_t{head} * head_dim;
        query.assign(q, q + head_dim);
        RotateRow(params.rope, params.rope.mode == 0 ? 0 : job.row_pos[row], query.data());
        double dot = 0;
        for (uint32_t dim = 0; dim < head_dim; ++dim) {
          dot += double{query[dim]} * double{key[dim]};
        }
        best = std::max(best, dot);
      }
    }
    job.scores[i] = static_cast<float>(best);
  }
}

}  // namespace

void ScoreKeys(const device::OpContext&, const device::ScoreKeysParams& params) {
  for (uint32_t job_idx = 0; job_idx < params.num_jobs; ++job_idx) {
    ScoreJobKeys(params, params.jobs[job_idx]);
  }
}

}  // namespace hipattn::host::ref
