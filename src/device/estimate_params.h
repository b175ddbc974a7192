// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Parameters of the ops that look for what a prefill should attend: lines, means of blocks and
// their scores. As in device/params.h.
#ifndef HIPATTN_DEVICE_ESTIMATE_PARAMS_H_
#define HIPATTN_DEVICE_ESTIMATE_PARAMS_H_

#include "device/params.h"

#include <cstdint>

namespace hipattn::device {

// ------------------------------------------------------------------------------------------
// estimate_lines What a few rows' causal softmax weighs, by column and by diagonal (the
// vertical-slash estimate of MInference, arXiv 2407.02490): vertical[j] = sum over the rows of the
// weight of key j, slash[s] = that of the keys s behind each row. Each sums to num_rows. The keys
// are cut into segments by position, whose parts are merged in order. Two passes: of the first
// LinesKeptSegments segments the first one leaves its scores for the second, which computes those
// of the others again, so that memory does not grow with rows times keys. Where not all keys are
// there at once, the steps are launched one by one: the sums of all segments, a few at a time, then
// kLse, then the lines of all segments, then kSlash. The same bits, whatever is kept; only kSums
// and kLines read keys. Neighbouring jobs with equal first_pos, num_rows, segments and slots (q
// heads of one kv head) read them once.
enum class LinesStep : uint32_t { kAll, kSums, kLse, kLines, kSlash };
struct LinesJob {         // one (sequence, q head)
  const uint32_t* slots;  // as in PrefillJob
  const float* q;         // row r: q + r * q_row_stride
  uint32_t first_pos, num_rows;
  float* vertical;   // [first_pos + num_rows]
  float* slash;      // [first_pos + num_rows]
  float* lse;        // [num_rows] natural, over all keys of each row
  float* workspace;  // LinesWorkspaceFloats(first_pos + num_rows, num_rows) floats
  // Those of kSums and kLines; ones behind the last key do not count.
  uint32_t segment_begin = 0, segment_end = ~0U;
};
struct LinesParams {
  BlockPool pool;
  const LinesJob* jobs;
  uint32_t num_jobs;
  uint64_t q_row_stride;
  float scale, softcap;
  LinesStep step = LinesStep::kAll;
};
inline constexpr uint32_t kLinesSegment = 4096;  // keys
// Of one segment: the diagonals that its keys have with the rows, and some room at both ends.
constexpr uint64_t LinesDiagonals(uint32_t num_rows) {
  return kLinesSegment + (uint64_t{num_rows} + 63) / 64 * 64 + 48;
}
// 8 MB of a job: 64 rows' scores of 32768 keys, where an estimate is the largest share of a
// prefill.
inline constexpr uint64_t kLinesKeptFloats = uint64_t{2} << 20;
constexpr uint64_t LinesScores(uint32_t num_rows) {  // of one segment
  return (uint64_t{num_rows} + 63) / 64 * 64 * kLinesSegment;
}
constexpr uint64_t LinesSegments(uint32_t num_keys) {
  return (uint64_t{num_keys} + kLinesSegment - 1) / kLinesSegment;
}
constexpr uint64_t LinesKeptSegments(uint32_t num_keys, uint32_t num_rows) {
  const uint64_t all = LinesSegments(num_keys);
  const uint64_t most = num_rows == 0 ? 0 : kLinesKeptFloats / LinesScores(num_rows);
  return all < most ? all : most;
}
constexpr uint64_t LinesWorkspaceFloats(uint32_t num_keys, uint32_t num_rows) {
  return LinesKeptSegments(num_keys, num_rows) * LinesScores(num_rows) +
         LinesSegments(num_keys) * (2 * uint64_t{num_rows} + LinesDiagonals(num_rows));
}

// ------------------------------------------------------------------------------------------
// pool_blocks, score_blocks Means of 64 keys and values in f32, and what a row tile's queries make
// of them. Block n is the keys 64 n .. 64 n + 63 of the sequence; a mean is their sum in order /
// 64, a short last block as if filled up with zeros.
inline constexpr uint32_t kPoolTokens = 64;
struct PoolJob {          // one (sequence, kv head)
  const uint32_t* slots;  // as in PrefillJob
  uint32_t num_tokens;
  uint32_t first_block;  // blocks before it have been pooled already; a multiple of 16
  float* panel;          // ColumnPanelElements(ceil(num_tokens / 64), head_dim), 64-byte aligned;
                         // lanes behind the last block become 0
};
struct PoolParams {
  BlockPool pool;
  const PoolJob* jobs;
  uint32_t num_jobs;
};
enum class BlockScore : uint32_t {
  kPooled,  // scale * (sum of the tile's rows / 64).(mean key); -inf for a block that begins behind
            // the tile's last row (MInference, arXiv 2407.02490, algorithm 3; FlexPrefill)
  kMass,    // log of the sum over rows of exp(scale q.(mean key)), of the rows at or behind the
            // block's last key; -inf where there are none (FlashPrefill, arXiv 2603.06199)
};
struct BlockScoreJob {  // one (sequence, q head)
  const float* q;       // row r: q + r * q_row_stride
  uint32_t first_pos, num_rows;
  const float* panel;  // pool_blocks' of the kv head
  uint32_t num_blocks;
  float* scores;  // [ceil(num_rows / kRowTile)][num_blocks]
};
struct BlockScoreParams {
  const BlockScoreJob* jobs;
  uint32_t num_jobs;
  uint64_t q_row_stride;
  uint32_t head_dim;
  float scale;
  BlockScore score;
};

// ------------------------------------------------------------------------------------------
// score_antidiagonals What rows weigh by sums along antidiagonals (XAttention, arXiv 2503.16428):
// cell (i, j) is the rows i stride .. of the chunk against the keys j stride .. of the text, its
// score scale / stride times the sum over n < stride of q[i stride + stride - 1 - n].k[j stride +
// n]; rows and keys behind the last are zeros. Row cell i sees the key cells that begin at or
// before its last row; each row of cells is softmaxed, and mass is the sums over blocks of 128 rows
// and 128 keys. Memory grows with the keys, not with rows times keys / stride^2. A text may come in
// parts, one after another: the keys [key_begin, key_end), key_begin a multiple of
// kAntidiagonalPartKeys; the part with the last key writes mass. The same bits.
inline constexpr uint32_t kAntidiagonalBlock = 128;
inline constexpr uint32_t kAntidiagonalPartKeys = 512;
struct AntidiagonalJob {  // one (sequence, q head)
  const uint32_t* slots;  // as in PrefillJob
  const float* q;         // row r: q + r * q_row_stride
  uint32_t first_pos, num_rows;
  float* mass;       // [ceil(num_rows / 128)][ceil((first_pos + num_rows) / 128)]
  float* workspace;  // AntidiagonalWorkspaceFloats floats
  uint32_t key_begin = 0, key_end = ~0U;
};
struct AntidiagonalParams {
  BlockPool pool;
  const AntidiagonalJob* jobs;
  uint32_t num_jobs;
  uint64_t q_row_stride;
  uint32_t stride;  // 8 or 16
  float scale;
};
// Row cells that are scored together, and at most so many key cells.
inline constexpr uint32_t kAntidiagonalRows = 64, kAntidiagonalKeys = 32;
// Of the packed queries and keys of 64 row cells, and their sums by block of keys.
constexpr uint64_t AntidiagonalTaskFloats(uint32_t num_keys, uint32_t stride, uint32_t head_dim) {
  const uint64_t blocks = (uint64_t{num_keys} + kAntidiagonalBlock - 1) / kAntidiagonalBlock;
  return uint64_t{kAntidiagonalRows + kAntidiagonalKeys} * stride * head_dim +
         kAntidiagonalRows * blocks;
}
constexpr uint64_t AntidiagonalWorkspaceFloats(uint32_t num_keys,
                                               uint32_t num_rows,
                                               uint32_t stride,
                                               uint32_t head_dim) {
  const uint64_t task_rows = uint64_t{kAntidiagonalRows} * stride;
  return (num_rows + task_rows - 1) / task_rows *
         AntidiagonalTaskFloats(num_keys, stride, head_dim);
}

}  // namespace hipattn::device

#endif  // HIPATTN_DEVICE_ESTIMATE_PARAMS_H_
