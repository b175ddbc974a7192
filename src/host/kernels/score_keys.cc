// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// A task scores some tokens of one job: their keys are made rows of floats once, then every query
// is held against them.
#include "host/kernels/dispatch.h"
#include "host/kernels/kernels.h"
#include "host/kernels/rotate.h"
#include "host/kernels/token_rows.h"
#include "host/vec/vec.h"

namespace hipattn::host::HIPATTN_ISA {
namespace {

constexpr uint32_t kTaskTokens = 16;

// keys[count][head_dim] = the keys of tokens [begin, begin + count) of the job's list, turned to
// their positions.
template <typename Tag>
void ReadKeys(Tag tag,
              const device::ScoreKeysParams& params,
              const device::ScoreKeysJob& job,
              uint32_t begin,
              uint32_t count,
              float* keys) {
  const device::BlockPool& pool = params.pool;
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t token = job.tokens[begin + i];
    float* key = keys + size_t{i} * pool.head_dim;
    std::byte* block = device::BlockAddress(pool, job.slots[token / pool.block_tokens]);
    ReadKey(tag, pool, block, token % pool.block_tokens, key);
    if (params.rope.mode != 0) {
      RotaryAngles angles;
      ComputeAngles(params.rope, job.key_pos[begin + i], &angles);
      Rotate(params.rope, angles, key);
    }
  }
}

template <typename Tag>
void ScoreTokens(Tag tag,
                 const device::ScoreKeysParams& params,
                 const device::ScoreKeysJob& job,
                 uint32_t begin) {
  const uint32_t head_dim = params.pool.head_dim;
  const int dims = static_cast<int>(head_dim);
  const uint32_t rest = job.num_tokens - begin;
  const uint32_t count = rest < kTaskTokens ? rest : kTaskTokens;
  alignas(64) float keys[kTaskTokens * device::kMaxHeadDim];
  alignas(64) float rotated[device::kMaxHeadDim];
  ReadKeys(tag, params, job, begin, count, keys);
  float* scores = job.scores + begin;
  for (uint32_t i = 0; i < count; ++i) {
    scores[i] = -__builtin_inff();
  }
  for (uint32_t row = 0; row < job.rows.num_rows; ++row) {
    RotaryAngles angles;
    if (params.rope.mode != 0) {
      ComputeAngles(params.rope, job.row_pos[row], &angles);
    }
    for (uint32_t head = 0; head < job.rows.group; ++head) {
      const float* q = job.rows.q + row * job.rows.row_stride + size_t{head} * head_dim;
      if (params.rope.mode != 0) {
        ConvertRow(F32{}, rotated, F32{}, q, dims);
        Rotate(params.rope, angles, rotated);
        q = rotated;
      }
      for (uint32_t i = 0; i < count; ++i) {
        const float score = Dot(q, keys + size_t{i} * head_dim, dims);
        scores[i] = score > scores[i] ? score : scores[i];
      }
    }
  }
}

}  // namespace

void ScoreKeys(const device::OpContext& context, const device::ScoreKeysParams& params) {
  uint64_t num_tasks = 0;
  for (uint32_t job_idx = 0; job_idx < params.num_jobs; ++job_idx) {
    num_tasks += (params.jobs[job_idx].num_tokens + kTaskTokens - 1) / kTaskTokens;
  }
  // Jobs of one call are few and of like length: each task finds its job by counting.
  const uint64_t elements = num_tasks * kTaskTokens * params.pool.head_dim;
  WithTag(params.pool.kv_dtype, [&](auto tag) {
    RunTasks(context, num_tasks, elements, [&](size_t task) {
      const device::ScoreKeysJob* job = params.jobs;
      uint64_t job_tasks = (job->num_tokens + kTaskTokens - 1) / kTaskTokens;
      while (task >= job_tasks) {
        task -= job_tasks;
        ++job;
        job_tasks = (job->num_tokens + kTaskTokens - 1) / kTaskTokens;
      }
      ScoreTokens(tag, params, *job, static_cast<uint32_t>(task * kTaskTokens));
    });
  });
}

}  // namespace hipattn::host::HIPATTN_ISA
