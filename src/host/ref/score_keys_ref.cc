// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "host/ref/ref_kv.h"
#include "host/ref/reference_table.h"

#include <algorithm>
#include <limits>
#include <vector>

namespace hipattn::host::ref {
namespace {

// Best of all rows and heads against one key, which is at its position already.
double BestScore(const device::ScoreKeysParams& params,
                 const device::ScoreKeysJob& job,
                 const std::vector<float>& key) {
  const size_t head_dim = key.size();
  double best = -std::numeric_limits<double>::infinity();
  for (uint32_t i = 0; i < job.rows.num_rows * job.rows.group; ++i) {
    const uint32_t row = i / job.rows.group;
    const float* q = job.rows.q + row * job.rows.row_stride + i % job.rows.group * head_dim;
    std::vector<float> query(q, q + head_dim);
    RotateRow(params.rope, params.rope.mode == 0 ? 0 : job.row_pos[row], query.data());
    double dot = 0;
    for (size_t dim = 0; dim < head_dim; ++dim) {
      dot += double{query[dim]} * double{key[dim]};
    }
    best = std::max(best, dot);
  }
  return best;
}

void ScoreJobKeys(const device::ScoreKeysParams& params, const device::ScoreKeysJob& job) {
  const uint32_t block_tokens = params.pool.block_tokens;
  std::vector<float> key(params.pool.head_dim);
  for (uint32_t i = 0; i < job.num_tokens; ++i) {
    const uint32_t token = job.tokens[i];
    ReadToken(
        params.pool, job.slots[token / block_tokens], token % block_tokens, key.data(), nullptr);
    RotateRow(params.rope, params.rope.mode == 0 ? 0 : job.key_pos[i], key.data());
    job.scores[i] = static_cast<float>(BestScore(params, job, key));
  }
}

}  // namespace

void ScoreKeys(const device::OpContext&, const device::ScoreKeysParams& params) {
  for (uint32_t job_idx = 0; job_idx < params.num_jobs; ++job_idx) {
    ScoreJobKeys(params, params.jobs[job_idx]);
  }
}

}  // namespace hipattn::host::ref
