// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// How sparse_decode walks its lists: pieces of kPieceBlocks ranges, cut into panels of 16 tokens,
// and the prefetching of the next piece. Compiled once per instruction set, like the kernels.
#ifndef HIPATTN_HOST_KERNELS_DECODE_PIECES_H_
#define HIPATTN_HOST_KERNELS_DECODE_PIECES_H_

#include "base/dtype.h"
#include "device/params.h"
#include "host/vec/vec.h"

namespace hipattn::host::HIPATTN_ISA {

inline constexpr int kChunkHeads = 8;           // heads that are computed together
inline constexpr int kMaxPanels = 8 * 64 / 16;  // of a piece
inline constexpr int kLineBytes = 64;
inline constexpr uint32_t kSplitRanges = device::kPieceBlocks * device::kSplitPieces;

// One piece of a list, as panels of up to 16 tokens in the list's order.
struct Piece {
  uint32_t job;
  uint64_t split;         // counted over all jobs
  uint32_t split_of_job;  // counted over the parts of the job's list
  int first_head, num_heads;
  bool opens_split, closes_split;
  int num_panels;
  const std::byte* k[kMaxPanels];
  const std::byte* v[kMaxPanels];  // row of lane 0
  int begin[kMaxPanels];           // live lanes [begin, end)
  int end[kMaxPanels];
  const std::byte* blocks[device::kPieceBlocks];  // of a short piece: the last one again
};

// Where the prefetching of two pieces stands, whose blocks are read in lockstep: line `offset` of
// their blocks[block] is next. Each line is asked for twice, as a prefetch is dropped when the miss
// buffers are full: while its piece is the later one, and again when it is the next one.
struct Prefetcher {
  const std::byte* const* next;
  const std::byte* const* later;
  uint32_t block;
  uint32_t offset;
};

static inline void PrefetchNext(Prefetcher* prefetcher) {
  PrefetchL2(prefetcher->next[prefetcher->block] + prefetcher->offset);
  PrefetchL2(prefetcher->later[prefetcher->block] + prefetcher->offset);
  if (++prefetcher->block == device::kPieceBlocks) {
    prefetcher->block = 0;
    prefetcher->offset += kLineBytes;
  }
}

static inline uint32_t NumRanges(const device::DecodeParams& params, const device::DecodeJob& job) {
  if (job.ranges != nullptr) {
    return job.num_ranges;
  }
  return job.num_tokens / params.pool.block_tokens +
         (job.num_tokens % params.pool.block_tokens != 0 ? 1U : 0U);
}

static inline uint32_t NumSplits(const device::DecodeParams& params, const device::DecodeJob& job) {
  return device::DecodeSplits(NumRanges(params, job));
}

static inline uint32_t NumChunks(const device::DecodeParams& params) {
  return (params.group + kChunkHeads - 1) / kChunkHeads;
}

static inline uint64_t NumUnits(const device::DecodeParams& params, const device::DecodeJob& job) {
  return uint64_t{NumSplits(params, job)} * NumChunks(params);
}

static inline device::KvRange RangeAt(const device::DecodeParams& params,
                                      const device::DecodeJob& job,
                                      uint32_t i) {
  if (job.ranges != nullptr) {
    return job.ranges[i];
  }
  const uint32_t block_tokens = params.pool.block_tokens;
  const uint32_t left = job.num_tokens - i * block_tokens;
  return {job.slots[i], 0, static_cast<uint16_t>(left < block_tokens ? left : block_tokens)};
}

// Yields the pieces of the units [first, last) in order.
class PieceWalk {
 public:
  PieceWalk(const device::DecodeParams& params, uint64_t first, uint64_t last)
      : params_(params), units_left_(last - first) {
    uint64_t unit = first;
    while (unit >= NumUnits(params, params.jobs[job_])) {
      unit -= NumUnits(params, params.jobs[job_]);
      splits_before_ += NumSplits(params, params.jobs[job_]);
      ++job_;
    }
    split_ = static_cast<uint32_t>(unit / NumChunks(params));
    chunk_ = static_cast<uint32_t>(unit % NumChunks(params));
  }

  // False at the end.
  bool Next(Piece* piece) {
    if (units_left_ == 0) {
      return false;
    }
    const device::DecodeJob& job = params_.jobs[job_];
    const uint32_t num_ranges = NumRanges(params_, job);
    const uint32_t split_end = Min(num_ranges, (split_ + 1) * kSplitRanges);
    const uint32_t begin = split_ * kSplitRanges + piece_ * device::kPieceBlocks;
    const uint32_t end = Min(split_end, begin + device::kPieceBlocks);
    piece->job = job_;
    piece->split = splits_before_ + split_;
    piece->split_of_job = job.splits_before + split_;
    piece->first_head = static_cast<int>(chunk_) * kChunkHeads;
    const int heads_left = static_cast<int>(params_.group) - piece->first_head;
    piece->num_heads = heads_left < kChunkHeads ? heads_left : kChunkHeads;
    piece->opens_split = piece_ == 0;
    piece->closes_split = end == split_end;
    piece->num_panels = 0;
    for (uint32_t i = begin; i < end; ++i) {
      AddPanels(RangeAt(params_, job, i), piece);
      piece->blocks[i - begin] = device::BlockAddress(params_.pool, RangeAt(params_, job, i).slot);
    }
    for (uint32_t i = end - begin; i < device::kPieceBlocks; ++i) {
      piece->blocks[i] = piece->blocks[end - begin - 1];
    }
    if (piece->closes_split) {
      NextUnit();
    } else {
      ++piece_;
    }
    return true;
  }

 private:
  static uint32_t Min(uint32_t a, uint32_t b) { return a < b ? a : b; }

  void AddPanels(device::KvRange range, Piece* piece) const {
    const device::BlockPool& pool = params_.pool;
    const uint64_t panel_bytes =
        uint64_t{device::kPanelTokens} * pool.head_dim * DTypeBytes(pool.kv_dtype);
    const std::byte* block = device::BlockAddress(pool, range.slot);
    const std::byte* values = block + pool.block_bytes / 2;
    for (int first = range.begin / 16 * 16; first < range.end; first += 16) {
      const int i = piece->num_panels++;
      const uint64_t offset = static_cast<uint64_t>(first / 16) * panel_bytes;
      piece->k[i] = block + offset;
      piece->v[i] = values + offset;
      piece->begin[i] = range.begin > first ? range.begin - first : 0;
      piece->end[i] = range.end - first < 16 ? range.end - first : 16;
    }
  }

  void NextUnit() {
    --units_left_;
    piece_ = 0;
    if (++chunk_ < NumChunks(params_)) {
      return;
    }
    chunk_ = 0;
    ++split_;
    while (units_left_ > 0 && split_ >= NumSplits(params_, params_.jobs[job_])) {
      splits_before_ += NumSplits(params_, params_.jobs[job_]);
      split_ = 0;
      ++job_;
    }
  }

  const device::DecodeParams& params_;
  uint64_t units_left_;
  uint64_t splits_before_ = 0;  // those of earlier jobs
  uint32_t job_ = 0, split_ = 0, chunk_ = 0, piece_ = 0;
};

// Begins with the first lines of the keys and values of the later piece's blocks, so that their
// page walks overlap.
static inline void StartPrefetch(const Piece& next,
                                 const Piece& later,
                                 uint64_t block_bytes,
                                 Prefetcher* prefetcher) {
  *prefetcher = {next.blocks, later.blocks, 0, 0};
  for (const std::byte* block : later.blocks) {
    PrefetchL2(block);
    PrefetchL2(block + block_bytes / 2);
  }
}

}  // namespace hipattn::host::HIPATTN_ISA

#endif  // HIPATTN_HOST_KERNELS_DECODE_PIECES_H_
