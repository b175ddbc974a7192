// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// One task per job and up to 16 heads. The list is read in steps of at most 16 tokens of one range,
// each folded by online softmax (FlashAttention-2, arXiv 2307.08691, section 3.1): the bits depend
// on the list alone.
#include "host/kernels/dispatch.h"
#include "host/kernels/kernels.h"
#include "host/kernels/rotate.h"
#include "host/kernels/token_rows.h"
#include "host/vec/vec.h"

#include <math.h>

namespace hipattn::host::HIPATTN_ISA {
namespace {

constexpr uint32_t kStepTokens = 16;
constexpr uint32_t kChunkHeads = 16;  // heads that share one reading of the list
constexpr float kNone = -__builtin_inff();

// Online softmax of some heads of one job: unnormalised sums relative to exp(max).
struct State {
  uint32_t first_head, num_heads;
  alignas(64) float q[kChunkHeads * device::kMaxHeadDim];
  alignas(64) float sum_values[kChunkHeads * device::kMaxHeadDim];
  float max[kChunkHeads];
  float sum_weights[kChunkHeads];
};

// Keys and values of one step, keys turned to their positions.
struct Step {
  alignas(64) float keys[kStepTokens * device::kMaxHeadDim];
  alignas(64) float values[kStepTokens * device::kMaxHeadDim];
  uint32_t count;
};

void InitState(const device::RotatedParams& params, const device::RotatedJob& job, State* state) {
  const size_t head_dim = params.pool.head_dim;
  RotaryAngles angles;
  if (params.rope.mode != 0) {
    ComputeAngles(params.rope, job.query_pos, &angles);
  }
  const float* q = job.q + state->first_head * head_dim;
  for (uint32_t head = 0; head < state->num_heads; ++head) {
    for (size_t dim = 0; dim < head_dim; ++dim) {
      state->q[head * head_dim + dim] = q[head * head_dim + dim];
      state->sum_values[head * head_dim + dim] = 0.0F;
    }
    if (params.rope.mode != 0) {
      Rotate(params.rope, angles, state->q + head * head_dim);
    }
    state->max[head] = kNone;
    state->sum_weights[head] = 0.0F;
  }
}

template <typename Tag>
void ReadStep(Tag tag,
              const device::RotatedParams& params,
              std::byte* block,
              uint32_t first_token,
              int64_t first_position,
              Step* step) {
  const device::BlockPool& pool = params.pool;
  for (uint32_t i = 0; i < step->count; ++i) {
    float* key = step->keys + size_t{i} * pool.head_dim;
    ReadKey(tag, pool, block, first_token + i, key);
    ConvertRow(F32{},
               step->values + size_t{i} * pool.head_dim,
               tag,
               ValueRow<Tag>(block, pool, first_token + i),
               static_cast<int>(pool.head_dim));
    if (params.rope.mode != 0) {
      const int64_t position = first_position + i;
      RotaryAngles angles;
      ComputeAngles(params.rope, position > 0 ? position : 0, &angles);
      Rotate(params.rope, angles, key);
    }
  }
}

// weights[16] = exp(score - new maximum), 0 beyond the step's tokens; returns exp(old maximum - new
// maximum).
float StepWeights(const device::RotatedParams& params,
                  const Step& step,
                  const float* q,
                  float* max,
                  float* weights) {
  const int dims = static_cast<int>(params.pool.head_dim);
  float top = *max;
  for (uint32_t i = 0; i < kStepTokens; ++i) {
    weights[i] = kNone;
    if (i < step.count) {
      weights[i] = params.scale * Dot(q, step.keys + i * params.pool.head_dim, dims);
      if (params.softcap > 0) {
        weights[i] = params.softcap * ::tanhf(weights[i] / params.softcap);
      }
    }
    top = weights[i] > top ? weights[i] : top;
  }
  for (uint32_t i = 0; i < kStepTokens; i += kLanes) {
    Store(weights + i, Exp(Sub(Load(weights + i), Set1(top))));
  }
  const float rescale = ::expf(*max - top);
  *max = top;
  return rescale;
}

void FoldStep(const device::RotatedParams& params, const Step& step, State* state) {
  const uint32_t head_dim = params.pool.head_dim;
  for (uint32_t head = 0; head < state->num_heads; ++head) {
    alignas(64) float weights[kStepTokens];
    const size_t begin = size_t{head} * head_dim;
    const float rescale = StepWeights(params, step, state->q + begin, state->max + head, weights);
    float* sum_values = state->sum_values + begin;
    float sum_weights = 0.0F;
    for (uint32_t dim = 0; dim < head_dim; ++dim) {
      sum_values[dim] *= rescale;
    }
    for (uint32_t i = 0; i < step.count; ++i) {
      const float* value = step.values + size_t{i} * head_dim;
      for (uint32_t dim = 0; dim < head_dim; ++dim) {
        sum_values[dim] += weights[i] * value[dim];
      }
      sum_weights += weights[i];
    }
    state->sum_weights[head] = state->sum_weights[head] * rescale + sum_weights;
  }
}

template <typename Out>
void StoreState(Out tag,
                const device::RotatedParams& params,
                const device::RotatedJob& job,
                State* state) {
  const size_t head_dim = params.pool.head_dim;
  for (uint32_t head = 0; head < state->num_heads; ++head) {
    const float sum = state->sum_weights[head];
    float* row = state->sum_values + head * head_dim;
    for (size_t dim = 0; dim < head_dim && sum != 0; ++dim) {
      row[dim] = row[dim] / sum;
    }
    ConvertRow(tag,
               static_cast<typename Out::Elem*>(job.out) + (state->first_head + head) * head_dim,
               F32{},
               row,
               static_cast<int>(head_dim));
    if (job.lse != nullptr) {
      job.lse[state->first_head + head] = sum == 0 ? kNone : state->max[head] + ::logf(sum);
    }
  }
}

// A head's part of a state: sum_values[head_dim], the maximum, sum_weights.
float* StateOf(const device::RotatedParams& params,
               const device::RotatedJob& job,
               const State& state,
               uint32_t head) {
  return job.state + uint64_t{state.first_head + head} * (params.pool.head_dim + 2);
}

void LoadState(const device::RotatedParams& params, const device::RotatedJob& job, State* state) {
  const uint32_t head_dim = params.pool.head_dim;
  for (uint32_t head = 0; head < state->num_heads; ++head) {
    const float* from = StateOf(params, job, *state, head);
    __builtin_memcpy(state->sum_values + size_t{head} * head_dim, from, head_dim * sizeof(float));
    state->max[head] = from[head_dim];
    state->sum_weights[head] = from[head_dim + 1];
  }
}

void SaveState(const device::RotatedParams& params,
               const device::RotatedJob& job,
               const State& state) {
  const uint32_t head_dim = params.pool.head_dim;
  for (uint32_t head = 0; head < state.num_heads; ++head) {
    float* to = StateOf(params, job, state, head);
    __builtin_memcpy(to, state.sum_values + size_t{head} * head_dim, head_dim * sizeof(float));
    to[head_dim] = state.max[head];
    to[head_dim + 1] = state.sum_weights[head];
  }
}

template <typename Tag>
void AttendHeads(Tag tag,
                 const device::RotatedParams& params,
                 const device::RotatedJob& job,
                 uint32_t first_head) {
  State state;
  Step step;
  const uint32_t heads_left = params.group - first_head;
  state.first_head = first_head;
  state.num_heads = heads_left < kChunkHeads ? heads_left : kChunkHeads;
  InitState(params, job, &state);
  if (job.state != nullptr && job.later != 0) {
    LoadState(params, job, &state);
  }
  for (uint32_t range_idx = 0; range_idx < job.num_ranges; ++range_idx) {
    const device::KvRange& range = job.ranges[range_idx];
    std::byte* block = device::BlockAddress(params.pool, range.slot);
    for (uint32_t token = range.begin; token < range.end; token += kStepTokens) {
      const uint32_t rest = range.end - token;
      step.count = rest < kStepTokens ? rest : kStepTokens;
      ReadStep(tag, params, block, token, job.positions[range_idx] + (token - range.begin), &step);
      FoldStep(params, step, &state);
    }
  }
  if (job.state != nullptr && job.more != 0) {
    SaveState(params, job, state);
    return;
  }
  WithTag(params.out_dtype, [&](auto out) { StoreState(out, params, job, &state); });
}

}  // namespace

void AttendRotated(const device::OpContext& context, const device::RotatedParams& params) {
  WithTag(params.pool.kv_dtype, [&](auto tag) {
    const size_t num_chunks = (params.group + kChunkHeads - 1) / kChunkHeads;
    device::ParallelFor(*context.executor, params.num_jobs * num_chunks, [&](size_t task) {
      const auto first_head = static_cast<uint32_t>(task % num_chunks) * kChunkHeads;
      AttendHeads(tag, params, params.jobs[task / num_chunks], first_head);
    });
  });
}

}  // namespace hipattn::host::HIPATTN_ISA
