// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// score_blocks: a row tile's queries against the mean keys of blocks (device/params.h), by the
// register tiles of prefill. A task is 64 query vectors of one job: the means of 64 row tiles, or
// the rows of one.
#include "host/kernels/dispatch.h"
#include "host/kernels/kernels.h"
#include "host/kernels/prefill_tiles.h"
#include "host/vec/vec.h"

#include <math.h>

namespace hipattn::host::HIPATTN_ISA {
namespace {

constexpr int kTile = kMaxTileKeys / 2;  // blocks scored at a time

struct Scratch {
  alignas(64) float q[kTileRows * static_cast<int>(device::kMaxHeadDim)];
  alignas(64) float k[kTile * static_cast<int>(device::kMaxHeadDim)];
  alignas(64) float scores[kTileRows * kMaxTileKeys];
};

struct Task {
  const device::BlockScoreParams* params;
  const device::BlockScoreJob* job;
  uint64_t first_row;
  int num_vectors;
  int head_dim;
};

// Sum of the rows of the row tile that begins at `row`, in order, / 64.
void PoolRows(const Task& task, uint64_t row, float* mean) {
  for (int dim = 0; dim < task.head_dim; ++dim) {
    mean[dim] = 0.0F;
  }
  for (uint64_t i = row; i < row + kRowTile && i < task.job->num_rows; ++i) {
    const float* q = task.job->q + i * task.params->q_row_stride;
    for (int dim = 0; dim < task.head_dim; ++dim) {
      mean[dim] += q[dim];
    }
  }
  for (int dim = 0; dim < task.head_dim; ++dim) {
    mean[dim] *= 1.0F / static_cast<float>(kRowTile);
  }
}

void PackVectors(const Task& task, Scratch* scratch) {
  const bool pooled = task.params->score == device::BlockScore::kPooled;
  for (int vector = 0; vector < kTileRows; ++vector) {
    float mean[device::kMaxHeadDim];
    const float* q = nullptr;
    if (vector < task.num_vectors && pooled) {
      PoolRows(task, task.first_row + static_cast<uint64_t>(vector) * kRowTile, mean);
      q = mean;
    } else if (vector < task.num_vectors) {
      q = task.job->q +
          (task.first_row + static_cast<uint64_t>(vector)) * task.params->q_row_stride;
    }
    PackQuery(q, task.params->scale, task.head_dim, vector, scratch->q);
  }
}

// Scores of the row tiles against blocks [first, first + count), those that begin behind a tile's
// last row -inf.
void StorePooled(const Task& task, uint64_t first, int count, const Scratch& scratch) {
  for (int vector = 0; vector < task.num_vectors; ++vector) {
    const uint64_t row = task.first_row + static_cast<uint64_t>(vector) * kRowTile;
    const uint64_t end = row + kRowTile < task.job->num_rows ? row + kRowTile : task.job->num_rows;
    const uint64_t limit = task.job->first_pos + end;
    float* scores = task.job->scores + row / kRowTile * task.job->num_blocks + first;
    for (int i = 0; i < count; ++i) {
      scores[i] = kNone;
      if ((first + static_cast<uint64_t>(i)) * device::kPoolTokens < limit) {
        scores[i] = scratch.scores[vector * kMaxTileKeys + i];
      }
    }
  }
}

// Log of the weights of one row tile's rows, block by block.
void StoreMass(const Task& task, uint64_t first, int count, const Scratch& scratch) {
  float* scores = task.job->scores + task.first_row / kRowTile * task.job->num_blocks + first;
  for (int i = 0; i < count; i += kLanes) {
    // Of the blocks that have ended, row r sees those below `ended`.
    const auto seen = [&](int row) {
      const uint64_t position = task.job->first_pos + task.first_row + static_cast<uint64_t>(row);
      const auto ended = static_cast<int64_t>((position + 1) / device::kPoolTokens) -
                         static_cast<int64_t>(first) - i;
      return LaneRange(0, ended < 0 ? 0 : ended > kLanes ? kLanes : static_cast<int>(ended));
    };
    VF max = Set1(kNone);
    for (int row = 0; row < task.num_vectors; ++row) {
      const VF score = Load(scratch.scores + row * kMaxTileKeys + i);
      max = Max(Select(seen(row), score, Set1(kNone)), max);
    }
    VF sum = Zero();
    for (int row = 0; row < task.num_vectors; ++row) {
      const VF score = Load(scratch.scores + row * kMaxTileKeys + i);
      sum = Add(sum, Exp(Select(seen(row), Sub(score, max), Set1(kNone))));
    }
    alignas(64) float maxima[kLanes];
    alignas(64) float sums[kLanes];
    Store(maxima, max);
    Store(sums, sum);
    for (int lane = 0; lane < Min(kLanes, count - i); ++lane) {
      scores[i + lane] = sums[lane] > 0 ? maxima[lane] + ::logf(sums[lane]) : kNone;
    }
  }
}

// Blocks that begin before or at the task's last row.
uint64_t SeenBlocks(const Task& task) {
  const uint64_t rows = task.params->score == device::BlockScore::kPooled
                            ? static_cast<uint64_t>(task.num_vectors) * kRowTile
                            : static_cast<uint64_t>(task.num_vectors);
  const uint64_t end = task.first_row + rows;
  const uint64_t keys = task.job->first_pos + (end < task.job->num_rows ? end : task.job->num_rows);
  const uint64_t blocks = (keys + device::kPoolTokens - 1) / device::kPoolTokens;
  return blocks < task.job->num_blocks ? blocks : task.job->num_blocks;
}

// -inf for the blocks from `first` on, in all of the task's row tiles.
void FillUnseen(const Task& task, uint64_t first) {
  const bool pooled = task.params->score == device::BlockScore::kPooled;
  const uint64_t num_tiles = pooled ? static_cast<uint64_t>(task.num_vectors) : 1;
  for (uint64_t tile = 0; tile < num_tiles; ++tile) {
    float* scores = task.job->scores + (task.first_row / kRowTile + tile) * task.job->num_blocks;
    for (uint64_t block = first; block < task.job->num_blocks; ++block) {
      scores[block] = kNone;
    }
  }
}

void RunTask(const Task& task) {
  Scratch scratch;
  PackVectors(task, &scratch);
  const size_t half = size_t{device::kPanelTokens} * task.params->head_dim;
  const uint64_t num_blocks = SeenBlocks(task);
  FillUnseen(task, num_blocks);
  for (uint64_t first = 0; first < num_blocks; first += kTile) {
    const uint64_t rest = num_blocks - first;
    const int count = rest < kTile ? static_cast<int>(rest) : kTile;
    for (int block = 0; block < RoundUpTo(count, kColumns); block += kPanel) {
      float* to = scratch.k + block / kColumns * kColumns * task.head_dim + block % kColumns;
      if (block < count) {
        const uint64_t panel = (first + static_cast<uint64_t>(block)) / device::kPanelTokens;
        WidenPanel(F32{}, task.job->panel + panel * 2 * half, task.head_dim, to);
      } else {
        ClearPanel(task.head_dim, to);
      }
    }
    ScoreTile(scratch.q, scratch.k, task.head_dim, task.num_vectors, count, scratch.scores);
    if (task.params->score == device::BlockScore::kPooled) {
      StorePooled(task, first, count, scratch);
    } else {
      StoreMass(task, first, count, scratch);
    }
  }
}

// Task number `number`, without vectors when its job has fewer tasks. A task has `rows` rows.
Task MakeTask(const device::BlockScoreParams& params, uint64_t rows, uint64_t number) {
  Task task = {};
  task.params = &params;
  task.job = &params.jobs[number % params.num_jobs];
  task.head_dim = static_cast<int>(params.head_dim);
  task.first_row = number / params.num_jobs * rows;
  if (task.first_row < task.job->num_rows) {
    const uint64_t left = task.job->num_rows - task.first_row;
    const uint64_t here = left < rows ? left : rows;
    task.num_vectors = static_cast<int>(rows == kRowTile ? here : (here + kRowTile - 1) / kRowTile);
  }
  return task;
}

}  // namespace

void ScoreBlocks(const device::OpContext& context, const device::BlockScoreParams& params) {
  const uint64_t rows = params.score == device::BlockScore::kPooled ? uint64_t{kRowTile} * kRowTile
                                                                    : uint64_t{kRowTile};
  uint64_t most_tasks = 0;
  for (uint32_t job_idx = 0; job_idx < params.num_jobs; ++job_idx) {
    const uint64_t tasks = (params.jobs[job_idx].num_rows + rows - 1) / rows;
    most_tasks = tasks > most_tasks ? tasks : most_tasks;
  }
  device::ParallelFor(*context.executor, most_tasks * params.num_jobs, [&](size_t number) {
    const Task task = MakeTask(params, rows, number);
    if (task.num_vectors > 0) {
      RunTask(task);
    }
  });
}

}  // namespace hipattn::host::HIPATTN_ISA
