// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Parameters of the ops: plain structs that a kernel launch can take as they are. Every pointer is
// a device pointer (on the CPU device: ordinary memory), valid until the op's ticket has been
// reached. Shapes are checked by the engine; an op trusts its parameters.
//
// How a block lies in memory (one slot; kv_dtype throughout; 64-byte aligned)
//   K: panels of 16 tokens, [block_tokens / 16][head_dim][16]: lane t of row d is dimension d of
//   token t V: [block_tokens][head_dim], right behind K
// Lanes of tokens that were never written may hold anything, NaN included; no op lets them into a
// result.
//
// How summaries lie in memory: see SummaryLevel.
#ifndef HIPATTN_DEVICE_PARAMS_H_
#define HIPATTN_DEVICE_PARAMS_H_

#include "base/dtype.h"
#include "base/prefill_mask.h"
#include "base/tree.h"

#include <cstddef>
#include <cstdint>

namespace hipattn::device {

inline constexpr uint32_t kPanelTokens =
    16;  // tokens of one K panel: the widest vector holds 16 floats
inline constexpr uint32_t kPieceBlocks =
    8;  // ranges of a list whose softmax is one step of the online softmax
inline constexpr uint32_t kSplitPieces =
    8;  // pieces of one split: the unit of parallel work inside a head
inline constexpr uint32_t kMaxHeadDim = 256;
inline constexpr uint32_t kKeptTokens =
    8192;  // nodes of at least this many tokens keep their f32 vectors
inline constexpr uint32_t kBlockAlignment = 64;

// Where the slots of the KV pool are.
struct BlockPool {
  std::byte* const* slabs;  // slot s is in slabs[s >> slab_slots_log2]
  uint32_t slab_slots_log2;
  uint32_t block_tokens;  // 16, 32 or 64
  uint32_t head_dim;      // a multiple of 8, at most kMaxHeadDim
  DType kv_dtype;
  uint64_t block_bytes;  // 2 * block_tokens * head_dim * DTypeBytes(kv_dtype), a multiple of 64
};

inline std::byte* BlockAddress(const BlockPool& pool, uint32_t slot) {
  const uint32_t mask = (uint32_t{1} << pool.slab_slots_log2) - 1;
  return pool.slabs[slot >> pool.slab_slots_log2] + uint64_t{slot & mask} * pool.block_bytes;
}

// The tokens [begin, end) of the block in `slot` (token numbers inside the block). 0 <= begin < end
// <= block_tokens.
struct KvRange {
  uint32_t slot;
  uint16_t begin;
  uint16_t end;
};

// How q and k are rotated (RoPE, arXiv 2104.09864): pair i turns by position * inv_freq[i]; angles
// in f64.
struct Rope {
  uint32_t
      mode;  // 0 = not at all; 1 = half-split pairs (i, i + dim/2); 2 = interleaved (2i, 2i + 1)
  uint32_t dim;            // leading dimensions that turn, even, at most head_dim
  const double* inv_freq;  // [dim / 2]
};

// ------------------------------------------------------------------------------------------
// append_kv Writes new keys and values into their blocks, rotated at their positions when rope.mode
// != 0, then rounded to kv_dtype.
struct AppendJob {  // one (sequence, kv head)
  const void* k;    // [num_tokens, head_dim] io_dtype, rows kv_row_stride elements apart
  const void* v;
  const uint32_t* slots;  // [..] slots of the blocks from that of first_pos on
  uint32_t first_pos;     // position of the first new token
  uint32_t num_tokens;
};
struct AppendParams {
  BlockPool pool;
  Rope rope;
  const AppendJob* jobs;
  uint32_t num_jobs;
  DType io_dtype;
  uint64_t kv_row_stride;  // elements between neighbouring tokens of k and v
};

// ------------------------------------------------------------------------------------------ load_q
// q of io_dtype -> f32, rotated at its rows' positions when rope.mode != 0.
struct LoadQParams {
  const void* q;              // [num_rows, num_heads, head_dim] io_dtype
  float* q_f32;               // the same shape
  const uint32_t* positions;  // [num_rows]; not read when rope.mode is 0
  Rope rope;
  uint32_t num_rows, num_heads, head_dim;
  DType io_dtype;
};

// ------------------------------------------------------------------------------------------
// summaries The int8 summaries of one level of one kv head's block tree. The 8 children of a node
// lie together as a group, one read:
//   float scale_m[8], scale_w[8]; then int8 steps[][16][2]: pairs of neighbouring dimensions
// with two vectors per node (has_spread): head_dim / 2 steps, lanes 0-7 of step s are m[2s] and
// m[2s + 1] of the 8 nodes, 8-15 those of w; with one: head_dim / 4 steps, lanes 0-7 are m[4s] and
// m[4s + 1], 8-15 are m[4s + 2] and m[4s + 3], and scale_w repeats scale_m. m = scale_m * int8, w =
// scale_w * int8. Groups of 64-byte multiples, kept in chunks.
struct SummaryLevel {
  std::byte* const* chunks;  // group g is in chunks[g >> chunk_groups_log2]
  uint32_t chunk_groups_log2;
};

// Bytes of one group of 8 summaries.
constexpr uint64_t SummaryGroupBytes(uint32_t head_dim, bool has_spread) {
  const uint64_t lanes = uint64_t{head_dim} * kFanOut * (has_spread ? 2 : 1);
  return (2 * kFanOut * sizeof(float) + lanes + 63) / 64 * 64;
}

// Where m (which = 0) or w (1) of a child at one dimension lies among a group's int8.
constexpr uint32_t SummaryPlace(bool has_spread, uint32_t which, uint32_t child, uint32_t dim) {
  const uint32_t step = has_spread ? dim / 2 : dim / 4;
  const uint32_t half = has_spread ? which : dim / 2 % 2;
  return (step * 16 + half * kFanOut + child) * 2 + dim % 2;
}

inline std::byte* SummaryGroupAddress(const SummaryLevel& level,
                                      uint64_t group_bytes,
                                      uint32_t group) {
  const uint32_t mask = (uint32_t{1} << level.chunk_groups_log2) - 1;
  return level.chunks[group >> level.chunk_groups_log2] + (group & mask) * group_bytes;
}

// Lowest level whose nodes have at least kKeptTokens / 8 + 1 .. kKeptTokens tokens: the highest l
// with block * 8^l <= kKeptTokens.
constexpr uint32_t KeptLevel(uint32_t block_tokens) {
  uint32_t level = 0;
  while (uint64_t{block_tokens} << (3 * (level + 1)) <= kKeptTokens) {
    ++level;
  }
  return level;
}

// Summarises finished blocks and every inner node that they complete (SPEC D28-D30): block
// low/high/mean in f32 (tokens summed in order, / block_tokens), inner node = min, max, and the sum
// of the 8 children's means in order / 8; vectors by scorer, int8. `open` carries, per level l >=
// 1, the node that is not complete yet: [level - 1][low, high, sum of means][head_dim], valid when
// it has a child, i.e. when the number of complete level l-1 nodes is no multiple of 8. A complete
// node n of level >= KeptLevel also has its f32 low, high, mean written to kept[level -
// KeptLevel][n]. With `rebuild` no summary is written, only `open`: levels up to KeptLevel from the
// given blocks, which begin at the KeptLevel node that is not complete and reach to the last
// finished block, in as many jobs one after another as one likes; levels above from the kept
// vectors. (After a truncate or fork.)
struct SummarizeJob {     // one (sequence, layer, kv head)
  const uint32_t* slots;  // [first_block + num_blocks] the block table from block 0
                          // (representatives reach back)
  uint32_t first_block, num_blocks;
  SummaryLevel levels[kMaxLevels];  // with room for every node that completes
  float* open;                      // [kMaxLevels - 1][3][head_dim]
  float* const*
      kept[kMaxLevels];  // by level - KeptLevel: kept[i][node] -> [low, high, mean][head_dim]
  uint32_t rebuild;
};
struct SummarizeParams {
  BlockPool pool;
  Scorer scorer;  // never kExact, which has no summary
  const SummarizeJob* jobs;
  uint32_t num_jobs;
};

// ------------------------------------------------------------------------------------------
// score_nodes, estimate_nodes Rows of queries: vector (r, g) starts at q + r * row_stride + g *
// head_dim.
//
// A score is (float(sum of q_i m_i) * scale_m + float(sum of |q_i| w_i) * scale_w) * step, with q_i
// the query as 16-bit whole numbers of steps (StepOfInt16 of its largest element, rounded half to
// even), m_i and w_i the stored int8; with one vector per node the two sums are those of lanes 0-7
// and 8-15. The sums are whole, the rest is IEEE f32 in this order: the same bits everywhere. Where
// the elements of q span no more than 15 bits, it is SPEC D30 exactly; else q is off by at most
// 2^-15 of its largest element, as an f32 sum of head_dim products may be.
struct QueryRows {
  const float* q;
  uint64_t row_stride;  // floats
  uint32_t num_rows;
  uint32_t group;  // q heads per kv head
};
struct ScoreJob {  // one (query block, kv head) at one level
  SummaryLevel level;
  const NodeGroup* groups;
  uint32_t num_groups;
  QueryRows rows;
  float* scores;  // [num_groups][8]: max over all rows and heads of q.m + |q|.w; not set where the
                  // mask is 0
};
struct ScoreParams {
  const ScoreJob* jobs;
  uint32_t num_jobs;
  uint32_t head_dim;
  uint32_t has_spread;
};

// SPEC D36 for one query row: log_mass[g] = log sum over the masked nodes of tokens * exp(scale q.m
// + scale^2/2 sum q_d^2 w_d^2) (exponent capped by softcap * tanh(x / softcap) when softcap > 0);
// -inf for an empty list. Summaries with spread only.
struct EstimateJob {
  SummaryLevel level;
  const NodeGroup* groups;
  const float*
      tokens;  // [num_groups][8] the nodes' tokens inside the row's searchable range; 0 = leave out
  uint32_t num_groups;
  const float* q;   // [group][head_dim]
  float* log_mass;  // [group]
};
struct EstimateParams {
  const EstimateJob* jobs;
  uint32_t num_jobs;
  uint32_t head_dim, group;
  float scale, softcap;
};

// ------------------------------------------------------------------------------------------
// write_sketches, score_sketches A sketch is 16 neighbouring keys in 2 bits per element, in a
// Hadamard-rotated basis: element d of the rotated key of token t is about
//   2^base_exponent base[d] + 2^step_exponent step[d] code[t][d]
// docs/search.md says how each is rounded. Sketch s covers the tokens [16 s, 16 s + 16) of the
// text; a block has block_tokens / 16 of them. With D = SketchDims(head_dim) it is one read of
//   uint8 step[D], 0 to 127 in the low 7 bits; int8 base[D], -127 to 127; uint32 codes[D / 16][16]
// The highest bits of step[0] .. step[7] are those of the int8 step_exponent from the lowest on,
// the highest bits of step[8] .. step[15] those of base_exponent. Bits 8 j + 2 s, + 1 of lane t of
// codes row i are the code of token t in dimension 16 i + 4 s + j, so that (row >> 2 s) &
// 0x03030303 is what a dot product of bytes wants. Dimensions from head_dim on are 0. Sketches lie
// one after another in chunks.
struct SketchTable {
  std::byte* const* chunks;  // sketch s is in chunks[s >> chunk_sketches_log2]
  uint32_t chunk_sketches_log2;
};
inline constexpr uint32_t kSketchTokens = kPanelTokens;
// Exponents stay far inside what f32 can do.
inline constexpr int32_t kLeastSketchExponent = -100;
inline constexpr int32_t kMostSketchExponent = 120;

constexpr uint32_t SketchDims(uint32_t head_dim) {
  return (head_dim + 15) / 16 * 16;
}
// 9.4 % of the bytes of bf16 keys and values where head_dim is a multiple of 16.
constexpr uint64_t SketchBytes(uint32_t head_dim) {
  return uint64_t{6} * SketchDims(head_dim);
}
inline std::byte* SketchAddress(const SketchTable& table, uint64_t sketch_bytes, uint32_t sketch) {
  const uint32_t mask = (uint32_t{1} << table.chunk_sketches_log2) - 1;
  return table.chunks[sketch >> table.chunk_sketches_log2] + (sketch & mask) * sketch_bytes;
}

// Sketches of whole blocks, from their keys as they are stored.
struct WriteSketchJob {   // one (sequence, layer, kv head)
  const uint32_t* slots;  // [first_block + num_blocks] block table from block 0
  uint32_t first_block, num_blocks;
  SketchTable table;  // with room for them
};
struct WriteSketchParams {
  BlockPool pool;
  const WriteSketchJob* jobs;
  uint32_t num_jobs;
};

// scores[i] = max over rows and heads of log2 of the sum of exp(scale q.k) over the sketched keys
// of a block, in whole numbers up to the last steps: the same bits on every device. With
// query_stride != 0 no maximum is taken: query i, of all heads of the first row, then of the next,
// has its scores from scores + i * query_stride on.
struct ScoreSketchJob {  // one (query block, kv head)
  SketchTable table;
  const int32_t* blocks;  // [num_blocks]; NULL: the blocks from first_block on
  uint32_t first_block;   // used when blocks is NULL
  uint32_t num_blocks;
  QueryRows rows;
  float* scores;          // [num_blocks]
  uint64_t query_stride;  // floats, at least num_blocks; 0: the maximum
};
struct ScoreSketchParams {
  const ScoreSketchJob* jobs;
  uint32_t num_jobs;
  uint32_t head_dim, block_tokens;
  float scale;
};

// ------------------------------------------------------------------------------------------
// score_keys scores[i] = max over rows and heads of q.K[token i] (raw, SPEC D9). With rope.mode !=
// 0 keys are stored un-rotated: key i turns to key_pos[i], row r's queries to row_pos[r]. The slow
// path of the reference searches and the exact scorer.
struct ScoreKeysJob {
  const uint32_t* slots;    // block table from block 0
  const uint32_t* tokens;   // [num_tokens] positions in the text
  const uint32_t* key_pos;  // [num_tokens], or NULL without rope
  uint32_t num_tokens;
  QueryRows rows;
  const uint32_t* row_pos;  // [num_rows], or NULL without rope
  float* scores;            // [num_tokens]
};
struct ScoreKeysParams {
  BlockPool pool;
  Rope rope;
  const ScoreKeysJob* jobs;
  uint32_t num_jobs;
};

// ------------------------------------------------------------------------------------------
// sparse_decode Softmax attention of one query row over a list of ranges, the group's q heads
// together (SPEC D1-D4): score = scale q.k, capped by softcap * tanh(s / softcap) when softcap > 0;
// lse natural. The list is cut into pieces of kPieceBlocks ranges and splits of kSplitPieces pieces
// by list position; pieces fold into their split in order by online softmax (FlashAttention-2,
// arXiv 2307.08691, section 3.1), splits merge in order. So the bits depend on the list alone. An
// empty list gives 0 and -inf.
struct DecodeJob {        // one (sequence, row, kv head)
  const KvRange* ranges;  // NULL: the whole blocks of slots[], num_tokens tokens in all
  const uint32_t* slots;  // used when ranges is NULL
  uint32_t num_ranges;    // when ranges is NULL: ceil(num_tokens / block_tokens)
  uint32_t num_tokens;    // when ranges is NULL
  const float* q;         // [group][head_dim] contiguous
  void* out;              // [group][head_dim] out_dtype, contiguous
  float* lse;             // [group] or NULL
  // A list in parts, one after another: whole splits but for the last part, at least two in all.
  // The bits are those of the list in one.
  float* states = nullptr;     // NULL: the whole list; else DecodeWorkspaceFloats of it, aligned
  uint32_t splits_before = 0;  // of the parts before
  uint32_t more = 0;           // 1: parts follow, out and lse are not written yet
};
struct DecodeParams {
  BlockPool pool;
  const DecodeJob* jobs;
  uint32_t num_jobs;
  uint32_t group;
  float scale, softcap;
  DType out_dtype;
  float* workspace;  // DecodeWorkspaceFloats(params.jobs...) floats, 64-byte aligned
};
constexpr uint32_t DecodeSplits(uint32_t num_ranges) {
  const uint32_t split = kPieceBlocks * kSplitPieces;
  return (num_ranges + split - 1) / split;
}
// Floats of workspace that one job needs: per split and head an unnormalised o, its maximum and its
// sum.
constexpr uint64_t DecodeWorkspaceFloats(uint32_t num_ranges, uint32_t group, uint32_t head_dim) {
  return uint64_t{DecodeSplits(num_ranges)} * group * (uint64_t{head_dim} + 16);
}

// ------------------------------------------------------------------------------------------
// attend_rotated As sparse_decode, over keys that are stored un-rotated (position extension, SPEC
// D24): token `begin + i` of range r turns to max(0, positions[r] + i), the query to query_pos.
// Reference speed.
struct RotatedJob {
  const KvRange* ranges;
  const int64_t* positions;  // [num_ranges]
  uint32_t num_ranges;
  uint32_t query_pos;
  const float* q;  // [group][head_dim], un-rotated
  void* out;
  float* lse;
  // A list in parts, one after another, cut between any ranges: the bits are those of the whole.
  float* state = nullptr;  // NULL: this is the whole list. Else RotatedStateFloats floats
  uint32_t later = 0;      // 1: goes on with the state that the part before left
  uint32_t more = 0;       // 1: parts follow; leaves the state and writes neither out nor lse
};
constexpr uint64_t RotatedStateFloats(uint32_t group, uint32_t head_dim) {
  return uint64_t{group} * (uint64_t{head_dim} + 2);
}
struct RotatedParams {
  BlockPool pool;
  Rope rope;
  const RotatedJob* jobs;
  uint32_t num_jobs;
  uint32_t group;
  float scale, softcap;
  DType out_dtype;
};

// ------------------------------------------------------------------------------------------
// dense_prefill Causal attention of a chunk's rows over all tokens of their own past, tiled, never
// materialising [rows, tokens] (FlashAttention-2, arXiv 2307.08691). Key tiles begin at absolute
// multiples of a constant and every row folds them in ascending order, so a row's bits depend
// neither on its chunk nor on its tile.
struct PrefillJob {       // one (sequence, kv head)
  const uint32_t* slots;  // block table from block 0; the rows' own keys are stored already
  const float* q;         // row r, head g of the group: q + r * q_row_stride + g * head_dim
  void* out;              // row r, head g: element r * out_row_stride + g * head_dim
  float* lse;             // row r, head g: lse[r * lse_row_stride + g]; NULL = not wanted
  uint32_t first_pos, num_rows;
  // A text in parts, one after another: the keys [key_begin, key_end), key_begin a multiple of
  // kPrefillPartKeys; the part that ends with the rows' last key writes out and lse. The same bits.
  float* state = nullptr;  // NULL: all of the text; else PrefillStateFloats floats, 64-byte aligned
  uint32_t key_begin = 0, key_end = 0;
};
inline constexpr uint32_t kPrefillPartKeys = 128;
// Of a row of q heads: for each its unnormalised o, its sums and its maximum.
constexpr uint64_t PrefillStateFloats(uint64_t num_rows, uint32_t group, uint32_t head_dim) {
  return num_rows * group * ((uint64_t{head_dim} + 31) / 32 * 32 + 32);
}
struct PrefillParams {
  BlockPool pool;
  const PrefillJob* jobs;
  uint32_t num_jobs;
  uint32_t group;
  uint64_t q_row_stride, out_row_stride, lse_row_stride;  // elements
  float scale, softcap;
  DType out_dtype;
};

// ------------------------------------------------------------------------------------------
// sparse_prefill Attention of a chunk's rows over what a mask names of their past: the ranges of
// their row tile, then its columns, then its pruned means (FlashAttention-2, arXiv 2307.08691, over
// the masks of MInference, arXiv 2407.02490). Causal throughout: a key behind a row never takes
// part. A row without keys: out = 0, lse = -inf. A row's bits depend on its tile's part of the mask
// alone.
//
// The K panels that a row tile names are folded in the order of the mask in tiles of up to 128
// keys, 64 where head_dim is above 128; keys of partial panels that all rows see make panels first.
// A tile ends behind every kMaskPartPanels-th panel of the ranges, so that they may be folded in
// parts. Keys that a windowed range holds but a row's window does not must be finite.

// The columns of a mask, or the means of blocks, lie in a panel like blocks of 16 tokens, one after
// another: [ceil(count / 16)] of K [head_dim][16], then V [16][head_dim].
constexpr uint64_t ColumnPanelElements(uint32_t num_columns, uint32_t head_dim) {
  return (uint64_t{num_columns} + kPanelTokens - 1) / kPanelTokens * 2 * kPanelTokens * head_dim;
}

// Blocks that no row of a tile attends, all of whose keys every row of it could, entering as one
// key each: the block's mean key and value, with log(tokens) added to the logit (the mean
// correction of FlashPrefill V2, arXiv 2608.19758).
struct PrunedMeans {
  const float* panel;               // pool_blocks' means; NULL = no correction
  const float* log_tokens;          // [num_blocks] natural log of the tokens of each
  const uint32_t* interval_ptr;     // [num_tiles + 1]
  const ColumnInterval* intervals;  // numbers of blocks, ascending and disjoint in a tile
  uint32_t num_blocks;
};

struct SparsePrefillJob {  // q heads of one (sequence, kv head) that have the same mask
  const uint32_t* slots;   // as in PrefillJob
  const float* q;          // row r, head h: q + r * q_row_stride + h * head_dim
  void* out;               // row r, head h: element r * out_row_stride + h * head_dim
  float* lse;              // row r, head h: lse[r * lse_row_stride + h]; NULL = not wanted
  uint32_t first_pos, num_rows, num_heads;
  PrefillMask mask;     // num_tiles is ceil(num_rows / kRowTile)
  const void* columns;  // pack_columns of mask.columns; not read when there are none
  PrunedMeans means;
  // One row tile in parts, one after another: of the panels its ranges name, in their order
  // (device/range_panels.h), the numbers [panel_begin, panel_end), panel_begin a multiple of
  // kMaskPartPanels; the part with the last of them goes on to columns and means and writes out and
  // lse. The same bits.
  float* state = nullptr;  // NULL: all; else PrefillStateFloats(kRowTile, num_heads, head_dim)
                           // floats, 64-byte aligned
  uint32_t panel_begin = 0, panel_end = 0;
};
inline constexpr uint32_t kMaskPartPanels = 256;
struct SparsePrefillParams {
  BlockPool pool;
  const SparsePrefillJob* jobs;
  uint32_t num_jobs;
  uint64_t q_row_stride, out_row_stride, lse_row_stride;  // elements
  float scale, softcap;
  // In (0, 1): a tile is left out where no row's largest score in it comes up to
  // log(skip_threshold) above the row's largest so far (skip-softmax, BLASST), which leaves out
  // weights below skip_threshold times the largest. 0: nothing is.
  float skip_threshold;
  DType out_dtype;
};

// ------------------------------------------------------------------------------------------
// pack_columns The keys and values at `positions`, gathered into a column panel. Lanes behind the
// last column are 0.
struct PackJob {              // one mask of one (sequence, kv head)
  const uint32_t* slots;      // block table from block 0
  const uint32_t* positions;  // [num_columns]
  uint32_t num_columns;
  void* panel;  // ColumnPanelElements(num_columns, head_dim) of kv_dtype, 64-byte aligned
};
struct PackParams {
  BlockPool pool;
  const PackJob* jobs;
  uint32_t num_jobs;
};

// ------------------------------------------------------------------------------------------
// apply_deltas What dense attention gives to the anchors among the rows, less what they have,
// becomes their delta; a row gains the last anchor's, itself included (Delta Attention, arXiv
// 2505.11254). f32, every step rounded, the same bits on every device.
struct DeltaJob {      // one q head
  const float* dense;  // of the anchors, dense_stride floats apart
  void* out;           // of the rows, io_dtype, out_stride elements apart
  float* delta;        // [head_dim] of the last anchor before the rows; then of the last one
};
struct DeltaParams {
  const DeltaJob* jobs;
  uint32_t num_jobs;
  const uint32_t* anchors;  // [num_anchors] rows, ascending, below num_rows
  uint32_t num_anchors, num_rows, head_dim;
  uint64_t dense_stride, out_stride;
  DType io_dtype;
};

// ------------------------------------------------------------------------------------------
// merge_states (o_a, lse_a), (o_b, lse_b) over disjoint keys -> (o, lse) (SPEC D4). o may alias
// o_a, lse may alias lse_a.
struct MergeParams {
  uint64_t num_rows;
  uint32_t head_dim;
  const float* o_a;    // [num_rows, head_dim]
  const float* lse_a;  // [num_rows], natural log; -inf = the side is absent, whatever its o holds
  const float* o_b;
  const float* lse_b;
  float* o;
  float* lse;
};

}  // namespace hipattn::device

#endif  // HIPATTN_DEVICE_PARAMS_H_
