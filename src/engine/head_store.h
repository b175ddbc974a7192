// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// HeadStore: what one (sequence, layer, kv head) keeps: the table of its blocks, the summaries of
// its block tree and the sketches of its keys. Where everything is resident the table holds slots
// of the pool; with tiers behind the device it holds ids of the block cache, which
// engine/block_ops.h turns into slots for each op.
//
// Where there is a host tier, the table, the lower levels of the tree and the sketches lie in it,
// in memory that the device's ops write at an alias and that the host searches
// (engine/index_ops.h).
//
// Room and content are separate. MakeRoom takes slots and index memory for a length and can fail;
// the ops then write; nothing of the content counts until the layer's length is raised, so an
// attend that fails in between has changed nothing.
//
// Sharing (fork): the child's table names the parent's slots, runs being held by both, and the
// child's index points to the parent's chunks. A side that is about to write into memory that both
// see (the last, unfinished block; the last, unfinished chunk of a level) copies it first.
#ifndef HIPATTN_ENGINE_HEAD_STORE_H_
#define HIPATTN_ENGINE_HEAD_STORE_H_

#include "engine/chunk_pool.h"
#include "engine/sketch_copies.h"
#include "engine/visible_array.h"
#include "offload/block_cache.h"
#include "offload/slot_pool.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

namespace hipattn::engine {

// Levels that lie on the host where there is such a tier: nodes of 16 and 128 tokens with the
// smallest blocks. All that is above takes half a byte per token at a head_dim of 128.
inline constexpr uint32_t kHostLevels = 2;

// What all stores of one sequence have in common.
struct StoreContext {
  offload::SlotPool* pool = nullptr;  // of slots that stay
  IndexMemory* memory = nullptr;
  uint32_t block_tokens = 16;
  uint32_t head_dim = 0;
  bool summaries = false;                // a block tree is kept
  bool has_spread = false;               // of its scorer
  bool sketches = false;                 // beside the tree; never without
  offload::BlockCache* cache = nullptr;  // instead of the pool where there are tiers
  IndexMemory* host_memory = nullptr;    // of what lies on the host, or nullptr: nothing does
  ChunkPool* host_chunks = nullptr;      // of the same
  SketchCopies* copies = nullptr;        // of sketches that lie there

  bool OnHost(uint32_t level) const { return host_memory != nullptr && level < kHostLevels; }
  bool SketchesOnHost() const { return host_memory != nullptr; }
  // Of the block table: with tiers no op reads it.
  IndexMemory& TableMemory() const { return host_memory != nullptr ? *host_memory : *memory; }
};

// Groups of 8 summaries that are allocated together: 1024 tokens of level 0. The rest of a chunk
// that a text has not reached yet counts against its 4 percent, so chunks are small.
constexpr uint32_t ChunkGroupsLog2(uint32_t level) {
  return level == 0 ? 3 : 0;
}

// Sketches that are allocated together: 512 tokens, 12 to 25 KB at usual head_dim.
inline constexpr uint32_t kChunkSketchesLog2 = 5;

class HeadStore {
 public:
  HeadStore() = default;
  HeadStore(const HeadStore&) = delete;
  HeadStore& operator=(const HeadStore&) = delete;
  ~HeadStore() = default;

  // Room for num_tokens tokens, of which the first `written` are content that must stay; after it
  // the blocks and summaries from `written` on may be written. On failure the content is untouched;
  // Trim gives back what was added.
  Status MakeRoom(const StoreContext& context, uint64_t written, uint64_t num_tokens);

  // Gives back room beyond num_tokens.
  void Trim(const StoreContext& context, uint64_t num_tokens);

  // Shares the first num_tokens tokens of `parent`, whose content they are.
  Status ShareFrom(const StoreContext& context, HeadStore& parent, uint64_t num_tokens);

  // Blocks from here on are seen by nobody else, and what that was before a ShareFrom whose other
  // side has gone.
  uint64_t own_from() const { return own_from_; }
  void OwnAgain(uint64_t before) {
    own_from_ = std::min(own_from_, before);
    room_tokens_ = 0;
  }

  // Content ends at num_tokens from now on: summaries of nodes beyond it no longer count.
  void Cut(const StoreContext& context, uint64_t num_tokens);

  // Slots, or ids of blocks where there is a cache.
  const uint32_t* slots() const { return slots_.data(); }
  uint64_t room_blocks() const { return slots_.size(); }

  // Blocks that are in the tree, and the job that brings it to `blocks`; afterwards MarkSummarized.
  // Two jobs may be needed: after a Cut the open nodes are rebuilt first.
  uint64_t summarized_blocks() const { return summarized_; }
  bool NeedsRebuild() const { return rebuild_; }
  device::SummarizeJob RebuildJob(const StoreContext& context) const;
  device::SummarizeJob AppendJob(const StoreContext& context, uint64_t blocks) const;
  void MarkRebuilt() { rebuild_ = false; }
  void MarkSummarized(uint64_t blocks) { summarized_ = blocks; }
  // What was read from elsewhere: so many blocks are in the tree; with `rebuild` the open nodes are
  // not.
  void RestoreSummarized(uint64_t blocks, bool rebuild) {
    summarized_ = blocks;
    rebuild_ = rebuild;
  }
  // The open nodes were touched by work that was given up.
  void MarkStale() {
    rebuild_ = summarized_ > 0;
    copy_.Cut(summarized_);
  }

  // The job that brings the sketches from summarized_blocks() to `blocks`.
  device::WriteSketchJob SketchJob(uint64_t blocks) const;

  // A copy of the sketches of `blocks` blocks for the device, where they lie on the host and there
  // is room; the head is scanned. And what gives it back.
  Status CopySketches(const StoreContext& context, uint64_t blocks);
  void DropCopy() { copy_.Drop(); }
  const SketchCopy& sketch_copy() const { return copy_; }

  // Sketches and summaries as the device's ops take them.
  device::SketchTable sketches() const {
    return {sketches_.pointers.device_data(), kChunkSketchesLog2};
  }
  device::SummaryLevel level(uint32_t level) const {
    return {levels_[level].pointers.device_data(), ChunkGroupsLog2(level)};
  }
  // The same as copies take them, and where they are on the host as its ops do.
  device::SketchTable sketch_data() const { return {sketches_.Data(), kChunkSketchesLog2}; }
  device::SummaryLevel level_data(uint32_t level) const {
    return {levels_[level].Data(), ChunkGroupsLog2(level)};
  }

 private:
  // Numbered summaries of a level, or sketches, in chunks that a fork shares.
  struct Level {
    std::vector<std::shared_ptr<IndexChunk>> chunks;
    VisibleArray<std::byte*> pointers;       // for the device's ops
    VisibleArray<std::byte*> host_pointers;  // for the host; of chunks that lie there

    std::byte* const* Data() const {
      return host_pointers.size() > 0 ? host_pointers.data() : pointers.data();
    }
  };
  struct ChunkShape {
    size_t bytes;
    uint32_t nodes_log2;  // of a chunk
    bool on_host;
  };

  Status MakeSlotRoom(const StoreContext& context, uint64_t written, uint64_t num_tokens);
  Status AddBlocks(const StoreContext& context, uint64_t blocks);
  Status CloneTail(const StoreContext& context, uint64_t tail);
  Status ReserveTail(const StoreContext& context);
  Status MakeSummaryRoom(const StoreContext& context, uint64_t num_tokens);
  static ChunkShape LevelShape(const StoreContext& context, uint32_t level);
  static ChunkShape SketchShape(const StoreContext& context);
  static Status MakeLevelRoom(const StoreContext& context,
                              const ChunkShape& shape,
                              uint64_t nodes_before,
                              uint64_t nodes,
                              Level* level);
  static Result<std::shared_ptr<IndexChunk>> TakeChunk(const StoreContext& context,
                                                       const ChunkShape& shape);
  static Status ReservePointers(const StoreContext& context,
                                bool on_host,
                                size_t chunks,
                                Level* level);
  static void AppendChunk(bool on_host, std::shared_ptr<IndexChunk> chunk, Level* level);
  static void TrimLevel(uint32_t nodes_log2, uint64_t nodes, Level* level);
  static Status ShareLevel(const StoreContext& context,
                           const Level& parent,
                           const ChunkShape& shape,
                           uint64_t nodes,
                           Level* level);
  Status MakeKeptRoom(const StoreContext& context, uint64_t num_tokens);
  Status OwnTail(const StoreContext& context, uint64_t written);
  void DropBlocks(const StoreContext& context, uint64_t blocks);
  device::SummarizeJob Job(const StoreContext& context) const;

  VisibleArray<uint32_t> slots_;
  uint64_t own_from_ = 0;  // blocks from here on are seen by nobody else
  Level levels_[kMaxLevels];
  Level sketches_;
  SketchCopy copy_;
  std::vector<std::shared_ptr<ChargedBuffer>>
      kept_chunks_[kMaxLevels];  // by level - KeptLevel, one per node
  VisibleArray<float*> kept_[kMaxLevels];
  ChargedBuffer open_;
  uint64_t summarized_ = 0;   // blocks
  uint64_t room_tokens_ = 0;  // MakeRoom up to here has nothing to do
  bool rebuild_ = false;
  bool has_tail_ = false;  // a slot of the cache is reserved for the last block
};

}  // namespace hipattn::engine

#endif  // HIPATTN_ENGINE_HEAD_STORE_H_
