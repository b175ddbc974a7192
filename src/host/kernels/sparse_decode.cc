// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// sparse_decode: softmax attention of one query row over a list of ranges (device/params.h).
//
// The list's pieces are walked one after another; of each piece the K panels are multiplied first
// (lanes are tokens, so q.k needs no horizontal sum), then comes the softmax of the piece, then its
// V rows (lanes are dimensions). For every line that is read, a line of each of the next two pieces
// is prefetched, their blocks in lockstep: scattered blocks of a few KB are too short for the
// hardware's own prefetchers, and page walks that begin together overlap.
//
// Where there are dot products of bf16, V of bf16 is multiplied by them from kDotHeads heads on, as
// multiply-adds are the bound there: two tokens at once, with weights rounded to bf16. That moves
// out by at most 2^-9 of the largest |v|, as much as the rounding of V itself, and leaves lse
// alone.
//
// Parallel work is a run of units, a unit being one split of one job for up to kChunkHeads heads.
#include "base/dtype.h"
#include "base/int_math.h"
#include "host/kernels/decode_pieces.h"
#include "host/kernels/dispatch.h"
#include "host/kernels/kernels.h"
#include "host/vec/vec.h"

namespace hipattn::host::HIPATTN_ISA {
namespace {

using device::DecodeJob;
using device::DecodeParams;

constexpr int kTileHeads = kRegisters / 4;     // heads of one register tile
constexpr int kMaxTokens = kMaxPanels * 16;    // of a piece
constexpr int kScoreStride = kMaxTokens + 16;  // not a power of two: rows must not share cache sets
constexpr int kPairLanes = 2 * kLanes;
constexpr int kMaxPaddedDim = device::kMaxHeadDim + 2 * kLanes;
#if defined(HIPATTN_VEC_BF16_DOT)
constexpr int kDotHeads = 5;  // fewer are bound by memory: docs/measurements/kernels.md
template <typename Tag>
inline constexpr bool kIsBf16 = false;
template <>
inline constexpr bool kIsBf16<Bf16> = true;
#endif
constexpr int kLockstepPanels = 8;  // whose V rows are read in turn, like their K rows
constexpr float kMinusInf = -__builtin_inff();

// The running softmax of one split. q is multiplied by the scale, tile by tile, what one dimension
// needs of a tile side by side; o is the sum of exp(score - max) v, kept in the order of
// LoadPair.
struct State {
  alignas(64) float q[kChunkHeads * device::kMaxHeadDim];
  alignas(64) float max[kChunkHeads];
  alignas(64) float sum[kChunkHeads][kLanes];
  alignas(64) float o[kChunkHeads][kMaxPaddedDim];
};

struct Scratch {
  alignas(64) float scores[kChunkHeads][kScoreStride];
#if defined(HIPATTN_VEC_BF16_DOT)
  alignas(64) uint16_t weights[kChunkHeads][kScoreStride];
#endif
  alignas(64) float max_lanes[kChunkHeads][kLanes];  // of the piece's scores
  float decay[kChunkHeads];                          // exp(old max - new max) of the piece
  State state;
  Prefetcher prefetcher;
  Piece pieces[3];  // the present one and the next two, in turn
};

// Panels of one register tile: P panels x H heads of accumulators, q of H heads, one row of K and
// what widens it.
constexpr int PanelsOfTile(int heads) {
  int panels = 8;
  while (panels > 1 && panels * heads * kPanelVectors + heads + 2 > kRegisters) {
    panels /= 2;
  }
  return panels;
}

// Scores of panels [at, at + P) for H heads, -inf outside the ranges, whatever lies there; folds
// them into max_lanes.
template <typename Tag, int H, int P>
inline void MultiplyKeys(const Piece& piece, int at, int head_dim, int head, Scratch* scratch) {
  using Elem = typename Tag::Elem;
  const float* q = scratch->state.q + head * head_dim;
  constexpr int kRows = kLineBytes / (16 * static_cast<int>(sizeof(Elem)));  // dimensions in a line
  Prefetcher prefetcher = scratch->prefetcher;
  const Elem* k[P];
  HIPATTN_UNROLL
  for (int p = 0; p < P; ++p) {
    k[p] = reinterpret_cast<const Elem*>(piece.k[at + p]);
  }
  VF sum[P][H][kPanelVectors];
  HIPATTN_UNROLL
  for (int p = 0; p < P; ++p) {
    HIPATTN_UNROLL
    for (int h = 0; h < H; ++h) {
      HIPATTN_UNROLL
      for (int i = 0; i < kPanelVectors; ++i) {
        sum[p][h][i] = Zero();
      }
    }
  }
  for (int dim = 0; dim < head_dim; dim += kRows) {
    HIPATTN_UNROLL
    for (int p = 0; p < P; ++p) {
      PrefetchNext(&prefetcher);
    }
    HIPATTN_UNROLL
    for (int row = 0; row < kRows; ++row) {
      VF weight[H];
      HIPATTN_UNROLL
      for (int h = 0; h < H; ++h) {
        weight[h] = Set1(q[(dim + row) * H + h]);
      }
      HIPATTN_UNROLL
      for (int p = 0; p < P; ++p) {
        HIPATTN_UNROLL
        for (int i = 0; i < kPanelVectors; ++i) {
          const VF key = Load(Tag{}, k[p] + (dim + row) * 16 + i * kLanes);
          HIPATTN_UNROLL
          for (int h = 0; h < H; ++h) {
            sum[p][h][i] = MulAdd(key, weight[h], sum[p][h][i]);
          }
        }
      }
    }
  }
  HIPATTN_UNROLL
  for (int h = 0; h < H; ++h) {
    VF max = Load(scratch->max_lanes[head + h]);
    HIPATTN_UNROLL
    for (int p = 0; p < P; ++p) {
      HIPATTN_UNROLL
      for (int i = 0; i < kPanelVectors; ++i) {
        const VM live = LaneRange(piece.begin[at + p] - i * kLanes, piece.end[at + p] - i * kLanes);
        const VF score = Select(live, sum[p][h][i], Set1(kMinusInf));
        Store(scratch->scores[head + h] + (at + p) * 16 + i * kLanes, score);
        max = Max(max, score);
      }
    }
    Store(scratch->max_lanes[head + h], max);
  }
  scratch->prefetcher = prefetcher;
}

// Panels [at, num_panels): tiles of P while they fit, then smaller ones.
template <typename Tag, int H, int P>
inline void MultiplyPanels(const Piece& piece, int at, int head_dim, int head, Scratch* scratch) {
  for (; at + P <= piece.num_panels; at += P) {
    MultiplyKeys<Tag, H, P>(piece, at, head_dim, head, scratch);
  }
  if constexpr (P > 1) {
    if (at < piece.num_panels) {
      MultiplyPanels<Tag, H, P / 2>(piece, at, head_dim, head, scratch);
    }
  }
}

// Caps the scores of one head, and with them max_lanes.
void CapScores(const Piece& piece, float softcap, int head, Scratch* scratch) {
  const VF cap = Set1(softcap);
  const VF inverse = Set1(1.0F / softcap);
  VF max = Set1(kMinusInf);
  for (int p = 0; p < piece.num_panels; ++p) {
    for (int i = 0; i < 16; i += kLanes) {
      float* scores = scratch->scores[head] + p * 16 + i;
      const VF capped = Mul(cap, Tanh(Mul(Load(scores), inverse)));
      const VM live = LaneRange(piece.begin[p] - i, piece.end[p] - i);
      const VF score = Select(live, capped, Set1(kMinusInf));
      Store(scores, score);
      max = Max(max, score);
    }
  }
  Store(scratch->max_lanes[head], max);
}

// The new maxima of all heads, and what becomes of the sums so far.
void UpdateMax(int num_heads, Scratch* scratch) {
  alignas(64) float piece_max[kChunkHeads];
  StoreFirst(piece_max, Set1(kMinusInf), kChunkHeads);
  for (int head = 0; head < num_heads; ++head) {
    piece_max[head] = ReduceMax(Load(scratch->max_lanes[head]));
  }
  const VF old_max = LoadFirst(scratch->state.max, kChunkHeads);
  const VF max = Max(old_max, LoadFirst(piece_max, kChunkHeads));
  StoreFirst(scratch->decay, Exp(Sub(old_max, max)), kChunkHeads);
  StoreFirst(scratch->state.max, max, kChunkHeads);
}

// scores -> exp(score - max) for one head; 0 outside the ranges.
template <bool kDot>
inline void WeighScores(int num_panels, int head, Scratch* scratch) {
  float* scores = scratch->scores[head];
  float* sums = scratch->state.sum[head];
  const VF max = Set1(scratch->state.max[head]);
  VF sum = Mul(Load(sums), Set1(scratch->decay[head]));
  for (int i = 0; i < num_panels * 16; i += kLanes) {
    const VF weight = Exp(Sub(Load(scores + i), max));
#if defined(HIPATTN_VEC_BF16_DOT)
    if constexpr (kDot) {
      StorePairable(scratch->weights[head] + i, weight);
    } else
#endif
    {
      Store(scores + i, weight);
    }
    sum = Add(sum, weight);
  }
  Store(sums, sum);
}

template <bool kDot>
void PieceSoftmax(const Piece& piece, float softcap, Scratch* scratch) {
  if (softcap > 0) {
    for (int head = 0; head < piece.num_heads; ++head) {
      CapScores(piece, softcap, head, scratch);
    }
  }
  UpdateMax(piece.num_heads, scratch);
  for (int head = 0; head < piece.num_heads; ++head) {
    WeighScores<kDot>(piece.num_panels, head, scratch);
  }
}

// Pairs of vectors of one register tile: C pairs x H heads of accumulators, C pairs of V, one
// weight.
constexpr int PairsOfTile(int heads) {
  int pairs = 4;
  while (pairs > 1 && 2 * heads * pairs + 2 * pairs + 1 > kRegisters) {
    pairs /= 2;
  }
  return pairs;
}

// For a pair that was read.
template <typename Elem>
inline void PrefetchPair(int pair, Prefetcher* prefetcher) {
  constexpr int kBytes = kPairLanes * static_cast<int>(sizeof(Elem));
  if (kBytes < kLineBytes && pair * kBytes % kLineBytes != 0) {
    return;
  }
  HIPATTN_UNROLL
  for (int i = 0; i < kBytes; i += kLineBytes) {
    PrefetchNext(prefetcher);
  }
}

// o = o * decay + sum over the piece of weight * V, for H heads and the pairs of dimensions [pair,
// pair + C). kTail: C is 1 and the pair holds only the last head_dim % kPairLanes dimensions.
template <typename Tag, int H, int C, bool kTail>
inline void MultiplyValues(const Piece& piece, int pair, int head_dim, int head, Scratch* scratch) {
  using Elem = typename Tag::Elem;
  const int tail = head_dim % kPairLanes;
  Prefetcher prefetcher = scratch->prefetcher;
  VF sum[H][C][2];
  HIPATTN_UNROLL
  for (int h = 0; h < H; ++h) {
    HIPATTN_UNROLL
    for (int c = 0; c < C; ++c) {
      sum[h][c][0] = Zero();
      sum[h][c][1] = Zero();
    }
  }
  for (int first = 0; first < piece.num_panels; first += kLockstepPanels) {
    const int left = piece.num_panels - first;
    const int last = first + (left < kLockstepPanels ? left : kLockstepPanels);
    for (int t = 0; t < 16; ++t) {
      for (int p = first; p < last; ++p) {
        if (t < piece.begin[p] || t >= piece.end[p]) {
          continue;
        }
        const Elem* v = reinterpret_cast<const Elem*>(piece.v[p]) + t * head_dim;
        VF value[C][2];
        HIPATTN_UNROLL
        for (int c = 0; c < C; ++c) {
          const Elem* row = v + (pair + c) * kPairLanes;
          if constexpr (kTail) {
            LoadPairFirst(Tag{}, row, tail, value[c][0], value[c][1]);
          } else {
            LoadPair(Tag{}, row, value[c][0], value[c][1]);
          }
          PrefetchPair<Elem>(pair + c, &prefetcher);
        }
        const float* weights = scratch->scores[head] + p * 16 + t;
        HIPATTN_UNROLL
        for (int h = 0; h < H; ++h) {
          const VF weight = Set1(weights[h * kScoreStride]);
          HIPATTN_UNROLL
          for (int c = 0; c < C; ++c) {
            sum[h][c][0] = MulAdd(value[c][0], weight, sum[h][c][0]);
            sum[h][c][1] = MulAdd(value[c][1], weight, sum[h][c][1]);
          }
        }
      }
    }
  }
  HIPATTN_UNROLL
  for (int h = 0; h < H; ++h) {
    const VF decay = Set1(scratch->decay[head + h]);
    HIPATTN_UNROLL
    for (int c = 0; c < C; ++c) {
      float* o = scratch->state.o[head + h] + (pair + c) * kPairLanes;
      Store(o, MulAdd(Load(o), decay, sum[h][c][0]));
      Store(o + kLanes, MulAdd(Load(o + kLanes), decay, sum[h][c][1]));
    }
  }
  scratch->prefetcher = prefetcher;
}

#if defined(HIPATTN_VEC_BF16_DOT)
// MultiplyValues by dot products, for one pair of vectors.
template <int H, bool kTail>
inline void MultiplyValuesDot(const Piece& piece, int pair, int head_dim, Scratch* scratch) {
  Prefetcher prefetcher = scratch->prefetcher;
  alignas(64) static constexpr uint16_t kZeros[kPairLanes] = {};
  VF sum[H][2];
  HIPATTN_UNROLL
  for (int h = 0; h < H; ++h) {
    sum[h][0] = Zero();
    sum[h][1] = Zero();
  }
  for (int first = 0; first < piece.num_panels; first += kLockstepPanels) {
    const int left = piece.num_panels - first;
    const int last = first + (left < kLockstepPanels ? left : kLockstepPanels);
    for (int t = 0; t < 16; t += 2) {
      for (int p = first; p < last; ++p) {
        if (t + 1 < piece.begin[p] || t >= piece.end[p]) {
          continue;
        }
        const uint16_t* v =
            reinterpret_cast<const uint16_t*>(piece.v[p]) + t * head_dim + pair * kPairLanes;
        const uint16_t* even = t >= piece.begin[p] ? v : kZeros;
        const uint16_t* odd = t + 1 < piece.end[p] ? v + head_dim : kZeros;
        VP value[2];
        if constexpr (kTail) {
          PairRows(even, odd, head_dim % kPairLanes, value[0], value[1]);
        } else {
          PairRows(even, odd, value[0], value[1]);
        }
        PrefetchNext(&prefetcher);
        PrefetchNext(&prefetcher);
        HIPATTN_UNROLL
        for (int h = 0; h < H; ++h) {
          const VP weight = Set1Pair(scratch->weights[h] + p * 16 + t);
          sum[h][0] = DotAdd(value[0], weight, sum[h][0]);
          sum[h][1] = DotAdd(value[1], weight, sum[h][1]);
        }
      }
    }
  }
  HIPATTN_UNROLL
  for (int h = 0; h < H; ++h) {
    const VF decay = Set1(scratch->decay[h]);
    float* o = scratch->state.o[h] + pair * kPairLanes;
    Store(o, MulAdd(Load(o), decay, sum[h][0]));
    Store(o + kLanes, MulAdd(Load(o + kLanes), decay, sum[h][1]));
  }
  scratch->prefetcher = prefetcher;
}

template <int H>
void MultiplyPairsDot(const Piece& piece, int head_dim, Scratch* scratch) {
  int pair = 0;
  for (; (pair + 1) * kPairLanes <= head_dim; ++pair) {
    MultiplyValuesDot<H, false>(piece, pair, head_dim, scratch);
  }
  if (pair * kPairLanes < head_dim) {
    MultiplyValuesDot<H, true>(piece, pair, head_dim, scratch);
  }
}
#endif

template <typename Tag, int H, int C>
inline void MultiplyPairs(const Piece& piece, int pair, int head_dim, int head, Scratch* scratch) {
  for (; (pair + C) * kPairLanes <= head_dim; pair += C) {
    MultiplyValues<Tag, H, C, false>(piece, pair, head_dim, head, scratch);
  }
  if constexpr (C > 1) {
    if (pair * kPairLanes < head_dim) {
      MultiplyPairs<Tag, H, C / 2>(piece, pair, head_dim, head, scratch);
    }
  } else {
    if (pair * kPairLanes < head_dim) {
      MultiplyValues<Tag, H, 1, true>(piece, pair, head_dim, head, scratch);
    }
  }
}

// The heads of a piece in tiles: all scores, the softmax, then all values.
template <typename Tag, int H>
void AttendPieceHeads(const DecodeParams& params, const Piece& piece, Scratch* scratch) {
  const int head_dim = static_cast<int>(params.pool.head_dim);
  constexpr int kRest = H % kTileHeads;
  for (int head = 0; head < H; ++head) {
    Store(scratch->max_lanes[head], Set1(kMinusInf));
  }
  for (int head = 0; head + kTileHeads <= H; head += kTileHeads) {
    MultiplyPanels<Tag, kTileHeads, PanelsOfTile(kTileHeads)>(piece, 0, head_dim, head, scratch);
  }
  if constexpr (kRest != 0) {
    MultiplyPanels<Tag, kRest, PanelsOfTile(kRest)>(piece, 0, head_dim, H - kRest, scratch);
  }
#if defined(HIPATTN_VEC_BF16_DOT)
  if constexpr (kIsBf16<Tag> && H >= kDotHeads) {
    PieceSoftmax<true>(piece, params.softcap, scratch);
    return MultiplyPairsDot<H>(piece, head_dim, scratch);
  }
#endif
  PieceSoftmax<false>(piece, params.softcap, scratch);
  for (int head = 0; head + kTileHeads <= H; head += kTileHeads) {
    MultiplyPairs<Tag, kTileHeads, PairsOfTile(kTileHeads)>(piece, 0, head_dim, head, scratch);
  }
  if constexpr (kRest != 0) {
    MultiplyPairs<Tag, kRest, PairsOfTile(kRest)>(piece, 0, head_dim, H - kRest, scratch);
  }
}

template <typename Tag, int H = kChunkHeads>
void AttendPiece(const DecodeParams& params, const Piece& piece, Scratch* scratch) {
  if constexpr (H > 0) {
    if (piece.num_heads == H) {
      return AttendPieceHeads<Tag, H>(params, piece, scratch);
    }
    AttendPiece<Tag, H - 1>(params, piece, scratch);
  }
}

// Of split number `split` and a head among the results of a list: o[head_dim], then max and sum.
float* SplitResult(const DecodeParams& params, float* results, uint64_t split, uint32_t head) {
  return results + (split * params.group + head) * (params.pool.head_dim + 16);
}

// Where a piece's split leaves its result: in the list's own states, or in the workspace, where the
// jobs lie one behind another.
float* ResultOf(const DecodeParams& params, const Piece& piece, uint32_t head) {
  float* states = params.jobs[piece.job].states;
  return states != nullptr ? SplitResult(params, states, piece.split_of_job, head)
                           : SplitResult(params, params.workspace, piece.split, head);
}

// out[head] = o * factor, rounded to out_dtype; o and out may not overlap.
template <typename Tag>
void StoreRow(const float* o, float factor, int head_dim, typename Tag::Elem* out) {
  const VF scale = Set1(factor);
  int dim = 0;
  for (; dim + kLanes <= head_dim; dim += kLanes) {
    Store(Tag{}, out + dim, Mul(Load(o + dim), scale));
  }
  StoreFirst(Tag{}, out + dim, Mul(LoadFirst(o + dim, head_dim - dim), scale), head_dim - dim);
}

void StoreHead(
    const DecodeParams& params, const DecodeJob& job, uint32_t head, const float* o, float factor) {
  const int head_dim = static_cast<int>(params.pool.head_dim);
  const uint64_t offset = uint64_t{head} * params.pool.head_dim;
  switch (params.out_dtype) {
    case DType::kF32:
      return StoreRow<F32>(o, factor, head_dim, static_cast<float*>(job.out) + offset);
    case DType::kF16:
      return StoreRow<F16>(o, factor, head_dim, static_cast<uint16_t*>(job.out) + offset);
    case DType::kBf16:
      return StoreRow<Bf16>(o, factor, head_dim, static_cast<uint16_t*>(job.out) + offset);
  }
}

void StoreLse(const DecodeJob& job, uint32_t head, float max, double sum) {
  if (job.lse != nullptr) {
    job.lse[head] = static_cast<float>(static_cast<double>(max) + __builtin_log(sum));
  }
}

// Brings o into the order of memory, in place.
template <typename Tag>
void UnpairRow(int head_dim, [[maybe_unused]] int num_heads, float* o) {
  for (int dim = 0; dim < head_dim; dim += kPairLanes) {
    const VF a = Load(o + dim);
    const VF b = Load(o + dim + kLanes);
    VF first, second;
    Unpair(Tag{}, a, b, first, second);
#if defined(HIPATTN_VEC_BF16_DOT)
    if (kIsBf16<Tag> && num_heads >= kDotHeads) {
      UnpairRows(a, b, first, second);
    }
#endif
    Store(o + dim, first);
    Store(o + dim + kLanes, second);
  }
}

template <typename Tag>
void FinishSplit(const DecodeParams& params, const Piece& piece, State* state) {
  const DecodeJob& job = params.jobs[piece.job];
  const int head_dim = static_cast<int>(params.pool.head_dim);
  const bool only_split = NumSplits(params, job) == 1 && job.states == nullptr;
  for (int i = 0; i < piece.num_heads; ++i) {
    const uint32_t head = static_cast<uint32_t>(piece.first_head + i);
    const float sum = ReduceAdd(Load(state->sum[i]));
    UnpairRow<Tag>(head_dim, piece.num_heads, state->o[i]);
    if (only_split) {
      StoreHead(params, job, head, state->o[i], 1.0F / sum);
      StoreLse(job, head, state->max[i], static_cast<double>(sum));
      continue;
    }
    float* result = ResultOf(params, piece, head);
    StoreRow<F32>(state->o[i], 1.0F, head_dim, result);
    result[head_dim] = state->max[i];
    result[head_dim + 1] = sum;
  }
}

void OpenSplit(const DecodeParams& params, const Piece& piece, State* state) {
  const int head_dim = static_cast<int>(params.pool.head_dim);
  const float* q = params.jobs[piece.job].q + static_cast<int64_t>(piece.first_head) * head_dim;
  for (int head = 0; head < piece.num_heads; ++head) {
    const int tile = head / kTileHeads * kTileHeads;
    const int rest = piece.num_heads - tile;
    const int width = rest < kTileHeads ? rest : kTileHeads;
    for (int dim = 0; dim < head_dim; ++dim) {
      state->q[tile * head_dim + dim * width + head - tile] =
          q[head * head_dim + dim] * params.scale;
    }
    Store(state->sum[head], Zero());
    for (int dim = 0; dim < kMaxPaddedDim; dim += kLanes) {
      Store(state->o[head] + dim, Zero());
    }
  }
  StoreFirst(state->max, Set1(kMinusInf), kChunkHeads);
}

template <typename Tag>
void RunUnits(const DecodeParams& params, uint64_t first, uint64_t last) {
  Scratch scratch;
  PieceWalk walk(params, first, last);
  constexpr uint32_t kPieces = sizeof(scratch.pieces) / sizeof(Piece);
  uint32_t known = 0;
  while (known < kPieces && walk.Next(&scratch.pieces[known])) {
    ++known;
  }
  for (uint32_t i = 0; i < known; ++i) {
    const Piece& piece = scratch.pieces[i % kPieces];
    // Behind the last piece this one stands for what follows, as it is there already.
    StartPrefetch(scratch.pieces[(i + 1 < known ? i + 1 : i) % kPieces],
                  scratch.pieces[(i + 2 < known ? i + 2 : i) % kPieces],
                  params.pool.block_bytes,
                  &scratch.prefetcher);
    if (piece.opens_split) {
      OpenSplit(params, piece, &scratch.state);
    }
    AttendPiece<Tag>(params, piece, &scratch);
    if (piece.closes_split) {
      FinishSplit<Tag>(params, piece, &scratch.state);
    }
    known += known == i + kPieces && walk.Next(&scratch.pieces[i % kPieces]) ? 1 : 0;
  }
}

// Merges the splits of one head in order, the first one's result being `results`. The weights
// replace the maxima there.
void MergeSplits(const DecodeParams& params,
                 const DecodeJob& job,
                 uint32_t num_splits,
                 float* results,
                 uint32_t head) {
  const int head_dim = static_cast<int>(params.pool.head_dim);
  const uint64_t stride = uint64_t{params.group} * (params.pool.head_dim + 16);
  float max = kMinusInf;
  for (uint32_t split = 0; split < num_splits; ++split) {
    const float split_max = results[split * stride + params.pool.head_dim];
    max = max > split_max ? max : split_max;
  }
  double sum = 0;
  for (uint32_t split = 0; split < num_splits; ++split) {
    float* tail = results + split * stride + head_dim;
    tail[0] = ReduceMax(Exp(Set1(tail[0] - max)));
    sum += static_cast<double>(tail[0]) * static_cast<double>(tail[1]);
  }
  alignas(64) float o[device::kMaxHeadDim];
  for (int dim = 0; dim < head_dim; dim += kLanes) {
    const int lanes = head_dim - dim < kLanes ? head_dim - dim : kLanes;
    VF total = Zero();
    for (uint32_t split = 0; split < num_splits; ++split) {
      const float* result = results + split * stride;
      total = MulAdd(Set1(result[head_dim]), LoadFirst(result + dim, lanes), total);
    }
    StoreFirst(o + dim, total, lanes);
  }
  StoreHead(params, job, head, o, static_cast<float>(1.0 / sum));
  StoreLse(job, head, max, sum);
}

// Splits that the job merges when all its own are done; 0 when there is nothing to merge.
uint32_t MergedSplits(const DecodeParams& params, const DecodeJob& job) {
  const uint32_t own = NumSplits(params, job);
  if (job.states != nullptr) {
    return job.more != 0 ? 0 : job.splits_before + own;
  }
  return own > 1 ? own : 0;
}

// Heads [first, last), counted over all jobs.
void MergeHeads(const DecodeParams& params, uint64_t first, uint64_t last) {
  uint64_t splits_before = 0;
  for (uint32_t i = 0; i < params.num_jobs && uint64_t{i} * params.group < last; ++i) {
    const DecodeJob& job = params.jobs[i];
    const uint32_t merged = MergedSplits(params, job);
    for (uint32_t head = 0; merged > 0 && head < params.group; ++head) {
      const uint64_t at = uint64_t{i} * params.group + head;
      if (at >= first && at < last) {
        float* results = job.states != nullptr
                             ? SplitResult(params, job.states, 0, head)
                             : SplitResult(params, params.workspace, splits_before, head);
        MergeSplits(params, job, merged, results, head);
      }
    }
    splits_before += NumSplits(params, job);
  }
}

void StoreEmpty(const DecodeParams& params, const DecodeJob& job) {
  alignas(64) const float zeros[device::kMaxHeadDim] = {};
  for (uint32_t head = 0; head < params.group; ++head) {
    StoreHead(params, job, head, zeros, 1.0F);
    if (job.lse != nullptr) {
      job.lse[head] = kMinusInf;
    }
  }
}

}  // namespace

void SparseDecode(const device::OpContext& context, const DecodeParams& params) {
  uint64_t num_units = 0;
  bool any_merge = false;
  for (uint32_t i = 0; i < params.num_jobs; ++i) {
    const uint32_t num_splits = NumSplits(params, params.jobs[i]);
    if (num_splits == 0) {
      StoreEmpty(params, params.jobs[i]);
    }
    num_units += NumUnits(params, params.jobs[i]);
    any_merge = any_merge || MergedSplits(params, params.jobs[i]) > 0;
  }
  if (num_units == 0) {
    return;
  }
  ParallelRuns(context, num_units, [&](uint64_t first, uint64_t last) {
    WithTag(params.pool.kv_dtype, [&](auto tag) { RunUnits<decltype(tag)>(params, first, last); });
  });
  if (any_merge) {
    const uint64_t num_heads = uint64_t{params.num_jobs} * params.group;
    ParallelRuns(context, num_heads, [&](uint64_t first, uint64_t last) {
      MergeHeads(params, first, last);
    });
  }
}

}  // namespace hipattn::host::HIPATTN_ISA
