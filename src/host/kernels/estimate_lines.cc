// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// estimate_lines: column sums and diagonal sums of the causal softmax of a few rows
// (device/params.h).
//
// A task is one segment of keys of one job. The first pass leaves each row's largest score and sum
// of weights there, which make its lse; the second computes the scores again and adds up
// exp(score - lse). Weights of a register tile are stored each row one lane further left than the
// row before, so that its diagonals are columns: a diagonal's number inside a segment is key - row,
// and is turned into the distance behind the row only when the segments are merged.
#include "host/kernels/dispatch.h"
#include "host/kernels/kernels.h"
#include "host/kernels/prefill_tiles.h"
#include "host/vec/vec.h"

#include <math.h>

namespace hipattn::host::HIPATTN_ISA {
namespace {

constexpr int kSegment = static_cast<int>(device::kLinesSegment);
constexpr int kTile = kMaxTileKeys / 2;  // keys; whole ones are a segment
// Lanes of one row of shifted weights.
constexpr int kShifted = RoundUpTo(kTile + kRows, kLanes);
constexpr int kFrontRoom = 16;  // diagonals of rows that only fill up a register tile

static_assert(kSegment % kTile == 0 && kRows <= kFrontRoom);

struct Scratch {
  alignas(64) float q[kTileRows * static_cast<int>(device::kMaxHeadDim)];
  alignas(64) float k[kTile * static_cast<int>(device::kMaxHeadDim)];
  alignas(64) float scores[kTileRows * kMaxTileKeys];
  alignas(64) float shifted[kRows * kShifted];  // 0 but for each row's kTile lanes
  alignas(64) float sums[kTileRows * kLanes];
  float max[kTileRows];
};

struct Task {
  const device::LinesParams* params;
  const device::LinesJob* job;
  int64_t begin;  // of the segment
  int64_t end;
  float* max;        // [num_rows] of this segment
  float* sum;        // [num_rows]
  float* diagonals;  // [LinesDiagonals]
  int head_dim;
};

uint64_t NumKeys(const device::LinesJob& job) {
  return uint64_t{job.first_pos} + job.num_rows;
}

uint64_t NumSegments(const device::LinesJob& job) {
  return (NumKeys(job) + device::kLinesSegment - 1) / device::kLinesSegment;
}

float* SegmentMemory(const device::LinesJob& job, uint64_t segment) {
  return job.workspace +
         segment * (2 * uint64_t{job.num_rows} + device::LinesDiagonals(job.num_rows));
}

// Diagonal number of key `begin` of a segment and row 0.
int64_t FirstDiagonal(const device::LinesJob& job) {
  return RoundUpTo(static_cast<int>(job.num_rows), kTileRows) + kFrontRoom;
}

// The segments of a job that this launch is about.
uint64_t EndSegment(const device::LinesJob& job) {
  const uint64_t all = NumSegments(job);
  return job.segment_end < all ? job.segment_end : all;
}

Task MakeTask(const device::LinesParams& params, uint64_t most_segments, uint64_t number) {
  const device::LinesJob& job = params.jobs[number / most_segments];
  const uint64_t segment = job.segment_begin + number % most_segments;
  Task task = {};
  if (segment < EndSegment(job)) {
    task.params = &params;
    task.job = &job;
    task.begin = static_cast<int64_t>(segment) * kSegment;
    const auto rest = static_cast<int64_t>(NumKeys(job)) - task.begin;
    task.end = task.begin + (rest < kSegment ? rest : kSegment);
    task.max = SegmentMemory(job, segment);
    task.sum = task.max + job.num_rows;
    task.diagonals = task.sum + job.num_rows;
    task.head_dim = static_cast<int>(params.pool.head_dim);
  }
  return task;
}

void PackRows(const Task& task, int first_row, int num_rows, Scratch* scratch) {
  const device::LinesParams& params = *task.params;
  const float factor = params.softcap > 0 ? params.scale / params.softcap : params.scale;
  for (int row = 0; row < kTileRows; ++row) {
    const auto number = static_cast<uint64_t>(first_row) + static_cast<uint64_t>(row);
    const float* q = row < num_rows ? task.job->q + number * params.q_row_stride : nullptr;
    PackQuery(q, factor, task.head_dim, row, scratch->q);
  }
}

// Calls fold(tile, first row, rows) with the scores of the segment's tiles against each row tile.
template <typename Tag, typename Fold>
void ForEachTile(Tag tag, const Task& task, Scratch* scratch, const Fold& fold) {
  const int all_rows = static_cast<int>(task.job->num_rows);
  for (int first_row = 0; first_row < all_rows; first_row += kTileRows) {
    const int num_rows = Min(kTileRows, all_rows - first_row);
    PackRows(task, first_row, num_rows, scratch);
    for (int64_t tile = task.begin; tile < task.end; tile += kTile) {
      const int count = static_cast<int>(task.end - tile < kTile ? task.end - tile : kTile);
      WidenKeys(tag, task.params->pool, task.job->slots, tile, count, scratch->k);
      ScoreTile(scratch->q, scratch->k, task.head_dim, num_rows, count, scratch->scores);
      fold(tile, first_row, num_rows);
    }
  }
}

// The lanes of a tile that a row sees: those up to its own position.
RowSpan SpanOf(const Task& task, int64_t tile, int row) {
  const int64_t end = task.end - tile < kTile ? task.end - tile : kTile;
  const int64_t past = int64_t{task.job->first_pos} + row + 1 - tile;
  const int64_t hi = past < end ? past : end;
  return {0, hi > 0 ? static_cast<int>(hi) : 0};
}

void FoldSums(const Task& task, int64_t tile, int first_row, int num_rows, Scratch* scratch) {
  if (tile == task.begin) {
    for (int row = 0; row < num_rows; ++row) {
      scratch->max[row] = kNone;
      Store(scratch->sums + row * kLanes, Zero());
    }
  }
  for (int row = 0; row < num_rows; ++row) {
    const RowSpan span = SpanOf(task, tile, first_row + row);
    float* scores = scratch->scores + row * kMaxTileKeys;
    const float largest = CapRow(task.params->softcap, nullptr, span, scores);
    if (span.hi > 0) {
      const float old_max = scratch->max[row];
      const float max = largest > old_max ? largest : old_max;
      const float decay = max > old_max ? ::expf(old_max - max) : 1.0F;
      scratch->max[row] = max;
      WeighScores(span.hi, max, decay, scores, scratch->sums + row * kLanes);
    }
    if (tile + kTile >= task.end) {
      task.max[first_row + row] = scratch->max[row];
      task.sum[first_row + row] = ReduceAdd(Load(scratch->sums + row * kLanes));
    }
  }
}

// Weights of one register tile: added to their columns, and stored shifted.
void WeighRows(
    const Task& task, int64_t tile, int first_row, int rows, float* scores, Scratch* scratch) {
  float* vertical = task.job->vertical + tile;
  const int count = static_cast<int>(task.end - tile < kTile ? task.end - tile : kTile);
  for (int row = 0; row < rows; ++row) {
    const int number = first_row + row;
    float* shifted = scratch->shifted + row * kShifted + (kRows - 1 - row);
    const bool real = number < static_cast<int>(task.job->num_rows);
    const RowSpan span = real ? SpanOf(task, tile, number) : RowSpan{0, 0};
    float* row_scores = scores + row * kMaxTileKeys;
    CapRow(task.params->softcap, nullptr, span, row_scores);
    const VF lse = Set1(real ? task.job->lse[number] : 0.0F);
    for (int key = 0; key < kTile; key += kLanes) {
      const VF weight = key < span.hi ? Exp(Sub(Load(row_scores + key), lse)) : Zero();
      Store(shifted + key, weight);
      Store(row_scores + key, weight);
    }
  }
  for (int key = 0; key < count; key += kLanes) {
    const int lanes = Min(kLanes, count - key);
    VF sum = LoadFirst(vertical + key, lanes);
    for (int row = 0; row < rows; ++row) {
      sum = Add(sum, Load(scores + row * kMaxTileKeys + key));
    }
    StoreFirst(vertical + key, sum, lanes);
  }
}

void FoldLines(const Task& task, int64_t tile, int first_row, int num_rows, Scratch* scratch) {
  for (int row = 0; row < num_rows; row += kRows) {
    const int rows = RowsOfRegisterTile(row);
    WeighRows(task, tile, first_row + row, rows, scratch->scores + row * kMaxTileKeys, scratch);
    float* diagonals = task.diagonals + FirstDiagonal(*task.job) + (tile - task.begin) -
                       (first_row + row + kRows - 1);
    for (int i = 0; i < kTile + kRows; i += kLanes) {
      VF sum = Load(diagonals + i);
      for (int r = 0; r < rows; ++r) {
        sum = Add(sum, Load(scratch->shifted + r * kShifted + i));
      }
      Store(diagonals + i, sum);
    }
  }
}

// Clears a job's verticals of one segment and its diagonals, and fills them.
template <typename Tag>
void AddLines(Tag tag, const Task& task, Scratch* scratch) {
  for (int64_t key = task.begin; key < task.end; ++key) {
    task.job->vertical[key] = 0.0F;
  }
  for (uint64_t i = 0; i < device::LinesDiagonals(task.job->num_rows); ++i) {
    task.diagonals[i] = 0.0F;
  }
  for (int i = 0; i < kRows * kShifted; i += kLanes) {
    Store(scratch->shifted + i, Zero());
  }
  ForEachTile(tag, task, scratch, [&](int64_t tile, int first_row, int num_rows) {
    FoldLines(task, tile, first_row, num_rows, scratch);
  });
}

void MergeSums(const device::LinesJob& job) {
  const uint64_t num_segments = NumSegments(job);
  for (uint32_t row = 0; row < job.num_rows; ++row) {
    float max = kNone;
    for (uint64_t segment = 0; segment < num_segments; ++segment) {
      const float segment_max = SegmentMemory(job, segment)[row];
      max = segment_max > max ? segment_max : max;
    }
    float sum = 0;
    for (uint64_t segment = 0; segment < num_segments; ++segment) {
      const float* memory = SegmentMemory(job, segment);
      if (memory[job.num_rows + row] != 0.0F) {
        sum += memory[job.num_rows + row] * ::expf(memory[row] - max);
      }
    }
    job.lse[row] = max + ::logf(sum);
  }
}

void MergeDiagonals(const device::LinesJob& job) {
  const auto num_keys = static_cast<int64_t>(NumKeys(job));
  for (int64_t key = 0; key < num_keys; ++key) {
    job.slash[key] = 0.0F;
  }
  for (uint64_t segment = 0; segment < NumSegments(job); ++segment) {
    const float* diagonals = SegmentMemory(job, segment) + size_t{2} * job.num_rows;
    // Number i is that of keys key - row = i - FirstDiagonal in the segment: so far behind row r,
    // which sits at first_pos + r, that the row's number falls out.
    const int64_t farthest =
        FirstDiagonal(job) + int64_t{job.first_pos} - static_cast<int64_t>(segment) * kSegment;
    const auto count = static_cast<int64_t>(device::LinesDiagonals(job.num_rows));
    for (int64_t i = 0; i < count; ++i) {
      const int64_t behind = farthest - i;
      if (behind >= 0 && behind < num_keys) {
        job.slash[behind] += diagonals[i];
      }
    }
  }
}

}  // namespace

void EstimateLines(const device::OpContext& context, const device::LinesParams& params) {
  using device::LinesStep;
  uint64_t most_segments = 0;
  uint64_t keys = 0;
  for (uint32_t job_idx = 0; job_idx < params.num_jobs; ++job_idx) {
    const device::LinesJob& job = params.jobs[job_idx];
    const uint64_t segments = EndSegment(job) - job.segment_begin;
    most_segments = segments > most_segments ? segments : most_segments;
    keys += NumKeys(job);
  }
  const auto does = [&](LinesStep step) {
    return params.step == LinesStep::kAll || params.step == step;
  };
  WithTag(params.pool.kv_dtype, [&](auto tag) {
    const auto for_each_segment = [&](const auto& run) {
      device::ParallelFor(*context.executor, most_segments * params.num_jobs, [&](size_t number) {
        const Task task = MakeTask(params, most_segments, number);
        if (task.job != nullptr) {
          Scratch scratch;
          run(task, &scratch);
        }
      });
    };
    if (does(LinesStep::kSums)) {
      for_each_segment([&](const Task& task, Scratch* scratch) {
        ForEachTile(tag, task, scratch, [&](int64_t tile, int first_row, int num_rows) {
          FoldSums(task, tile, first_row, num_rows, scratch);
        });
      });
    }
    if (does(LinesStep::kLse)) {
      RunTasks(context, params.num_jobs, keys, [&](size_t job) { MergeSums(params.jobs[job]); });
    }
    if (does(LinesStep::kLines)) {
      for_each_segment([&](const Task& task, Scratch* scratch) { AddLines(tag, task, scratch); });
    }
    if (does(LinesStep::kSlash)) {
      RunTasks(
          context, params.num_jobs, keys, [&](size_t job) { MergeDiagonals(params.jobs[job]); });
    }
  });
}

}  // namespace hipattn::host::HIPATTN_ISA
