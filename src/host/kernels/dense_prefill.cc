// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// dense_prefill: causal attention of a chunk's rows over their whole past (device/params.h), after
// FlashAttention-2 (arXiv 2307.08691).
//
// A task is a run of query vectors of one job, vector i being head i % group of row i / group. It
// walks the key tiles from position 0 on. A tile's keys and values are widened once into column
// panels of kColumns floats, small enough for L2, and multiplied with kRows query vectors at a
// time; their scores, softmax and P.V stay in L1. Per row and tile
//   s = q.k;  m' = max(m, max s);  p = exp(s - m');  o = exp(m - m') o + sum_keys p v;  l = exp(m -
//   m') l + sum_keys p
// with every sum in the order of the keys (q.k: of the dimensions), so a row's bits depend on its
// own position alone: what other rows share its registers, its task or its chunk changes nothing. A
// row's sums end at its own position: values behind it may be NaN.
//
// A task's scratch is some 250 KB of stack: a thread that runs ops needs 512 KB.
#include "host/kernels/dispatch.h"
#include "host/kernels/kernels.h"
#include "host/kernels/prefill_tiles.h"
#include "host/kernels/token_rows.h"
#include "host/vec/vec.h"

#include <math.h>

namespace hipattn::host::HIPATTN_ISA {
namespace {

constexpr int kQueryFloats =
    96 * 128;  // of a task's queries: tiles are widened once per 96 or more vectors
constexpr int kMaxVectors = 192;

static_assert(kMaxVectors % kRows == 0);
static_assert(device::kPrefillPartKeys % kMaxTileKeys == 0);

struct Scratch {
  alignas(64) float q[kQueryFloats];               // [group of kRows][head_dim][kRows], scaled
  alignas(64) float o[kQueryFloats];               // [vector][padded_dim]
  alignas(64) float k[kTileFloats];                // [column panel][head_dim][kColumns keys]
  alignas(64) float v[kTileFloats];                // [column panel][key][kColumns dimensions]
  alignas(64) float scores[kRows * kMaxTileKeys];  // [row][key]
  alignas(64) float sums[kMaxVectors * kLanes];    // l, by lane
  float max[kMaxVectors];
};

// What does not change within a task.
struct Task {
  const device::PrefillParams* params;
  const device::PrefillJob* job;
  int head_dim;
  int padded_dim;  // of kColumns
  int tile_keys;
  uint64_t first_vector;
  int num_vectors;

  int64_t Position(int vector) const {
    const uint64_t row = (first_vector + static_cast<uint64_t>(vector)) / params->group;
    return int64_t{job->first_pos} + static_cast<int64_t>(row);
  }
};

struct QueryPlace {
  uint64_t row, head;
};

QueryPlace PlaceOf(const Task& task, int vector) {
  const uint64_t number = task.first_vector + static_cast<uint64_t>(vector);
  return {number / task.params->group, number % task.params->group};
}

bool GoesOn(const Task& task) {
  return task.job->state != nullptr && task.job->key_begin > 0;
}

// The text's last part, or all of it.
bool Ends(const Task& task) {
  return task.job->state == nullptr ||
         task.job->key_end >= task.job->first_pos + task.job->num_rows;
}

// That of the task's first vector.
float* States(const Task& task) {
  return task.job->state +
         task.first_vector * device::PrefillStateFloats(1, 1, task.params->pool.head_dim);
}

void StartTask(const Task& task, Scratch* scratch) {
  const device::PrefillParams& params = *task.params;
  const float factor = params.softcap > 0 ? params.scale / params.softcap : params.scale;
  const int padded_vectors = RoundUpTo(task.num_vectors, kRows);
  for (int vector = 0; vector < padded_vectors; ++vector) {
    float* packed = scratch->q + vector / kRows * kRows * task.head_dim + vector % kRows;
    if (vector >= task.num_vectors) {
      for (int dim = 0; dim < task.head_dim; ++dim) {
        packed[dim * kRows] = 0.0F;
      }
      continue;
    }
    const QueryPlace place = PlaceOf(task, vector);
    const float* q = task.job->q + place.row * params.q_row_stride +
                     place.head * static_cast<uint64_t>(task.head_dim);
    for (int dim = 0; dim < task.head_dim; ++dim) {
      packed[dim * kRows] = factor * q[dim];
    }
  }
  if (GoesOn(task)) {
    LoadStates(
        States(task), task.num_vectors, task.params->pool.head_dim, task.padded_dim, scratch);
    return;
  }
  for (int i = 0; i < task.num_vectors * task.padded_dim; i += kLanes) {
    Store(scratch->o + i, Zero());
  }
  for (int vector = 0; vector < task.num_vectors; ++vector) {
    Store(scratch->sums + vector * kLanes, Zero());
    scratch->max[vector] = kNone;
  }
}

// Values [0, count) of a tile into scratch->v; dimensions up to padded_dim are zeros.
template <typename Tag>
void WidenValues(Tag tag, const Task& task, int64_t tile_begin, int count, Scratch* scratch) {
  const device::BlockPool& pool = task.params->pool;
  for (int key = 0; key < count; ++key) {
    const auto token = static_cast<uint64_t>(tile_begin + key);
    std::byte* block = device::BlockAddress(pool, task.job->slots[token / pool.block_tokens]);
    const typename Tag::Elem* from =
        ValueRow<Tag>(block, pool, static_cast<uint32_t>(token % pool.block_tokens));
    WidenValue(
        tag, from, task.head_dim, task.padded_dim, task.tile_keys, scratch->v + key * kColumns);
  }
}

// Caps and masks the scores of one row against keys [0, limit) of a tile; returns the largest of
// them and `max`.
float CapScores(float softcap, int limit, float max, float* scores) {
  const int end = RoundUpTo(limit, kLanes);
  VF largest = Set1(max);
  for (int key = 0; key < end; key += kLanes) {
    VF score = Load(scores + key);
    if (softcap > 0) {
      score = Mul(Set1(softcap), Tanh(score));
    }
    if (limit - key < kLanes) {
      score = Select(LaneRange(0, limit - key), score, Set1(kNone));
    }
    if (softcap > 0 || limit - key < kLanes) {
      Store(scores + key, score);
    }
    largest = Max(score, largest);
  }
  return ReduceMax(largest);
}

// Softmax of a group's scores against one tile, in place. decay[i] = exp(old maximum - new maximum)
// of row i.
void SoftmaxRows(const Task& task,
                 int first_row,
                 int num_rows,
                 const int* limits,
                 float* decay,
                 Scratch* scratch) {
  for (int row = 0; row < kDecays; ++row) {
    decay[row] = 0.0F;
    if (row < num_rows && limits[row] > 0) {
      float* max = scratch->max + first_row + row;
      const float old_max = *max;
      *max = CapScores(
          task.params->softcap, limits[row], old_max, scratch->scores + row * kMaxTileKeys);
      decay[row] = old_max - *max;
    }
  }
  for (int row = 0; row < kDecays; row += kLanes) {
    Store(decay + row, Exp(Load(decay + row)));
  }
  for (int row = 0; row < num_rows; ++row) {
    if (limits[row] > 0) {
      WeighScores(limits[row],
                  scratch->max[first_row + row],
                  decay[row],
                  scratch->scores + row * kMaxTileKeys,
                  scratch->sums + (first_row + row) * kLanes);
    }
  }
}

// P.V of a group whose rows see different numbers of keys: the keys that all of them see together,
// the rest row by row, in the same chain of sums.
void AddUnevenValues(const Task& task,
                     int first_row,
                     int num_rows,
                     const int* limits,
                     const float* decay,
                     Scratch* scratch) {
  const int common = limits[0] > 0 ? limits[0] : 0;
  for (int dim = 0; dim < task.padded_dim; dim += kColumns) {
    const float* v = scratch->v + dim * task.tile_keys;
    alignas(64) float partial[kRows * kColumns];
    MultiplyPanel<kRows, 1, kMaxTileKeys>(
        scratch->scores, v, common, [&](int row, VF sum0, VF sum1) {
          Store(partial + row * kColumns, sum0);
          Store(partial + row * kColumns + kLanes, sum1);
        });
    for (int row = 0; row < num_rows; ++row) {
      VF sum0 = Load(partial + row * kColumns);
      VF sum1 = Load(partial + row * kColumns + kLanes);
      for (int key = common; key < limits[row]; ++key) {
        const VF weight = Set1(scratch->scores[row * kMaxTileKeys + key]);
        sum0 = MulAdd(weight, Load(v + key * kColumns), sum0);
        sum1 = MulAdd(weight, Load(v + key * kColumns + kLanes), sum1);
      }
      if (limits[row] > 0) {
        AddValues(scratch->o + (first_row + row) * task.padded_dim + dim, decay[row], sum0, sum1);
      }
    }
  }
}

// One group of kRows vectors against one tile, of which row i sees limits[i] keys, none when 0 or
// less.
void FoldTile(const Task& task, int first_row, const int* limits, Scratch* scratch) {
  const int num_rows = Min(kRows, task.num_vectors - first_row);
  const int most = limits[num_rows - 1];
  if (most <= 0) {
    return;
  }
  const float* q = scratch->q + first_row * task.head_dim;
  for (int key = 0; key < most; key += kColumns) {
    float* scores = scratch->scores + key;
    MultiplyPanel<kRows, kRows, 1>(
        q, scratch->k + key * task.head_dim, task.head_dim, [&](int row, VF sum0, VF sum1) {
          Store(scores + row * kMaxTileKeys, sum0);
          Store(scores + row * kMaxTileKeys + kLanes, sum1);
        });
  }
  alignas(64) float decay[kDecays];
  SoftmaxRows(task, first_row, num_rows, limits, decay, scratch);
  if (limits[0] < most || num_rows < kRows) {
    AddUnevenValues(task, first_row, num_rows, limits, decay, scratch);
    return;
  }
  for (int dim = 0; dim < task.padded_dim; dim += kColumns) {
    float* o = scratch->o + first_row * task.padded_dim + dim;
    MultiplyPanel<kRows, 1, kMaxTileKeys>(
        scratch->scores, scratch->v + dim * task.tile_keys, most, [&](int row, VF sum0, VF sum1) {
          AddValues(o + row * task.padded_dim, decay[row], sum0, sum1);
        });
  }
}

template <typename Tag>
void WalkTiles(Tag tag, const Task& task, Scratch* scratch) {
  int64_t end = task.Position(task.num_vectors - 1) + 1;
  if (!Ends(task) && end > int64_t{task.job->key_end}) {
    end = int64_t{task.job->key_end};
  }
  for (int64_t tile = GoesOn(task) ? int64_t{task.job->key_begin} : 0; tile < end;
       tile += task.tile_keys) {
    const int64_t keys_left = end - tile;
    const int count = keys_left < task.tile_keys ? static_cast<int>(keys_left) : task.tile_keys;
    WidenKeys(tag, task.params->pool, task.job->slots, tile, count, scratch->k);
    WidenValues(tag, task, tile, count, scratch);
    for (int first_row = 0; first_row < task.num_vectors; first_row += kRows) {
      int limits[kRows];
      for (int row = 0; row < Min(kRows, task.num_vectors - first_row); ++row) {
        const int64_t limit = task.Position(first_row + row) + 1 - tile;
        limits[row] = limit < count ? static_cast<int>(limit) : count;
      }
      FoldTile(task, first_row, limits, scratch);
    }
  }
}

template <typename Out>
void StoreRows(Out tag, const Task& task, Scratch* scratch) {
  const device::PrefillParams& params = *task.params;
  for (int vector = 0; vector < task.num_vectors; ++vector) {
    const QueryPlace place = PlaceOf(task, vector);
    const float sum = ReduceAdd(Load(scratch->sums + vector * kLanes));
    float* o = scratch->o + vector * task.padded_dim;
    for (int dim = 0; dim < task.padded_dim; dim += kLanes) {
      Store(o + dim, Div(Load(o + dim), Set1(sum)));
    }
    auto* out = static_cast<typename Out::Elem*>(task.job->out) +
                place.row * params.out_row_stride +
                place.head * static_cast<uint64_t>(task.head_dim);
    ConvertRow(tag, out, F32{}, o, task.head_dim);
    if (task.job->lse != nullptr) {
      task.job->lse[place.row * params.lse_row_stride + place.head] =
          scratch->max[vector] + ::logf(sum);
    }
  }
}

template <typename Tag>
void RunTask(Tag tag, const Task& task) {
  Scratch scratch;
  StartTask(task, &scratch);
  WalkTiles(tag, task, &scratch);
  if (!Ends(task)) {
    SaveStates(
        States(task), task.num_vectors, task.params->pool.head_dim, task.padded_dim, scratch);
    return;
  }
  WithTag(task.params->out_dtype, [&](auto out) { StoreRows(out, task, &scratch); });
}

// How the vectors of a call are cut into tasks: as many as a tile is worth widening for, fewer when
// threads would go without.
struct Plan {
  int padded_dim;
  int task_vectors;
  uint64_t most_tasks;  // of one job
};

Plan MakePlan(const device::PrefillParams& params, unsigned concurrency) {
  constexpr int kFewestVectors = 4 * kRows;  // fewer are not worth another widening of the tiles
  constexpr uint64_t kTasksPerThread = 4;
  uint64_t vectors = 0;
  uint64_t most_rows = 0;
  for (uint32_t job_idx = 0; job_idx < params.num_jobs; ++job_idx) {
    const uint64_t rows = params.jobs[job_idx].num_rows;
    vectors += rows * params.group;
    most_rows = rows > most_rows ? rows : most_rows;
  }
  const int padded_dim = RoundUpTo(static_cast<int>(params.pool.head_dim), kColumns);
  const int most_vectors = Min(kMaxVectors, kQueryFloats / padded_dim / kRows * kRows);
  const uint64_t share = vectors / concurrency;
  int task_vectors = most_vectors;
  if (concurrency > 1 && share / kTasksPerThread < static_cast<uint64_t>(most_vectors)) {
    const int fewest = share < kFewestVectors ? static_cast<int>(share) : kFewestVectors;
    const int fair = static_cast<int>(share / kTasksPerThread);
    task_vectors = Min(RoundUpTo(fair > fewest ? fair : fewest, kRows), most_vectors);
    task_vectors = task_vectors > 0 ? task_vectors : kRows;
  }
  const auto step = static_cast<uint64_t>(task_vectors);
  return {padded_dim, task_vectors, (most_rows * params.group + step - 1) / step};
}

// Task number `number` of the call: the latest vectors of every job first, because they take
// longest. An empty task, when the job has fewer.
Task MakeTask(const device::PrefillParams& params, const Plan& plan, uint64_t number) {
  const device::PrefillJob& job = params.jobs[number % params.num_jobs];
  const uint64_t from_end = number / params.num_jobs;
  const auto step = static_cast<uint64_t>(plan.task_vectors);
  const uint64_t vectors = uint64_t{job.num_rows} * params.group;
  const uint64_t num_tasks = (vectors + step - 1) / step;
  Task task = {&params,
               &job,
               static_cast<int>(params.pool.head_dim),
               plan.padded_dim,
               TileKeys(plan.padded_dim),
               0,
               0};
  if (from_end < num_tasks) {
    task.first_vector = (num_tasks - 1 - from_end) * step;
    const uint64_t rest = vectors - task.first_vector;
    task.num_vectors = static_cast<int>(rest < step ? rest : step);
  }
  return task;
}

// Takes tasks from the counter until there are none left.
template <typename Tag>
void RunTasksFrom(Tag tag,
                  const device::PrefillParams& params,
                  const Plan& plan,
                  uint64_t* next_task) {
  for (;;) {
    const uint64_t number = __atomic_fetch_add(next_task, 1, __ATOMIC_RELAXED);
    if (number >= plan.most_tasks * params.num_jobs) {
      return;
    }
    const Task task = MakeTask(params, plan, number);
    if (task.num_vectors > 0) {
      RunTask(tag, task);
    }
  }
}

}  // namespace

void DensePrefill(const device::OpContext& context, const device::PrefillParams& params) {
  const unsigned concurrency = context.executor->concurrency();
  const Plan plan = MakePlan(params, concurrency);
  const uint64_t num_tasks = plan.most_tasks * params.num_jobs;
  const uint64_t num_workers = num_tasks < concurrency ? num_tasks : concurrency;
  // One counter for all workers: an executor's own order could leave a long task for the end.
  uint64_t next_task = 0;
  WithTag(params.pool.kv_dtype, [&](auto tag) {
    device::ParallelFor(*context.executor, num_workers, [&](size_t) {
      RunTasksFrom(tag, params, plan, &next_task);
    });
  });
}

}  // namespace hipattn::host::HIPATTN_ISA
