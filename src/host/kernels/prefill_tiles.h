// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What the kernels of prefill share: key tiles widened to column panels of floats, their products
// with a few query vectors in registers, and the steps of the online softmax. Compiled once per
// instruction set.
//
// A tile of keys is [column panel][head_dim][kColumns keys], one of values [column panel][key]
// [kColumns dimensions]: both are read front to back.
#ifndef HIPATTN_HOST_KERNELS_PREFILL_TILES_H_
#define HIPATTN_HOST_KERNELS_PREFILL_TILES_H_

#include "device/params.h"
#include "host/kernels/token_rows.h"
#include "host/vec/vec.h"

namespace hipattn::host::HIPATTN_ISA {

inline constexpr int kPanel = static_cast<int>(device::kPanelTokens);
// A register tile: kRows x 2 vectors of sums, 2 vectors of keys or values and one query number
// leave a few registers free.
inline constexpr int kRows = kRegisters * 3 / 8;
inline constexpr int kColumns = 2 * kLanes;
inline constexpr int kDecays = (kRows + kLanes - 1) / kLanes * kLanes;
inline constexpr int kMaxTileKeys = 128;
inline constexpr int kTileFloats =
    128 *
    128;  // of a key tile: 64 KB, twice of which with the queries' 96 KB fits L2 caches of 512 KB
inline constexpr float kNone = -__builtin_inff();
// A row tile, and the rows of its last register tile.
inline constexpr int kTileRows = static_cast<int>(kRowTile);
inline constexpr int kTailRows = kTileRows % kRows == 0 ? kRows : kTileRows % kRows;

static_assert(kColumns % kPanel == 0);

static inline int Min(int a, int b) {
  return a < b ? a : b;
}

static constexpr int RoundUpTo(int count, int multiple) {
  return (count + multiple - 1) / multiple * multiple;
}

// Depends on head_dim alone: tiles are part of what fixes a row's bits.
static inline int TileKeys(int padded_dim) {
  return padded_dim <= kTileFloats / kMaxTileKeys ? kMaxTileKeys : kMaxTileKeys / 2;
}

// One K panel into its half, or whole, of a column panel.
template <typename Tag>
static inline void WidenPanel(Tag tag, const typename Tag::Elem* from, int head_dim, float* to) {
  for (int dim = 0; dim < head_dim; ++dim) {
    for (int lane = 0; lane < kPanel; lane += kLanes) {
      Store(to + dim * kColumns + lane, Load(tag, from + dim * kPanel + lane));
    }
  }
}

static inline void ClearPanel(int head_dim, float* to) {
  for (int dim = 0; dim < head_dim; ++dim) {
    for (int lane = 0; lane < kPanel; lane += kLanes) {
      Store(to + dim * kColumns + lane, Zero());
    }
  }
}

// Keys [0, count) from position tile_begin on, a multiple of 16, into k as whole K panels; the last
// column panel is filled up with zeros.
template <typename Tag>
static inline void WidenKeys(Tag tag,
                             const device::BlockPool& pool,
                             const uint32_t* slots,
                             int64_t tile_begin,
                             int count,
                             float* k) {
  const int head_dim = static_cast<int>(pool.head_dim);
  for (int key = 0; key < RoundUpTo(count, kColumns); key += kPanel) {
    float* to = k + key / kColumns * kColumns * head_dim + key % kColumns;
    if (key >= count) {
      ClearPanel(head_dim, to);
      continue;
    }
    const auto token = static_cast<uint64_t>(tile_begin + key);
    const auto in_block = static_cast<uint32_t>(token % pool.block_tokens);
    std::byte* block = device::BlockAddress(pool, slots[token / pool.block_tokens]);
    WidenPanel(tag, KeyLane<Tag>(block, pool.head_dim, in_block), head_dim, to);
  }
}

// One value into its row of a tile of tile_keys values; dimensions up to padded_dim are zeros.
template <typename Tag>
static inline void WidenValue(Tag tag,
                              const typename Tag::Elem* from,
                              int head_dim,
                              int padded_dim,
                              int tile_keys,
                              float* to) {
  for (int dim = 0; dim < padded_dim; dim += kLanes) {
    float* place = to + dim / kColumns * tile_keys * kColumns + dim % kColumns;
    const int rest = head_dim - dim;
    if (rest >= kLanes) {
      Store(place, Load(tag, from + dim));
    } else {
      Store(place, rest > 0 ? LoadFirst(tag, from + dim, rest) : Zero());
    }
  }
}

// finish(row, sum0, sum1) gets the kColumns sums over i < count of a[i AStep + row ARowStep] b[i
// kColumns ..] for every row, each a chain in the order of i.
template <int Rows, int AStep, int ARowStep, typename Finish>
static inline void MultiplyPanel(const float* a, const float* b, int count, const Finish& finish) {
  VF acc[Rows][2];
  for (int row = 0; row < Rows; ++row) {
    acc[row][0] = Zero();
    acc[row][1] = Zero();
  }
  for (int i = 0; i < count; ++i) {
    const VF b0 = Load(b);
    const VF b1 = Load(b + kLanes);
    for (int row = 0; row < Rows; ++row) {
      const VF x = Set1(a[row * ARowStep]);
      acc[row][0] = MulAdd(x, b0, acc[row][0]);
      acc[row][1] = MulAdd(x, b1, acc[row][1]);
    }
    a += AStep;
    b += kColumns;
  }
  for (int row = 0; row < Rows; ++row) {
    finish(row, acc[row][0], acc[row][1]);
  }
}

// Rows of the register tile of a row tile that begins at first_row.
static inline int RowsOfRegisterTile(int first_row) {
  return Min(kRows, kTileRows - first_row);
}

// factor * q, or zeros without q, into its place among a row tile's queries: [register
// tile][head_dim][its rows].
static inline void PackQuery(const float* q, float factor, int head_dim, int row, float* packed) {
  const int first_row = row / kRows * kRows;
  const int rows = RowsOfRegisterTile(first_row);
  float* place = packed + first_row * head_dim + (row - first_row);
  for (int dim = 0; dim < head_dim; ++dim) {
    place[dim * rows] = q != nullptr ? factor * q[dim] : 0.0F;
  }
}

template <int Rows>
static inline void ScoreRows(const float* q, const float* k, int head_dim, float* scores) {
  MultiplyPanel<Rows, Rows, 1>(q, k, head_dim, [&](int row, VF sum0, VF sum1) {
    Store(scores + row * kMaxTileKeys, sum0);
    Store(scores + row * kMaxTileKeys + kLanes, sum1);
  });
}

// scores[row][kMaxTileKeys] of a row tile's first num_rows packed queries against the first `lanes`
// keys of a tile. Written up to the next multiples of kRows and kColumns.
static inline void ScoreTile(
    const float* q, const float* k, int head_dim, int num_rows, int lanes, float* scores) {
  for (int key = 0; key < lanes; key += kColumns) {
    for (int row = 0; row < num_rows; row += kRows) {
      const float* rows = q + row * head_dim;
      float* to = scores + row * kMaxTileKeys + key;
      if (RowsOfRegisterTile(row) == kRows) {
        ScoreRows<kRows>(rows, k + key * head_dim, head_dim, to);
      } else {
        ScoreRows<kTailRows>(rows, k + key * head_dim, head_dim, to);
      }
    }
  }
}

struct RowSpan {
  int lo, hi;  // lanes of the tile that a row sees
};

// Caps, biases and masks one row's scores; returns the largest of those it sees, or -inf.
static inline float CapRow(float softcap, const float* bias, RowSpan span, float* scores) {
  const int end = RoundUpTo(span.hi, kLanes);
  const bool changed = softcap > 0 || bias != nullptr;
  VF largest = Set1(kNone);
  for (int key = 0; key < end; key += kLanes) {
    VF score = Load(scores + key);
    if (softcap > 0) {
      score = Mul(Set1(softcap), Tanh(score));
    }
    if (bias != nullptr) {
      score = Add(score, Load(bias + key));
    }
    const bool cut = key < span.lo || span.hi - key < kLanes;
    if (cut) {
      score = Select(LaneRange(span.lo - key, span.hi - key), score, Set1(kNone));
    }
    if (changed || cut) {
      Store(scores + key, score);
    }
    largest = Max(score, largest);
  }
  return ReduceMax(largest);
}

// Scores -> weights exp(score - max); their sums by lane are added to those of the tiles before.
static inline void WeighScores(int limit, float max, float decay, float* scores, float* sums) {
  const VF shift = Set1(max);
  VF sum = Zero();
  for (int key = 0; key < limit; key += kLanes) {
    const VF weight = Exp(Sub(Load(scores + key), shift));
    Store(scores + key, weight);
    sum = Add(sum, weight);
  }
  Store(sums, MulAdd(Load(sums), Set1(decay), sum));
}

// o = decay o + sum, for one column panel of one row.
static inline void AddValues(float* o, float decay, VF sum0, VF sum1) {
  Store(o, MulAdd(Load(o), Set1(decay), sum0));
  Store(o + kLanes, MulAdd(Load(o + kLanes), Set1(decay), sum1));
}

// Vectors between the parts of a text (device::PrefillStateFloats): each has o of padded_dim, then
// its sums of kLanes and its maximum.
struct StatePlace {
  float* o;
  float* sums;
  float* max;
};

static inline StatePlace StateOf(float* states, int vector, uint32_t head_dim) {
  const uint64_t floats = device::PrefillStateFloats(1, 1, head_dim);
  float* o = states + static_cast<uint64_t>(vector) * floats;
  return {o, o + floats - 32, o + floats - 16};
}

// Scratch has o [vector][padded_dim], sums [vector][kLanes] and max [vector].
template <typename Scratch>
static inline void LoadStates(
    float* states, int num_vectors, uint32_t head_dim, int padded_dim, Scratch* scratch) {
  for (int vector = 0; vector < num_vectors; ++vector) {
    const StatePlace state = StateOf(states, vector, head_dim);
    for (int dim = 0; dim < padded_dim; dim += kLanes) {
      Store(scratch->o + vector * padded_dim + dim, Load(state.o + dim));
    }
    Store(scratch->sums + vector * kLanes, Load(state.sums));
    scratch->max[vector] = *state.max;
  }
}

template <typename Scratch>
static inline void SaveStates(
    float* states, int num_vectors, uint32_t head_dim, int padded_dim, const Scratch& scratch) {
  for (int vector = 0; vector < num_vectors; ++vector) {
    const StatePlace state = StateOf(states, vector, head_dim);
    for (int dim = 0; dim < padded_dim; dim += kLanes) {
      Store(state.o + dim, Load(scratch.o + vector * padded_dim + dim));
    }
    Store(state.sums, Load(scratch.sums + vector * kLanes));
    *state.max = scratch.max[vector];
  }
}

}  // namespace hipattn::host::HIPATTN_ISA

#endif  // HIPATTN_HOST_KERNELS_PREFILL_TILES_H_
