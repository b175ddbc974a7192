// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// sparse_prefill: attention of a chunk's rows over the ranges, columns and pruned means that a mask
// names (device/params.h), by the register tiles of dense_prefill.
//
// A task is one row tile of one job, all of whose heads share the widened keys. It collects the K
// panels that its part of the mask names, in that order, into tiles of keys; single keys of panels
// are copied together first, and lanes that are left become keys and values of 0 with a bias of
// -inf. Per head and tile:
//   scores of all rows; the largest of each row; (skip-softmax: nothing more when none is near)
//   p = exp(s - m'), o = exp(m - m') o + p V, l = exp(m - m') l + sum p
// Rows see the lanes [lo, hi) of a tile: hi by causality, lo by the window. The sums of p V run
// over lanes that all rows of a register tile see, then row by row, because values behind a row may
// be NaN.
//
// A task's scratch is some 340 KB of stack: a thread that runs ops needs 512 KB.
#include "host/kernels/dispatch.h"
#include "host/kernels/kernels.h"
#include "host/kernels/prefill_tiles.h"
#include "host/kernels/token_rows.h"
#include "host/vec/vec.h"

#include <math.h>

namespace hipattn::host::HIPATTN_ISA {
namespace {

constexpr int kMaxHeads = 4;  // of a task
constexpr int kQueryFloats = kTileRows * static_cast<int>(device::kMaxHeadDim);
constexpr uint32_t kAllLanes = (1U << kPanel) - 1;

struct Scratch {
  alignas(64) float q[kQueryFloats];                   // [head][register tile][head_dim][its rows]
  alignas(64) float o[kQueryFloats];                   // [head][row][padded_dim]
  alignas(64) float k[kTileFloats];                    // [column panel][head_dim][kColumns keys]
  alignas(64) float v[kTileFloats];                    // [column panel][key][kColumns dimensions]
  alignas(64) float scores[kTileRows * kMaxTileKeys];  // [row][key]
  alignas(64) float sums[kMaxHeads * kTileRows * kLanes];  // l, by lane
  float max[kMaxHeads * kTileRows];
  alignas(64) float decay[RoundUpTo(kTileRows, kLanes)];
  // The tile that is being collected.
  alignas(64) float bias[kMaxTileKeys];  // -inf where the mask names no key
  uint32_t positions[kMaxTileKeys];
  int lanes;      // collected so far, whole panels
  bool biased;    // some bias is not 0
  bool windowed;  // rows see keys of their window alone
  bool visible;   // every row may see every lane, wherever it lies
  RowSpan spans[kTileRows];
  uint32_t panels;  // of the ranges, so far
};

// What does not change within a task.
struct Task {
  const device::SparsePrefillParams* params;
  const device::SparsePrefillJob* job;
  int head_dim;
  int padded_dim;  // of kColumns
  int tile_keys;
  uint32_t tile;  // number of the row tile
  uint32_t first_head;
  int num_heads;
  int num_rows;
  float log_skip;  // -inf: no tile is left out

  uint64_t FirstRow() const { return uint64_t{tile} * kRowTile; }
  uint32_t Position(int row) const {
    return job->first_pos + tile * kRowTile + static_cast<uint32_t>(row);
  }
};

// That of the task's first vector.
float* States(const Task& task) {
  return task.job->state +
         device::PrefillStateFloats(kTileRows, task.first_head, task.params->pool.head_dim);
}

bool IsInPart(const Task& task, uint32_t panel) {
  return task.job->state == nullptr ||
         (panel >= task.job->panel_begin && panel < task.job->panel_end);
}

void StartTask(const Task& task, Scratch* scratch) {
  const device::SparsePrefillParams& params = *task.params;
  const float factor = params.softcap > 0 ? params.scale / params.softcap : params.scale;
  for (int vector = 0; vector < task.num_heads * kTileRows; ++vector) {
    const int row = vector % kTileRows;
    const uint64_t head = task.first_head + static_cast<uint32_t>(vector / kTileRows);
    const float* q = task.job->q +
                     (task.FirstRow() + static_cast<uint64_t>(row)) * params.q_row_stride +
                     head * static_cast<uint64_t>(task.head_dim);
    PackQuery(row < task.num_rows ? q : nullptr,
              factor,
              task.head_dim,
              row,
              scratch->q + (vector - row) * task.head_dim);
    Store(scratch->sums + vector * kLanes, Zero());
    scratch->max[vector] = kNone;
  }
  for (int i = 0; i < task.num_heads * kTileRows * task.padded_dim; i += kLanes) {
    Store(scratch->o + i, Zero());
  }
  if (task.job->state != nullptr && task.job->panel_begin > 0) {
    LoadStates(States(task),
               task.num_heads * kTileRows,
               task.params->pool.head_dim,
               task.padded_dim,
               scratch);
  }
  scratch->lanes = 0;
  scratch->biased = false;
  scratch->windowed = false;
  scratch->visible = false;
  scratch->panels = 0;
}

// Which lanes of the tile each row sees; whether it is all of them for all rows.
bool FindSpans(const Task& task, Scratch* scratch) {
  const int lanes = scratch->lanes;
  const bool all_past = scratch->visible || scratch->positions[lanes - 1] <= task.Position(0);
  int lo = 0;
  int hi = all_past ? lanes : 0;
  bool uniform = all_past;
  for (int row = 0; row < task.num_rows; ++row) {
    const uint32_t position = task.Position(row);
    while (hi < lanes && scratch->positions[hi] <= position) {
      ++hi;
    }
    while (scratch->windowed && lo < hi &&
           uint64_t{scratch->positions[lo]} + task.job->mask.window <= position) {
      ++lo;
    }
    uniform = uniform && lo == 0;
    scratch->spans[row] = {lo, hi};
  }
  return uniform;
}

// Largest scores of one head's rows, and from them decay[row] = exp(old maximum - new maximum).
// False when skip-softmax leaves the tile out; then nothing has changed.
bool RaiseMaxima(const Task& task, int head, Scratch* scratch) {
  const float* bias = scratch->biased ? scratch->bias : nullptr;
  float* max = scratch->max + head * kTileRows;
  float tile_max[kTileRows];
  bool needed = false;
  for (int row = 0; row < task.num_rows; ++row) {
    const float largest = CapRow(
        task.params->softcap, bias, scratch->spans[row], scratch->scores + row * kMaxTileKeys);
    tile_max[row] = largest;
    needed = needed || !(largest < max[row] + task.log_skip);
  }
  if (!needed) {
    return false;
  }
  for (int row = 0; row < kTileRows; ++row) {
    scratch->decay[row] = 0.0F;
    if (row < task.num_rows && tile_max[row] > max[row]) {
      scratch->decay[row] = max[row] - tile_max[row];
      max[row] = tile_max[row];
    }
  }
  for (int row = 0; row < kTileRows; row += kLanes) {
    Store(scratch->decay + row, Exp(Load(scratch->decay + row)));
  }
  return true;
}

// Scores -> weights. A row that has seen no key yet has weights of 0.
void WeighTile(const Task& task, int head, Scratch* scratch) {
  for (int row = 0; row < task.num_rows; ++row) {
    const int vector = head * kTileRows + row;
    const float max = scratch->max[vector];
    WeighScores(scratch->spans[row].hi,
                max > kNone ? max : 0.0F,
                scratch->decay[row],
                scratch->scores + row * kMaxTileKeys,
                scratch->sums + vector * kLanes);
  }
}

// P.V of a register tile whose rows all see the same lanes.
template <int Rows>
void AddEvenValues(const Task& task, int head, int first_row, Scratch* scratch) {
  const float* decay = scratch->decay + first_row;
  for (int dim = 0; dim < task.padded_dim; dim += kColumns) {
    float* o = scratch->o + (head * kTileRows + first_row) * task.padded_dim + dim;
    MultiplyPanel<Rows, 1, kMaxTileKeys>(scratch->scores + first_row * kMaxTileKeys,
                                         scratch->v + dim * task.tile_keys,
                                         scratch->lanes,
                                         [&](int row, VF sum0, VF sum1) {
                                           AddValues(
                                               o + row * task.padded_dim, decay[row], sum0, sum1);
                                         });
  }
}

// The same where rows see different lanes, or are fewer than the register tile holds: the lanes
// that all of them see together, the rest row by row, in the same chain of sums.
template <int Rows>
void AddUnevenValues(const Task& task, int head, int first_row, Scratch* scratch) {
  const int num_rows = Min(Rows, task.num_rows - first_row);
  const RowSpan* spans = scratch->spans + first_row;
  const float* weights = scratch->scores + first_row * kMaxTileKeys;
  const int common = spans[0].hi;
  for (int dim = 0; dim < task.padded_dim; dim += kColumns) {
    const float* v = scratch->v + dim * task.tile_keys;
    float* o = scratch->o + (head * kTileRows + first_row) * task.padded_dim + dim;
    alignas(64) float partial[Rows * kColumns];
    MultiplyPanel<Rows, 1, kMaxTileKeys>(weights, v, common, [&](int row, VF sum0, VF sum1) {
      Store(partial + row * kColumns, sum0);
      Store(partial + row * kColumns + kLanes, sum1);
    });
    for (int row = 0; row < num_rows; ++row) {
      VF sum0 = Load(partial + row * kColumns);
      VF sum1 = Load(partial + row * kColumns + kLanes);
      for (int key = common; key < spans[row].hi; ++key) {
        const VF weight = Set1(weights[row * kMaxTileKeys + key]);
        sum0 = MulAdd(weight, Load(v + key * kColumns), sum0);
        sum1 = MulAdd(weight, Load(v + key * kColumns + kLanes), sum1);
      }
      AddValues(o + row * task.padded_dim, scratch->decay[first_row + row], sum0, sum1);
    }
  }
}

template <int Rows>
void AddRegisterTile(const Task& task, int head, int first_row, bool uniform, Scratch* scratch) {
  if (uniform && task.num_rows - first_row >= Rows) {
    AddEvenValues<Rows>(task, head, first_row, scratch);
  } else {
    AddUnevenValues<Rows>(task, head, first_row, scratch);
  }
}

// Folds the collected tile into all heads and begins the next one.
void FoldTile(const Task& task, Scratch* scratch) {
  if (scratch->lanes == 0) {
    return;
  }
  if (scratch->lanes % kColumns != 0) {
    ClearPanel(task.head_dim,
               scratch->k + scratch->lanes / kColumns * kColumns * task.head_dim +
                   scratch->lanes % kColumns);
  }
  const bool uniform = FindSpans(task, scratch);
  for (int head = 0; head < task.num_heads; ++head) {
    ScoreTile(scratch->q + head * kTileRows * task.head_dim,
              scratch->k,
              task.head_dim,
              task.num_rows,
              scratch->lanes,
              scratch->scores);
    if (!RaiseMaxima(task, head, scratch)) {
      continue;
    }
    WeighTile(task, head, scratch);
    for (int row = 0; row < task.num_rows; row += kRows) {
      if (RowsOfRegisterTile(row) == kRows) {
        AddRegisterTile<kRows>(task, head, row, uniform, scratch);
      } else {
        AddRegisterTile<kTailRows>(task, head, row, uniform, scratch);
      }
    }
  }
  scratch->lanes = 0;
  scratch->biased = false;
}

// The lanes [begin, end) of a panel as bits. 0 <= begin < end <= kPanel.
uint32_t LaneBits(uint32_t begin, uint32_t end) {
  return ((1U << end) - 1) & ~((1U << begin) - 1);
}

// Some lanes of a panel of 16 keys.
template <typename Tag>
struct PanelPart {
  const typename Tag::Elem* keys;    // [head_dim][16]
  const typename Tag::Elem* values;  // [16][head_dim]
  uint32_t active;                   // a bit for each lane that takes part
};

// Adds a panel to the tile. Positions and biases of active lanes are set by the caller, who folds
// full tiles.
template <typename Tag>
void WidenLanes(Tag tag, const Task& task, const PanelPart<Tag>& panel, Scratch* scratch) {
  const int first = scratch->lanes;
  float* k = scratch->k + first / kColumns * kColumns * task.head_dim + first % kColumns;
  WidenPanel(tag, panel.keys, task.head_dim, k);
  for (int lane = 0; lane < kPanel; ++lane) {
    float* v = scratch->v + (first + lane) * kColumns;
    if ((panel.active >> lane & 1U) != 0) {
      WidenValue(tag,
                 panel.values + lane * task.head_dim,
                 task.head_dim,
                 task.padded_dim,
                 task.tile_keys,
                 v);
      continue;
    }
    scratch->bias[first + lane] = kNone;
    for (int dim = 0; dim < task.head_dim; ++dim) {
      k[dim * kColumns + lane] = 0.0F;
    }
    for (int dim = 0; dim < task.padded_dim; dim += kLanes) {
      Store(v + dim / kColumns * task.tile_keys * kColumns + dim % kColumns, Zero());
    }
  }
  scratch->biased = scratch->biased || panel.active != kAllLanes;
  scratch->lanes += kPanel;
}

// Room for one more panel.
void MakeRoom(const Task& task, Scratch* scratch) {
  if (scratch->lanes == task.tile_keys) {
    FoldTile(task, scratch);
  }
}

// Keys that stand alone in their panels, collected until they fill one. All lie before the tile's
// first row, so that their order does not matter to causality.
template <typename Tag>
struct LoosePanel {
  typename Tag::Elem keys[device::kPanelTokens * device::kMaxHeadDim];    // [head_dim][16]
  typename Tag::Elem values[device::kPanelTokens * device::kMaxHeadDim];  // [16][head_dim]
  uint32_t positions[kPanel];
  int lanes;
};

template <typename Tag>
void AddWidened(Tag tag,
                const Task& task,
                const PanelPart<Tag>& panel,
                const uint32_t* positions,
                Scratch* scratch) {
  MakeRoom(task, scratch);
  for (int lane = 0; lane < kPanel; ++lane) {
    scratch->positions[scratch->lanes + lane] = positions[lane];
    scratch->bias[scratch->lanes + lane] = 0.0F;
  }
  WidenLanes(tag, task, panel, scratch);
}

template <typename Tag>
void FlushLoose(Tag tag, const Task& task, LoosePanel<Tag>* loose, Scratch* scratch) {
  if (loose->lanes > 0) {
    for (int lane = loose->lanes; lane < kPanel; ++lane) {
      loose->positions[lane] = loose->positions[0];
    }
    const uint32_t active = LaneBits(0, static_cast<uint32_t>(loose->lanes));
    const PanelPart<Tag> panel = {loose->keys, loose->values, active};
    AddWidened(tag, task, panel, loose->positions, scratch);
    loose->lanes = 0;
  }
}

// Lanes of a panel at ascending positions. A part of a panel that all rows see whole is copied: its
// other lanes would cost as much as keys.
template <typename Tag>
void AddPanel(Tag tag,
              const Task& task,
              const PanelPart<Tag>& panel,
              const uint32_t* positions,
              LoosePanel<Tag>* loose,
              Scratch* scratch) {
  const bool seen_by_all = positions[kPanel - 1] <= task.Position(0) && !scratch->windowed;
  if (!seen_by_all) {
    FlushLoose(tag, task, loose, scratch);
  }
  if (!seen_by_all || panel.active == kAllLanes) {
    AddWidened(tag, task, panel, positions, scratch);
    return;
  }
  for (int lane = 0; lane < kPanel; ++lane) {
    if ((panel.active >> lane & 1U) == 0) {
      continue;
    }
    for (int dim = 0; dim < task.head_dim; ++dim) {
      loose->keys[dim * kPanel + loose->lanes] = panel.keys[dim * kPanel + lane];
    }
    __builtin_memcpy(loose->values + loose->lanes * task.head_dim,
                     panel.values + lane * task.head_dim,
                     static_cast<size_t>(task.head_dim) * sizeof(typename Tag::Elem));
    loose->positions[loose->lanes] = positions[lane];
    if (++loose->lanes == kPanel) {
      FlushLoose(tag, task, loose, scratch);
    }
  }
}

// Lanes `active` of the sequence's panel number `panel`.
template <typename Tag>
void AddKeys(Tag tag,
             const Task& task,
             uint64_t panel,
             uint32_t active,
             LoosePanel<Tag>* loose,
             Scratch* scratch) {
  const device::BlockPool& pool = task.params->pool;
  const uint64_t token = panel * device::kPanelTokens;
  uint32_t positions[kPanel];
  for (uint32_t lane = 0; lane < device::kPanelTokens; ++lane) {
    positions[lane] = static_cast<uint32_t>(token) + lane;
  }
  std::byte* block = device::BlockAddress(pool, task.job->slots[token / pool.block_tokens]);
  const auto in_block = static_cast<uint32_t>(token % pool.block_tokens);
  const PanelPart<Tag> part = {
      KeyLane<Tag>(block, pool.head_dim, in_block), ValueRow<Tag>(block, pool, in_block), active};
  AddPanel(tag, task, part, positions, loose, scratch);
}

// Calls add(panel, active lanes) for every panel that some of the ascending intervals meet.
// interval(i) gives begin and end of number i.
template <typename Interval, typename Add>
void ForEachPanel(uint32_t first, uint32_t last, const Interval& interval, const Add& add) {
  uint64_t open_panel = 0;
  uint32_t open_lanes = 0;
  for (uint32_t i = first; i < last; ++i) {
    const ColumnInterval span = interval(i);
    for (uint64_t begin = span.begin; begin < span.end;) {
      const uint64_t panel = begin / device::kPanelTokens;
      const uint64_t panel_end = (panel + 1) * device::kPanelTokens;
      const uint64_t end = span.end < panel_end ? span.end : panel_end;
      if (panel != open_panel && open_lanes != 0) {
        add(open_panel, open_lanes);
        open_lanes = 0;
      }
      open_panel = panel;
      open_lanes |= LaneBits(static_cast<uint32_t>(begin % device::kPanelTokens),
                             static_cast<uint32_t>(end - panel * device::kPanelTokens));
      begin = end;
    }
  }
  if (open_lanes != 0) {
    add(open_panel, open_lanes);
  }
}

// The ranges of the task's row tile. Windowed ones do not share a tile with others.
template <typename Tag>
void FoldRanges(Tag tag, const Task& task, LoosePanel<Tag>* loose, Scratch* scratch) {
  const PrefillMask& mask = task.job->mask;
  const uint32_t last = mask.range_ptr[task.tile + 1];
  for (uint32_t first = mask.range_ptr[task.tile]; first < last;) {
    uint32_t end = first;
    while (end < last && mask.ranges[end].windowed == mask.ranges[first].windowed) {
      ++end;
    }
    scratch->windowed = mask.ranges[first].windowed != 0;
    ForEachPanel(
        first,
        end,
        [&](uint32_t i) {
          return ColumnInterval{mask.ranges[i].begin, mask.ranges[i].end};
        },
        [&](uint64_t panel, uint32_t active) {
          if (scratch->panels % device::kMaskPartPanels == 0) {
            FlushLoose(tag, task, loose, scratch);
            FoldTile(task, scratch);
          }
          if (IsInPart(task, scratch->panels++)) {
            AddKeys(tag, task, panel, active, loose, scratch);
          }
        });
    FlushLoose(tag, task, loose, scratch);
    first = end;
    if (first < last) {
      FoldTile(task, scratch);
    }
  }
  FoldTile(task, scratch);
  scratch->windowed = false;
}

// The row tile's columns, from the panel.
template <typename Tag>
void FoldColumns(Tag tag, const Task& task, LoosePanel<Tag>* loose, Scratch* scratch) {
  const PrefillMask& mask = task.job->mask;
  const auto* panels = static_cast<const typename Tag::Elem*>(task.job->columns);
  const size_t half = size_t{device::kPanelTokens} * task.params->pool.head_dim;
  ForEachPanel(
      mask.range_ptr[task.tile] + task.tile,
      mask.range_ptr[task.tile + 1] + task.tile + 1,
      [&](uint32_t i) { return mask.intervals[i]; },
      [&](uint64_t panel, uint32_t active) {
        uint32_t positions[kPanel];
        for (uint32_t lane = 0; lane < device::kPanelTokens; ++lane) {
          const uint64_t column = panel * device::kPanelTokens + lane;
          positions[lane] = column < mask.num_columns ? mask.columns[column] : ~0U;
        }
        const typename Tag::Elem* keys = panels + panel * 2 * half;
        AddPanel(tag, task, PanelPart<Tag>{keys, keys + half, active}, positions, loose, scratch);
      });
  FlushLoose(tag, task, loose, scratch);
  FoldTile(task, scratch);
}

// The row tile's pruned means.
void FoldMeans(const Task& task, Scratch* scratch) {
  const device::PrunedMeans& means = task.job->means;
  const size_t half = size_t{device::kPanelTokens} * task.params->pool.head_dim;
  scratch->visible = true;
  ForEachPanel(
      means.interval_ptr[task.tile],
      means.interval_ptr[task.tile + 1],
      [&](uint32_t i) { return means.intervals[i]; },
      [&](uint64_t panel, uint32_t active) {
        MakeRoom(task, scratch);
        for (int lane = 0; lane < kPanel; ++lane) {
          const uint64_t block = panel * device::kPanelTokens + static_cast<uint32_t>(lane);
          float* const bias = scratch->bias + scratch->lanes + lane;
          *bias = kNone;
          if (block < means.num_blocks) {
            *bias = means.log_tokens[block];
          }
        }
        const float* keys = means.panel + panel * 2 * half;
        WidenLanes(F32{}, task, PanelPart<F32>{keys, keys + half, active}, scratch);
        scratch->biased = true;
      });
  FoldTile(task, scratch);
  scratch->visible = false;
}

template <typename Out>
void StoreRows(Out tag, const Task& task, Scratch* scratch) {
  const device::SparsePrefillParams& params = *task.params;
  for (int vector = 0; vector < task.num_heads * kTileRows; ++vector) {
    const int tile_row = vector % kTileRows;
    if (tile_row >= task.num_rows) {
      continue;
    }
    const uint64_t row = task.FirstRow() + static_cast<uint64_t>(tile_row);
    const uint64_t head = task.first_head + static_cast<uint32_t>(vector / kTileRows);
    const float sum = ReduceAdd(Load(scratch->sums + vector * kLanes));
    const bool empty = sum == 0.0F;  // a row's largest weight is 1
    float* o = scratch->o + vector * task.padded_dim;
    for (int dim = 0; dim < task.padded_dim; dim += kLanes) {
      Store(o + dim, empty ? Zero() : Div(Load(o + dim), Set1(sum)));
    }
    auto* out = static_cast<typename Out::Elem*>(task.job->out) + row * params.out_row_stride +
                head * static_cast<uint64_t>(task.head_dim);
    ConvertRow(tag, out, F32{}, o, task.head_dim);
    if (task.job->lse != nullptr) {
      task.job->lse[row * params.lse_row_stride + head] =
          empty ? kNone : scratch->max[vector] + ::logf(sum);
    }
  }
}

template <typename Tag>
void RunTask(Tag tag, const Task& task) {
  Scratch scratch;
  StartTask(task, &scratch);
  LoosePanel<Tag> loose;
  loose.lanes = 0;
  FoldRanges(tag, task, &loose, &scratch);
  if (task.job->state != nullptr && task.job->panel_end < scratch.panels) {
    SaveStates(States(task),
               task.num_heads * kTileRows,
               task.params->pool.head_dim,
               task.padded_dim,
               scratch);
    return;
  }
  FoldColumns(tag, task, &loose, &scratch);
  if (task.job->means.panel != nullptr) {
    FoldMeans(task, &scratch);
  }
  WithTag(task.params->out_dtype, [&](auto out) { StoreRows(out, task, &scratch); });
}

// How a call is cut into tasks: by row tiles and by as many heads as scratch holds.
struct Plan {
  int padded_dim;
  uint32_t heads;       // of a task
  uint32_t most_tiles;  // of one job
  uint32_t most_heads;  // tasks of one row tile of one job
};

Plan MakePlan(const device::SparsePrefillParams& params) {
  Plan plan = {};
  plan.padded_dim = RoundUpTo(static_cast<int>(params.pool.head_dim), kColumns);
  plan.heads = static_cast<uint32_t>(Min(kMaxHeads, kQueryFloats / (kTileRows * plan.padded_dim)));
  for (uint32_t job_idx = 0; job_idx < params.num_jobs; ++job_idx) {
    const device::SparsePrefillJob& job = params.jobs[job_idx];
    const uint32_t parts = (job.num_heads + plan.heads - 1) / plan.heads;
    plan.most_tiles = job.mask.num_tiles > plan.most_tiles ? job.mask.num_tiles : plan.most_tiles;
    plan.most_heads = parts > plan.most_heads ? parts : plan.most_heads;
  }
  return plan;
}

// Task number `number` of the call, the latest row tiles first, because they see most. A task
// without heads when the job has fewer.
Task MakeTask(const device::SparsePrefillParams& params, const Plan& plan, uint64_t number) {
  const device::SparsePrefillJob& job = params.jobs[number % params.num_jobs];
  const uint64_t rest = number / params.num_jobs;
  const uint64_t from_end = rest / plan.most_heads;
  Task task = {};
  task.params = &params;
  task.job = &job;
  task.head_dim = static_cast<int>(params.pool.head_dim);
  task.padded_dim = plan.padded_dim;
  task.tile_keys = TileKeys(plan.padded_dim);
  task.log_skip = params.skip_threshold > 0 ? ::logf(params.skip_threshold) : kNone;
  task.first_head = static_cast<uint32_t>(rest % plan.most_heads) * plan.heads;
  if (from_end < job.mask.num_tiles && task.first_head < job.num_heads) {
    task.tile = job.mask.num_tiles - 1 - static_cast<uint32_t>(from_end);
    task.num_heads = static_cast<int>(plan.heads);
    if (job.num_heads - task.first_head < plan.heads) {
      task.num_heads = static_cast<int>(job.num_heads - task.first_head);
    }
    const uint64_t rows = job.num_rows - task.FirstRow();
    task.num_rows = rows < kRowTile ? static_cast<int>(rows) : kTileRows;
  }
  return task;
}

}  // namespace

void SparsePrefill(const device::OpContext& context, const device::SparsePrefillParams& params) {
  const Plan plan = MakePlan(params);
  const uint64_t num_tasks = uint64_t{params.num_jobs} * plan.most_tiles * plan.most_heads;
  const unsigned concurrency = context.executor->concurrency();
  const uint64_t num_workers = num_tasks < concurrency ? num_tasks : concurrency;
  // One counter for all workers: an executor's own order could leave a long task for the end.
  uint64_t next_task = 0;
  WithTag(params.pool.kv_dtype, [&](auto tag) {
    device::ParallelFor(*context.executor, num_workers, [&](size_t) {
      for (;;) {
        const uint64_t number = __atomic_fetch_add(&next_task, 1, __ATOMIC_RELAXED);
        if (number >= num_tasks) {
          return;
        }
        const Task task = MakeTask(params, plan, number);
        if (task.num_heads > 0) {
          RunTask(tag, task);
        }
      }
    });
  });
}

}  // namespace hipattn::host::HIPATTN_ISA
