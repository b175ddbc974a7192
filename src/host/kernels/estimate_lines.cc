// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// estimate_lines: column sums and diagonal sums of the causal softmax of a few rows
// (device/params.h).
//
// A task is one segment of keys of one job, or of neighbouring jobs that read the same keys, which
// are widened once for them. The first pass leaves each row's largest score and sum of weights
// there, which make its lse, and the scores of the segments that are kept; the second takes those,
// or computes them again, and adds up exp(score - lse). Weights of a register tile are stored each
// row one lane further left than the row before, so that its diagonals are columns: a diagonal's
// number inside a segment is key - row, and is turned into the distance behind the row only when
// the segments are merged.
#include "host/kernels/dispatch.h"
#include "host/kernels/kernels.h"
#include "host/kernels/prefill_tiles.h"
#include "host/vec/vec.h"

#include <math.h>
#include <string.h>

namespace hipattn::host::HIPATTN_ISA {
namespace {

constexpr int kSegment = static_cast<int>(device::kLinesSegment);
constexpr int kTile = kMaxTileKeys / 2;  // keys; whole ones are a segment
// Lanes of one row of shifted weights.
constexpr int kShifted = RoundUpTo(kTile + kRows, kLanes);
constexpr int kFrontRoom = 16;  // diagonals of rows that only fill up a register tile
// Jobs that share a widened tile, and their queries: 128 KB, which an L2 cache holds beside it.
constexpr int kMostJobs = 4;
constexpr int kQueryFloats = kMostJobs * kTileRows * 128;

static_assert(kSegment % kTile == 0 && kRows <= kFrontRoom);
static_assert(kQueryFloats >= kTileRows * static_cast<int>(device::kMaxHeadDim));

struct Scratch {
  alignas(64) float q[kQueryFloats];  // [job][register tile][head_dim][its rows]
  alignas(64) float k[kTile * static_cast<int>(device::kMaxHeadDim)];
  alignas(64) float scores[kTileRows * kMaxTileKeys];
  alignas(64) float shifted[kRows * kShifted];  // 0 but for each row's kTile lanes
  alignas(64) float sums[kMostJobs * kTileRows * kLanes];
  float max[kMostJobs * kTileRows];
};

struct Task {
  const device::LinesParams* params;
  const device::LinesJob* jobs;
  int num_jobs;  // 0: another task does this one's
  uint64_t segment;
  int64_t begin;  // its keys
  int64_t end;
  int head_dim;
};

uint64_t NumKeys(const device::LinesJob& job) {
  return uint64_t{job.first_pos} + job.num_rows;
}

uint64_t NumSegments(const device::LinesJob& job) {
  return device::LinesSegments(static_cast<uint32_t>(NumKeys(job)));
}

uint64_t NumKeptSegments(const device::LinesJob& job) {
  return device::LinesKeptSegments(static_cast<uint32_t>(NumKeys(job)), job.num_rows);
}

// Scores of a tile and the row tile at first_row: [row][kTile keys].
float* KeptScores(const device::LinesJob& job, const Task& task, int first_row, int64_t tile) {
  return job.workspace + task.segment * device::LinesScores(job.num_rows) +
         static_cast<uint64_t>(first_row) * kSegment +
         static_cast<uint64_t>(tile - task.begin) * kTileRows;
}

// [num_rows] largest scores, [num_rows] sums, [LinesDiagonals] diagonals.
float* SegmentMemory(const device::LinesJob& job, uint64_t segment) {
  return job.workspace + NumKeptSegments(job) * device::LinesScores(job.num_rows) +
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

// Whether two jobs read the same keys in a segment.
bool SharesKeys(const device::BlockPool& pool,
                const device::LinesJob& a,
                const device::LinesJob& b,
                const Task& task) {
  if (a.first_pos != b.first_pos || a.num_rows != b.num_rows ||
      a.segment_begin != b.segment_begin || a.segment_end != b.segment_end) {
    return false;
  }
  const auto first = static_cast<uint64_t>(task.begin) / pool.block_tokens;
  const auto last = static_cast<uint64_t>(task.end - 1) / pool.block_tokens;
  return a.slots == b.slots ||
         memcmp(a.slots + first, b.slots + first, (last - first + 1) * sizeof(uint32_t)) == 0;
}

// How the segments of a launch's jobs become tasks.
struct Cuts {
  uint64_t most_segments;  // of a job
  int most_jobs;           // that share a task
};

// So many jobs that every thread has tasks enough to even out late ones, and their queries have
// room.
Cuts CutsOf(const device::OpContext& context, const device::LinesParams& params) {
  constexpr uint64_t kTasksPerThread = 4;
  Cuts cuts = {0, 1};
  for (uint32_t job_idx = 0; job_idx < params.num_jobs; ++job_idx) {
    const device::LinesJob& job = params.jobs[job_idx];
    const uint64_t segments = EndSegment(job) - job.segment_begin;
    cuts.most_segments = segments > cuts.most_segments ? segments : cuts.most_segments;
  }
  const uint64_t spare =
      cuts.most_segments * params.num_jobs / (kTasksPerThread * context.executor->concurrency());
  const int room = kQueryFloats / (kTileRows * static_cast<int>(params.pool.head_dim));
  while (cuts.most_jobs < Min(kMostJobs, room) && static_cast<uint64_t>(cuts.most_jobs) < spare) {
    ++cuts.most_jobs;
  }
  return cuts;
}

// Jobs from task.jobs on that are this task's: 0 where they are that of a job before it.
int NumJobs(const device::LinesParams& params, const Task& task, int most_jobs) {
  const device::LinesJob* const job = task.jobs;
  const device::LinesJob* const last = params.jobs + params.num_jobs;
  int before = 0;
  while (job - before > params.jobs && SharesKeys(params.pool, job[-before - 1], *job, task)) {
    ++before;
  }
  if (before % most_jobs != 0) {
    return 0;
  }
  int count = 1;
  while (count < most_jobs && job + count < last &&
         SharesKeys(params.pool, job[count], *job, task)) {
    ++count;
  }
  return count;
}

// Number `number` of most_segments for each job. Without keys to read nothing is shared.
Task MakeTask(const device::LinesParams& params,
              device::LinesStep step,
              const Cuts& cuts,
              uint64_t number) {
  const device::LinesJob& job = params.jobs[number / cuts.most_segments];
  Task task = {};
  task.segment = job.segment_begin + number % cuts.most_segments;
  if (task.segment >= EndSegment(job)) {
    return task;
  }
  task.params = &params;
  task.jobs = &job;
  task.begin = static_cast<int64_t>(task.segment) * kSegment;
  const auto rest = static_cast<int64_t>(NumKeys(job)) - task.begin;
  task.end = task.begin + (rest < kSegment ? rest : kSegment);
  task.head_dim = static_cast<int>(params.pool.head_dim);
  const bool reads = step == device::LinesStep::kSums || task.segment >= NumKeptSegments(job);
  task.num_jobs = reads ? NumJobs(params, task, cuts.most_jobs) : 1;
  return task;
}

void PackRows(const Task& task, int job, int first_row, int num_rows, float* packed) {
  const device::LinesParams& params = *task.params;
  const float factor = params.softcap > 0 ? params.scale / params.softcap : params.scale;
  for (int row = 0; row < kTileRows; ++row) {
    const auto number = static_cast<uint64_t>(first_row) + static_cast<uint64_t>(row);
    const float* q = row < num_rows ? task.jobs[job].q + number * params.q_row_stride : nullptr;
    PackQuery(q, factor, task.head_dim, row, packed);
  }
}

// A row tile of one of the task's jobs, and a tile of keys.
struct Place {
  int job;
  int first_row, num_rows;
  int64_t tile;
};

int TileKeysAt(const Task& task, int64_t tile) {
  return static_cast<int>(task.end - tile < kTile ? task.end - tile : kTile);
}

// Calls fold(place) with the scores of the segment's tiles against each row tile.
template <typename Tag, typename Fold>
void ForEachTile(Tag tag, const Task& task, Scratch* scratch, const Fold& fold) {
  const int all_rows = static_cast<int>(task.jobs->num_rows);
  const int job_floats = kTileRows * task.head_dim;
  for (int first_row = 0; first_row < all_rows; first_row += kTileRows) {
    const int num_rows = Min(kTileRows, all_rows - first_row);
    for (int job = 0; job < task.num_jobs; ++job) {
      PackRows(task, job, first_row, num_rows, scratch->q + job * job_floats);
    }
    for (int64_t tile = task.begin; tile < task.end; tile += kTile) {
      const int count = TileKeysAt(task, tile);
      WidenKeys(tag, task.params->pool, task.jobs->slots, tile, count, scratch->k);
      for (int job = 0; job < task.num_jobs; ++job) {
        ScoreTile(scratch->q + job * job_floats,
                  scratch->k,
                  task.head_dim,
                  num_rows,
                  count,
                  scratch->scores);
        fold(Place{job, first_row, num_rows, tile});
      }
    }
  }
}

// The lanes of a tile that a row sees: those up to its own position.
RowSpan SpanOf(const Task& task, int64_t tile, int row) {
  const int64_t end = TileKeysAt(task, tile);
  const int64_t past = int64_t{task.jobs->first_pos} + row + 1 - tile;
  const int64_t hi = past < end ? past : end;
  return {0, hi > 0 ? static_cast<int>(hi) : 0};
}

// Adds a row's weights exp(score - max) to its sums by lane.
void SumWeights(int limit, float max, float decay, const float* scores, float* sums) {
  const VF shift = Set1(max);
  VF sum = Zero();
  for (int key = 0; key < limit; key += kLanes) {
    sum = Add(sum, Exp(Sub(Load(scores + key), shift)));
  }
  Store(sums, MulAdd(Load(sums), Set1(decay), sum));
}

void FoldSums(const Task& task, const Place& place, Scratch* scratch) {
  const device::LinesJob& job = task.jobs[place.job];
  float* row_max = scratch->max + place.job * kTileRows;
  float* row_sums = scratch->sums + place.job * kTileRows * kLanes;
  if (place.tile == task.begin) {
    for (int row = 0; row < place.num_rows; ++row) {
      row_max[row] = kNone;
      Store(row_sums + row * kLanes, Zero());
    }
  }
  const bool kept = task.segment < NumKeptSegments(job);
  float* keep = kept ? KeptScores(job, task, place.first_row, place.tile) : nullptr;
  for (int row = 0; row < place.num_rows; ++row) {
    const RowSpan span = SpanOf(task, place.tile, place.first_row + row);
    float* scores = scratch->scores + row * kMaxTileKeys;
    const float largest = CapRow(task.params->softcap, nullptr, span, scores);
    if (span.hi > 0) {
      const float old_max = row_max[row];
      const float max = largest > old_max ? largest : old_max;
      const float decay = max > old_max ? ::expf(old_max - max) : 1.0F;
      row_max[row] = max;
      SumWeights(span.hi, max, decay, scores, row_sums + row * kLanes);
    }
    for (int key = 0; kept && key < span.hi; key += kLanes) {
      Store(keep + row * kTile + key, Load(scores + key));
    }
    if (place.tile + kTile >= task.end) {
      float* memory = SegmentMemory(job, task.segment) + place.first_row + row;
      memory[0] = row_max[row];
      memory[job.num_rows] = ReduceAdd(Load(row_sums + row * kLanes));
    }
  }
}

// Masked scores of rows: row r's begin at scores + r * stride.
struct ScoreRowsView {
  const float* scores;
  int stride;
};

// Weights of one register tile: added to their columns, and stored shifted.
void WeighRows(
    const Task& task, const Place& place, ScoreRowsView from, int rows, Scratch* scratch) {
  const device::LinesJob& job = task.jobs[place.job];
  int ends[kRows];  // of the lanes that a row sees
  VF lse[kRows];
  for (int row = 0; row < rows; ++row) {
    const int number = place.first_row + row;
    const bool real = row < place.num_rows;
    ends[row] = real ? SpanOf(task, place.tile, number).hi : 0;
    lse[row] = Set1(real ? job.lse[number] : 0.0F);
  }
  float* vertical = job.vertical + place.tile;
  const int count = TileKeysAt(task, place.tile);
  for (int key = 0; key < kTile; key += kLanes) {
    const int lanes = key < count ? Min(kLanes, count - key) : 0;
    VF sum = LoadFirst(vertical + key, lanes);
    for (int row = 0; row < rows; ++row) {
      const VF weight = key < ends[row]
                            ? Exp(Sub(Load(from.scores + row * from.stride + key), lse[row]))
                            : Zero();
      Store(scratch->shifted + row * kShifted + (kRows - 1 - row) + key, weight);
      sum = Add(sum, weight);
    }
    StoreFirst(vertical + key, sum, lanes);
  }
}

void FoldLines(const Task& task, const Place& place, ScoreRowsView from, Scratch* scratch) {
  const device::LinesJob& job = task.jobs[place.job];
  float* all_diagonals = SegmentMemory(job, task.segment) + size_t{2} * job.num_rows;
  for (int row = 0; row < place.num_rows; row += kRows) {
    const int rows = RowsOfRegisterTile(row);
    const Place those = {place.job, place.first_row + row, place.num_rows - row, place.tile};
    WeighRows(task, those, {from.scores + row * from.stride, from.stride}, rows, scratch);
    float* diagonals = all_diagonals + FirstDiagonal(job) + (place.tile - task.begin) -
                       (those.first_row + kRows - 1);
    for (int i = 0; i < kTile + kRows; i += kLanes) {
      VF sum = Load(diagonals + i);
      for (int r = 0; r < rows; ++r) {
        sum = Add(sum, Load(scratch->shifted + r * kShifted + i));
      }
      Store(diagonals + i, sum);
    }
  }
}

// Clears the jobs' verticals of one segment and its diagonals, and fills them.
template <typename Tag>
void AddLines(Tag tag, const Task& task, Scratch* scratch) {
  const device::LinesJob& first = *task.jobs;
  for (int job = 0; job < task.num_jobs; ++job) {
    for (int64_t key = task.begin; key < task.end; ++key) {
      task.jobs[job].vertical[key] = 0.0F;
    }
    float* diagonals = SegmentMemory(task.jobs[job], task.segment) + size_t{2} * first.num_rows;
    for (uint64_t i = 0; i < device::LinesDiagonals(first.num_rows); ++i) {
      diagonals[i] = 0.0F;
    }
  }
  for (int i = 0; i < kRows * kShifted; i += kLanes) {
    Store(scratch->shifted + i, Zero());
  }
  if (task.segment >= NumKeptSegments(first)) {
    ForEachTile(tag, task, scratch, [&](const Place& place) {
      for (int row = 0; row < place.num_rows; ++row) {
        CapRow(task.params->softcap,
               nullptr,
               SpanOf(task, place.tile, place.first_row + row),
               scratch->scores + row * kMaxTileKeys);
      }
      FoldLines(task, place, {scratch->scores, kMaxTileKeys}, scratch);
    });
    return;
  }
  const int all_rows = static_cast<int>(first.num_rows);
  for (int first_row = 0; first_row < all_rows; first_row += kTileRows) {
    const int num_rows = Min(kTileRows, all_rows - first_row);
    for (int64_t tile = task.begin; tile < task.end; tile += kTile) {
      const float* scores = KeptScores(first, task, first_row, tile);
      FoldLines(task, {0, first_row, num_rows, tile}, {scores, kTile}, scratch);
    }
  }
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
  uint64_t keys = 0;
  for (uint32_t job_idx = 0; job_idx < params.num_jobs; ++job_idx) {
    keys += NumKeys(params.jobs[job_idx]);
  }
  const Cuts cuts = CutsOf(context, params);
  const auto does = [&](LinesStep step) {
    return params.step == LinesStep::kAll || params.step == step;
  };
  WithTag(params.pool.kv_dtype, [&](auto tag) {
    const auto for_each_segment = [&](LinesStep step, const auto& run) {
      device::ParallelFor(
          *context.executor, cuts.most_segments * params.num_jobs, [&](size_t number) {
            const Task task = MakeTask(params, step, cuts, number);
            if (task.num_jobs > 0) {
              Scratch scratch;
              run(task, &scratch);
            }
          });
    };
    if (does(LinesStep::kSums)) {
      for_each_segment(LinesStep::kSums, [&](const Task& task, Scratch* scratch) {
        ForEachTile(
            tag, task, scratch, [&](const Place& place) { FoldSums(task, place, scratch); });
      });
    }
    if (does(LinesStep::kLse)) {
      RunTasks(context, params.num_jobs, keys, [&](size_t job) { MergeSums(params.jobs[job]); });
    }
    if (does(LinesStep::kLines)) {
      for_each_segment(LinesStep::kLines,
                       [&](const Task& task, Scratch* scratch) { AddLines(tag, task, scratch); });
    }
    if (does(LinesStep::kSlash)) {
      RunTasks(
          context, params.num_jobs, keys, [&](size_t job) { MergeDiagonals(params.jobs[job]); });
    }
  });
}

}  // namespace hipattn::host::HIPATTN_ISA
