// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// score_nodes: the best q.m + |q|.w of every listed node over the rows and heads (SPEC D28, D30;
// device/params.h).
//
// A step of a group is 16 pairs of int8: 8 nodes' m and their w at two dimensions, multiplied by
// pairs of int16 into one vector of 16 whole sums, so that 8 nodes need no horizontal step until
// the end. A register tile is several groups x up to 8 queries. While a group is multiplied, the
// lines of the group kAhead places later are prefetched: groups are 1 or 2 KB at scattered
// addresses.
//
// Parallel work is a run of batches, a batch being kBatchGroups neighbouring groups of one job.
#include "base/fixed_point.h"
#include "host/kernels/dispatch.h"
#include "host/kernels/kernels.h"
#include "host/kernels/steps.h"
#include "host/vec/vec.h"

namespace hipattn::host::HIPATTN_ISA {
namespace {

using device::ScoreJob;
using device::ScoreParams;

constexpr uint32_t kBatchGroups = 64;
constexpr uint32_t kAhead = 16;
constexpr int kTileQueries = kRegisters / 8;
constexpr int kStepBytes = 32;
constexpr int kLineSteps = 2;  // steps in a cache line
constexpr int kScaleBytes = 2 * kFanOut * static_cast<int>(sizeof(float));
constexpr float kMinusInf = -__builtin_inff();

// The groups of one batch that have a node to score, and behind them those to prefetch.
struct Batch {
  uint32_t num_groups;
  uint32_t position[kBatchGroups];  // in the job's list
  const std::byte* group[kBatchGroups + kAhead];
  alignas(64) float best[kBatchGroups][kFanOut];
};

// What the steps of a group are multiplied by for up to kTileQueries queries, [step][count][16]
// pairs: q and |q| of two dimensions, or q of four.
struct Queries {
  int count;
  float step[kTileQueries];
  alignas(64) int16_t weights[device::kMaxHeadDim / 2 * kTileQueries * kStepBytes];
};

// q as whole numbers of steps; returns the step.
float LoadQuery(const float* q, int head_dim, int16_t* whole) {
  alignas(64) float steps[device::kMaxHeadDim + kLanes];
  const Int16Step step = StepOfInt16(Largest(q, head_dim));
  RoundSteps(q, head_dim, step.step, kMaxInt16Steps, steps);
  for (int i = 0; i < head_dim; ++i) {
    whole[i] = static_cast<int16_t>(steps[i]);
  }
  return step.step;
}

void LoadQueries(const ScoreParams& params,
                 const device::QueryRows& rows,
                 uint32_t first,
                 Queries* queries) {
  const uint32_t left = rows.num_rows * rows.group - first;
  const uint32_t count = left < kTileQueries ? left : kTileQueries;
  const bool has_spread = params.has_spread != 0;
  const uint32_t step_dims = has_spread ? 2 : 4;
  queries->count = static_cast<int>(count);
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t vector = first + i;
    int16_t whole[device::kMaxHeadDim];
    queries->step[i] = LoadQuery(rows.q + vector / rows.group * rows.row_stride +
                                     uint64_t{vector % rows.group} * params.head_dim,
                                 static_cast<int>(params.head_dim),
                                 whole);
    for (uint32_t dim = 0; dim < params.head_dim; dim += step_dims) {
      int16_t pairs[4] = {whole[dim], whole[dim + 1]};
      for (int other = 0; other < 2; ++other) {
        const int16_t x = pairs[other];
        pairs[2 + other] = has_spread ? (x < 0 ? static_cast<int16_t>(-x) : x)
                                      : whole[dim + 2 + static_cast<uint32_t>(other)];
      }
      int16_t* weights = queries->weights + (dim / step_dims * count + i) * kStepBytes;
      for (uint32_t lane = 0; lane < 16; ++lane) {
        __builtin_memcpy(weights + 2 * lane, pairs + lane / kFanOut * 2, 2 * sizeof(int16_t));
      }
    }
  }
}

// The first lines of a batch, all at once, so that their page walks overlap.
void TouchBatch(const ScoreParams& params, const ScoreJob& job, uint32_t first) {
  const uint64_t group_bytes = device::SummaryGroupBytes(params.head_dim, params.has_spread != 0);
  for (uint32_t i = first; i < job.num_groups && i < first + kBatchGroups; ++i) {
    const std::byte* group =
        device::SummaryGroupAddress(job.level, group_bytes, job.groups[i].index);
    PrefetchL2(group);
    PrefetchL2(group + group_bytes - 1);
  }
}

void FillBatch(const ScoreParams& params, const ScoreJob& job, uint32_t first, Batch* batch) {
  const uint64_t group_bytes = device::SummaryGroupBytes(params.head_dim, params.has_spread != 0);
  const uint32_t last =
      job.num_groups - first < kBatchGroups ? job.num_groups : first + kBatchGroups;
  uint32_t count = 0;
  for (uint32_t i = first; i < last; ++i) {
    if (job.groups[i].mask != 0) {
      batch->position[count] = i;
      batch->group[count++] =
          device::SummaryGroupAddress(job.level, group_bytes, job.groups[i].index);
    }
  }
  batch->num_groups = count;
  for (uint32_t i = 0; i < kAhead; ++i) {
    const uint32_t next = last + i < job.num_groups ? last + i : job.num_groups - 1;
    batch->group[count + i] =
        device::SummaryGroupAddress(job.level, group_bytes, job.groups[next].index);
  }
}

// Folds the scores of groups [at, at + N) of the batch for H queries into batch->best.
template <int H, int N>
inline void ScoreTile(const Queries& queries, int steps, uint32_t at, Batch* batch) {
  const std::byte* group[N];
  const std::byte* ahead[N];
  VI sum[N][H][kPanelVectors];
  HIPATTN_UNROLL
  for (int n = 0; n < N; ++n) {
    group[n] = batch->group[at + static_cast<uint32_t>(n)];
    ahead[n] = batch->group[at + static_cast<uint32_t>(n) + kAhead];
    PrefetchL2(ahead[n]);
    HIPATTN_UNROLL
    for (int h = 0; h < H; ++h) {
      HIPATTN_UNROLL
      for (int i = 0; i < kPanelVectors; ++i) {
        sum[n][h][i] = ZeroInts();
      }
    }
  }
  for (int line = 0; line < steps; line += kLineSteps) {
    HIPATTN_UNROLL
    for (int n = 0; n < N; ++n) {
      PrefetchL2(ahead[n] + kScaleBytes + line * kStepBytes);
    }
    HIPATTN_UNROLL
    for (int step = line; step < line + kLineSteps; ++step) {
      VS weight[H][kPanelVectors];
      HIPATTN_UNROLL
      for (int h = 0; h < H; ++h) {
        HIPATTN_UNROLL
        for (int i = 0; i < kPanelVectors; ++i) {
          weight[h][i] = LoadShorts(queries.weights + (step * H + h) * kStepBytes + i * 2 * kLanes);
        }
      }
      HIPATTN_UNROLL
      for (int n = 0; n < N; ++n) {
        HIPATTN_UNROLL
        for (int i = 0; i < kPanelVectors; ++i) {
          const std::byte* lanes = group[n] + kScaleBytes + step * kStepBytes + i * 2 * kLanes;
          const VS value = LoadBytes(reinterpret_cast<const int8_t*>(lanes));
          HIPATTN_UNROLL
          for (int h = 0; h < H; ++h) {
            sum[n][h][i] = DotAdd(value, weight[h][i], sum[n][h][i]);
          }
        }
      }
    }
  }
  HIPATTN_UNROLL
  for (int n = 0; n < N; ++n) {
    float* best = batch->best[at + static_cast<uint32_t>(n)];
    VF max = LoadFirst(best, kFanOut);
    HIPATTN_UNROLL
    for (int h = 0; h < H; ++h) {
      VF scaled[kPanelVectors];
      HIPATTN_UNROLL
      for (int i = 0; i < kPanelVectors; ++i) {
        const VF scale = Load(reinterpret_cast<const float*>(group[n]) + i * kLanes);
        scaled[i] = Mul(ToFloat(sum[n][h][i]), scale);
      }
      max = Max(max, Mul(AddOctets(scaled), Set1(queries.step[h])));
    }
    StoreFirst(best, max, kFanOut);
  }
}

constexpr int GroupsOfTile(int queries) {
  int groups = 8;
  while (groups > 1 && (groups * queries + queries) * kPanelVectors + 1 > kRegisters) {
    groups /= 2;
  }
  return groups;
}

// Groups [at, num_groups): tiles of N while they fit, then smaller ones.
template <int H, int N>
void ScoreTiles(const Queries& queries, int steps, uint32_t at, Batch* batch) {
  for (; at + N <= batch->num_groups; at += N) {
    ScoreTile<H, N>(queries, steps, at, batch);
  }
  if constexpr (N > 1) {
    if (at < batch->num_groups) {
      ScoreTiles<H, N / 2>(queries, steps, at, batch);
    }
  }
}

template <int H>
void ScoreQueries(const Queries& queries, int steps, Batch* batch) {
  if constexpr (H > 0) {
    if (queries.count == H) {
      return ScoreTiles<H, GroupsOfTile(H)>(queries, steps, 0, batch);
    }
    ScoreQueries<H - 1>(queries, steps, batch);
  }
}

void StoreScores(const ScoreJob& job, const Batch& batch) {
  for (uint32_t i = 0; i < batch.num_groups; ++i) {
    const uint32_t mask = job.groups[batch.position[i]].mask;
    float* scores = job.scores + uint64_t{batch.position[i]} * kFanOut;
    if (mask == 0xff) {
      StoreFirst(scores, LoadFirst(batch.best[i], kFanOut), kFanOut);
      continue;
    }
    for (uint32_t child = 0; child < kFanOut; ++child) {
      if ((mask >> child & 1U) != 0) {
        scores[child] = batch.best[i][child];
      }
    }
  }
}

uint32_t NumBatches(const ScoreJob& job) {
  return job.num_groups / kBatchGroups + (job.num_groups % kBatchGroups != 0 ? 1U : 0U);
}

// Batches [first, last), counted over all jobs. Queries that fit one tile are loaded once per job.
void RunBatches(const ScoreParams& params, uint64_t first, uint64_t last) {
  Batch batch;
  Queries queries;
  const int steps = static_cast<int>(params.head_dim / (params.has_spread != 0 ? 2 : 4));
  uint64_t batch_base = 0;
  for (uint32_t job_idx = 0; job_idx < params.num_jobs && batch_base < last; ++job_idx) {
    const ScoreJob& job = params.jobs[job_idx];
    const uint64_t job_end = batch_base + NumBatches(job);
    const uint32_t num_queries = job.rows.num_rows * job.rows.group;
    bool loaded = false;
    for (uint64_t i = first > batch_base ? first : batch_base; i < job_end && i < last; ++i) {
      const uint32_t first_group = static_cast<uint32_t>(i - batch_base) * kBatchGroups;
      TouchBatch(params, job, first_group + kBatchGroups);
      FillBatch(params, job, first_group, &batch);
      for (uint32_t group = 0; group < batch.num_groups; ++group) {
        StoreFirst(batch.best[group], Set1(kMinusInf), kFanOut);
      }
      for (uint32_t query = 0; query < num_queries; query += kTileQueries) {
        if (!loaded || num_queries > kTileQueries) {
          LoadQueries(params, job.rows, query, &queries);
          loaded = true;
        }
        ScoreQueries<kTileQueries>(queries, steps, &batch);
      }
      StoreScores(job, batch);
    }
    batch_base = job_end;
  }
}

}  // namespace

void ScoreNodes(const device::OpContext& context, const ScoreParams& params) {
  uint64_t num_batches = 0;
  for (uint32_t i = 0; i < params.num_jobs; ++i) {
    num_batches += NumBatches(params.jobs[i]);
  }
  ParallelRuns(context, num_batches, [&](uint64_t first, uint64_t last) {
    RunBatches(params, first, last);
  });
}

}  // namespace hipattn::host::HIPATTN_ISA
