// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// score_nodes: the best q.m + |q|.w of every listed node over the rows and heads (SPEC D28, D30;
// device/params.h).
//
// A step of a group is 16 int8: one vector of 16 floats holds 8 nodes' m and their w at one
// dimension, so that the sums of 8 nodes need no horizontal step until the end. A register tile is
// several groups x up to 8 queries. While a group is multiplied, the lines of the group kAhead
// places later are prefetched: groups are 1 or 2 KB at scattered addresses.
//
// Parallel work is a run of batches, a batch being kBatchGroups neighbouring groups of one job.
#include "device/executor.h"
#include "host/kernels/kernels.h"
#include "host/vec/vec.h"

namespace hipattn::host::HIPATTN_ISA {
namespace {

using device::ScoreJob;
using device::ScoreParams;

constexpr uint32_t kBatchGroups = 64;
constexpr uint32_t kAhead = 16;
constexpr int kTileQueries = kRegisters / 8;
constexpr int kLineSteps = 4;  // steps of 16 bytes in a cache line
constexpr int kScaleBytes = 2 * kFanOut * static_cast<int>(sizeof(float));
constexpr uint32_t kTasksPerThread = 4;  // evens out threads that start late
constexpr float kMinusInf = -__builtin_inff();

// The groups of one batch that have a node to score, and behind them those to prefetch.
struct Batch {
  uint32_t num_groups;
  uint32_t position[kBatchGroups];  // in the job's list
  const std::byte* group[kBatchGroups + kAhead];
  alignas(64) float best[kBatchGroups][kFanOut];
};

// What the steps of a group are multiplied by for up to kTileQueries queries, [step][count][16]: q
// and |q| of one dimension, or q of two.
struct Queries {
  int count;
  alignas(64) float weights[device::kMaxHeadDim * kTileQueries * 16];
};

void LoadQueries(const ScoreParams& params,
                 const device::QueryRows& rows,
                 uint32_t first,
                 Queries* queries) {
  const uint32_t left = rows.num_rows * rows.group - first;
  const uint32_t count = left < kTileQueries ? left : kTileQueries;
  const uint32_t steps = params.has_spread != 0 ? params.head_dim : params.head_dim / 2;
  queries->count = static_cast<int>(count);
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t vector = first + i;
    const float* q = rows.q + vector / rows.group * rows.row_stride +
                     uint64_t{vector % rows.group} * params.head_dim;
    for (uint32_t step = 0; step < steps; ++step) {
      VF weight[kPanelVectors];
      if (params.has_spread != 0) {
        OctetsAbs(Set1(q[step]), weight);
      } else {
        Octets(Set1(q[2 * step]), Set1(q[2 * step + 1]), weight);
      }
      HIPATTN_UNROLL
      for (int part = 0; part < kPanelVectors; ++part) {
        Store(queries->weights + (step * count + i) * 16 + part * kLanes, weight[part]);
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
inline void ScoreTile(const float* weights, int steps, uint32_t at, Batch* batch) {
  const std::byte* group[N];
  const std::byte* ahead[N];
  VF sum[N][H][kPanelVectors];
  HIPATTN_UNROLL
  for (int n = 0; n < N; ++n) {
    group[n] = batch->group[at + static_cast<uint32_t>(n)];
    ahead[n] = batch->group[at + static_cast<uint32_t>(n) + kAhead];
    PrefetchL2(ahead[n]);
    HIPATTN_UNROLL
    for (int h = 0; h < H; ++h) {
      HIPATTN_UNROLL
      for (int i = 0; i < kPanelVectors; ++i) {
        sum[n][h][i] = Zero();
      }
    }
  }
  for (int line = 0; line < steps; line += kLineSteps) {
    HIPATTN_UNROLL
    for (int n = 0; n < N; ++n) {
      PrefetchL2(ahead[n] + kScaleBytes + line * 16);
    }
    HIPATTN_UNROLL
    for (int step = line; step < line + kLineSteps; ++step) {
      VF weight[H][kPanelVectors];
      HIPATTN_UNROLL
      for (int h = 0; h < H; ++h) {
        HIPATTN_UNROLL
        for (int i = 0; i < kPanelVectors; ++i) {
          weight[h][i] = Load(weights + (step * H + h) * 16 + i * kLanes);
        }
      }
      HIPATTN_UNROLL
      for (int n = 0; n < N; ++n) {
        HIPATTN_UNROLL
        for (int i = 0; i < kPanelVectors; ++i) {
          const std::byte* lanes = group[n] + kScaleBytes + step * 16 + i * kLanes;
          const VF value = LoadInt8(reinterpret_cast<const int8_t*>(lanes));
          HIPATTN_UNROLL
          for (int h = 0; h < H; ++h) {
            sum[n][h][i] = MulAdd(value, weight[h][i], sum[n][h][i]);
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
      HIPATTN_UNROLL
      for (int i = 0; i < kPanelVectors; ++i) {
        sum[n][h][i] =
            Mul(sum[n][h][i], Load(reinterpret_cast<const float*>(group[n]) + i * kLanes));
      }
      max = Max(max, AddOctets(sum[n][h]));
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
void ScoreTiles(const float* weights, int steps, uint32_t at, Batch* batch) {
  for (; at + N <= batch->num_groups; at += N) {
    ScoreTile<H, N>(weights, steps, at, batch);
  }
  if constexpr (N > 1) {
    if (at < batch->num_groups) {
      ScoreTiles<H, N / 2>(weights, steps, at, batch);
    }
  }
}

template <int H>
void ScoreQueries(const Queries& queries, int steps, Batch* batch) {
  if constexpr (H > 0) {
    if (queries.count == H) {
      return ScoreTiles<H, GroupsOfTile(H)>(queries.weights, steps, 0, batch);
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
  const int steps =
      static_cast<int>(params.has_spread != 0 ? params.head_dim : params.head_dim / 2);
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
  if (num_batches == 0) {
    return;
  }
  const uint64_t threads = context.executor->concurrency();
  const uint64_t wanted = threads == 1 ? 1 : threads * kTasksPerThread;
  const uint64_t num_tasks = num_batches < wanted ? num_batches : wanted;
  device::ParallelFor(*context.executor, num_tasks, [&](size_t task) {
    RunBatches(params, num_batches * task / num_tasks, num_batches * (task + 1) / num_tasks);
  });
}

}  // namespace hipattn::host::HIPATTN_ISA
