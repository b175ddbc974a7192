// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// score_antidiagonals: cells of queries against cells of keys (device/params.h). A cell's rows or
// keys one behind the other are one vector of stride * head_dim numbers, the rows in falling order,
// so that a product of two such vectors is the sum along an antidiagonal, and the register tiles of
// prefill do the rest.
//
// A task is 64 row cells of one job against all keys. Of each row and block of keys only the log of
// the sum of weights is kept until the row's whole sum is known.
#include "host/kernels/dispatch.h"
#include "host/kernels/kernels.h"
#include "host/kernels/prefill_tiles.h"
#include "host/vec/vec.h"

#include <math.h>

namespace hipattn::host::HIPATTN_ISA {
namespace {

// Key cells scored at a time: whole blocks of keys at either stride.
constexpr int kCells = kColumns < 16 ? 16 : kColumns;

static_assert(kCells <= static_cast<int>(device::kAntidiagonalKeys));
static_assert(kTileRows == static_cast<int>(device::kAntidiagonalRows));

struct Task {
  const device::AntidiagonalParams* params;
  const device::AntidiagonalJob* job;
  uint64_t first_row;
  int num_cells;  // of rows
  int stride;
  int head_dim;
  float* q;     // packed row cells
  float* k;     // packed key cells
  float* sums;  // [row cell][key block] logs
};

uint64_t NumKeys(const Task& task) {
  return uint64_t{task.job->first_pos} + task.job->num_rows;
}

uint64_t NumBlocks(const Task& task) {
  return (NumKeys(task) + device::kAntidiagonalBlock - 1) / device::kAntidiagonalBlock;
}

// Key cells that row cell `cell` of the task sees.
int64_t SeenCells(const Task& task, int cell) {
  const uint64_t stride = static_cast<uint64_t>(task.stride);
  const uint64_t row_end = task.first_row + (static_cast<uint64_t>(cell) + 1) * stride;
  const uint64_t end =
      task.job->first_pos + (row_end < task.job->num_rows ? row_end : task.job->num_rows);
  return static_cast<int64_t>((end + stride - 1) / stride);
}

// Row cells in their places among a row tile's queries: [register tile][number][its rows].
void PackRows(const Task& task) {
  const int size = task.stride * task.head_dim;
  const float factor = task.params->scale / static_cast<float>(task.stride);
  for (int cell = 0; cell < kTileRows; ++cell) {
    const int first = cell / kRows * kRows;
    const int rows = RowsOfRegisterTile(first);
    for (int n = 0; n < task.stride; ++n) {
      const uint64_t row = task.first_row + static_cast<uint64_t>((cell + 1) * task.stride - 1 - n);
      const float* q = row < task.job->num_rows && cell < task.num_cells
                           ? task.job->q + row * task.params->q_row_stride
                           : nullptr;
      float* place = task.q + first * size + n * task.head_dim * rows + (cell - first);
      for (int dim = 0; dim < task.head_dim; ++dim) {
        place[dim * rows] = q != nullptr ? factor * q[dim] : 0.0F;
      }
    }
  }
}

// Key cells [first, first + kCells), as many of whose keys as there are in whole K panels. The
// numbers of one dimension are written together: their rows of the tile then stay in the first
// level's cache until all panels have given theirs.
template <int Stride, typename Tag>
void ScatterPanels(Tag tag, const Task& task, uint64_t begin, int num_panels) {
  const device::BlockPool& pool = task.params->pool;
  const typename Tag::Elem* from[kCells * Stride / kPanel];
  for (int panel = 0; panel < num_panels; ++panel) {
    const uint64_t position = begin + static_cast<uint64_t>(panel * kPanel);
    std::byte* block = device::BlockAddress(pool, task.job->slots[position / pool.block_tokens]);
    from[panel] =
        KeyLane<Tag>(block, pool.head_dim, static_cast<uint32_t>(position % pool.block_tokens));
  }
  constexpr int kPanelCells = kPanel / Stride;
  const int size = Stride * task.head_dim;
  for (int dim = 0; dim < task.head_dim; ++dim) {
    for (int panel = 0; panel < num_panels; ++panel) {
      alignas(64) float keys[kPanel];
      for (int lane = 0; lane < kPanel; lane += kLanes) {
        Store(keys + lane, Load(tag, from[panel] + dim * kPanel + lane));
      }
      const int cell = panel * kPanelCells;
      float* column = task.k + cell / kColumns * kColumns * size + cell % kColumns;
      for (int lane = 0; lane < kPanel; ++lane) {
        column[(lane % Stride * task.head_dim + dim) * kColumns + lane / Stride] = keys[lane];
      }
    }
  }
}

// Zeros in place of the keys from number `count` of the tile on.
void ClearKeys(const Task& task, int count) {
  const int size = task.stride * task.head_dim;
  for (int key = count; key < kCells * task.stride; ++key) {
    const int cell = key / task.stride;
    float* column = task.k + cell / kColumns * kColumns * size + cell % kColumns;
    for (int dim = 0; dim < task.head_dim; ++dim) {
      column[(key % task.stride * task.head_dim + dim) * kColumns] = 0.0F;
    }
  }
}

// Key cells [first, first + kCells); those behind the last key are zeros.
void PackKeys(const Task& task, uint64_t first) {
  const uint64_t begin = first * static_cast<uint64_t>(task.stride);
  const uint64_t left = NumKeys(task) - begin;
  const int all = kCells * task.stride;
  const int count = left < static_cast<uint64_t>(all) ? static_cast<int>(left) : all;
  const int num_panels = RoundUpTo(count, kPanel) / kPanel;
  WithTag(task.params->pool.kv_dtype, [&](auto tag) {
    if (task.stride == 8) {
      ScatterPanels<8>(tag, task, begin, num_panels);
    } else {
      ScatterPanels<16>(tag, task, begin, num_panels);
    }
  });
  ClearKeys(task, count);
}

// log of the sum of exp of the first `count` scores, at least one.
float LogSum(const float* scores, int count) {
  VF max = Set1(kNone);
  for (int i = 0; i < count; i += kLanes) {
    max = Max(Select(LaneRange(0, count - i), Load(scores + i), Set1(kNone)), max);
  }
  const float largest = ReduceMax(max);
  VF sum = Zero();
  for (int i = 0; i < count; i += kLanes) {
    const VF weight = Exp(Sub(Load(scores + i), Set1(largest)));
    sum = Add(sum, Select(LaneRange(0, count - i), weight, Zero()));
  }
  return largest + ::logf(ReduceAdd(sum));
}

void ScoreCells(const Task& task, uint64_t first) {
  alignas(64) float scores[kTileRows * kMaxTileKeys];
  PackKeys(task, first);
  ScoreTile(task.q, task.k, task.stride * task.head_dim, task.num_cells, kCells, scores);
  const int block_cells = static_cast<int>(device::kAntidiagonalBlock) / task.stride;
  for (int cell = 0; cell < task.num_cells; ++cell) {
    float* sums = task.sums + static_cast<uint64_t>(cell) * NumBlocks(task);
    const int64_t seen = SeenCells(task, cell) - static_cast<int64_t>(first);
    for (int begin = 0; begin < kCells && begin < seen; begin += block_cells) {
      const int count = seen - begin < block_cells ? static_cast<int>(seen - begin) : block_cells;
      sums[(first + static_cast<uint64_t>(begin)) / static_cast<uint64_t>(block_cells)] =
          LogSum(scores + cell * kMaxTileKeys + begin, count);
    }
  }
}

// The shares of one row cell's blocks, added to those of its block of rows.
void AddShares(const Task& task, int cell) {
  const uint64_t num_blocks = NumBlocks(task);
  const float* sums = task.sums + static_cast<uint64_t>(cell) * num_blocks;
  const uint64_t block_cells = device::kAntidiagonalBlock / static_cast<uint64_t>(task.stride);
  const uint64_t row_block =
      task.first_row / device::kAntidiagonalBlock + static_cast<uint64_t>(cell) / block_cells;
  float* mass = task.job->mass + row_block * num_blocks;
  const uint64_t seen =
      (static_cast<uint64_t>(SeenCells(task, cell)) + block_cells - 1) / block_cells;
  float largest = kNone;
  for (uint64_t block = 0; block < seen; ++block) {
    largest = sums[block] > largest ? sums[block] : largest;
  }
  float sum = 0;
  for (uint64_t block = 0; block < seen; ++block) {
    sum += ::expf(sums[block] - largest);
  }
  for (uint64_t block = 0; block < seen; ++block) {
    mass[block] += ::expf(sums[block] - largest) / sum;
  }
}

void RunTask(const Task& task) {
  PackRows(task);
  const auto seen = static_cast<uint64_t>(SeenCells(task, task.num_cells - 1));
  const uint64_t begin = task.job->key_begin / task.params->stride;
  const uint64_t part_end = task.job->key_end / task.params->stride;
  const bool last = task.job->key_end >= NumKeys(task);
  for (uint64_t first = begin; first < seen && (last || first < part_end); first += kCells) {
    ScoreCells(task, first);
  }
  if (!last) {
    return;
  }
  const uint64_t num_blocks = NumBlocks(task);
  const uint64_t rows = static_cast<uint64_t>(task.num_cells) * static_cast<uint64_t>(task.stride);
  const uint64_t end = (task.first_row + rows + device::kAntidiagonalBlock - 1) /
                       device::kAntidiagonalBlock * num_blocks;
  for (uint64_t i = task.first_row / device::kAntidiagonalBlock * num_blocks; i < end; ++i) {
    task.job->mass[i] = 0.0F;
  }
  for (int cell = 0; cell < task.num_cells; ++cell) {
    AddShares(task, cell);
  }
}

// Task number `number`, without cells when its job has fewer tasks.
Task MakeTask(const device::AntidiagonalParams& params, uint64_t number) {
  Task task = {};
  task.params = &params;
  task.job = &params.jobs[number % params.num_jobs];
  task.stride = static_cast<int>(params.stride);
  task.head_dim = static_cast<int>(params.pool.head_dim);
  const uint64_t index = number / params.num_jobs;
  task.first_row = index * kTileRows * params.stride;
  if (task.first_row < task.job->num_rows) {
    const uint64_t left = (task.job->num_rows - task.first_row + params.stride - 1) / params.stride;
    task.num_cells = left < kTileRows ? static_cast<int>(left) : kTileRows;
    const uint64_t size = uint64_t{params.stride} * params.pool.head_dim;
    task.q = task.job->workspace +
             index * device::AntidiagonalTaskFloats(
                         static_cast<uint32_t>(NumKeys(task)), params.stride, params.pool.head_dim);
    task.k = task.q + device::kAntidiagonalRows * size;
    task.sums = task.k + device::kAntidiagonalKeys * size;
  }
  return task;
}

}  // namespace

void ScoreAntidiagonals(const device::OpContext& context,
                        const device::AntidiagonalParams& params) {
  const uint64_t rows = uint64_t{kTileRows} * params.stride;
  uint64_t most_tasks = 0;
  for (uint32_t job_idx = 0; job_idx < params.num_jobs; ++job_idx) {
    const uint64_t tasks = (params.jobs[job_idx].num_rows + rows - 1) / rows;
    most_tasks = tasks > most_tasks ? tasks : most_tasks;
  }
  device::ParallelFor(*context.executor, most_tasks * params.num_jobs, [&](size_t number) {
    const Task task = MakeTask(params, number);
    if (task.num_cells > 0) {
      RunTask(task);
    }
  });
}

}  // namespace hipattn::host::HIPATTN_ISA
