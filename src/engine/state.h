// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What engines and sequences consist of; seen by the files of src/engine only.
#ifndef HIPATTN_ENGINE_STATE_H_
#define HIPATTN_ENGINE_STATE_H_

#include "base/log.h"
#include "core/mask/mask_build.h"
#include "core/partition.h"
#include "core/pattern/block_select.h"
#include "core/pattern/flex_select.h"
#include "core/pattern/line_select.h"
#include "core/pattern/pattern_table.h"
#include "core/plan.h"
#include "core/search/audit.h"
#include "core/search/beam_walk.h"
#include "core/search/config.h"
#include "core/search/rerank.h"
#include "core/search/staged_walk.h"
#include "device/device.h"
#include "engine/engine.h"
#include "engine/head_store.h"
#include "engine/job_slots.h"
#include "engine/scratch.h"
#include "engine/sketch_copies.h"
#include "offload/block_cache.h"
#include "offload/memory_budget.h"
#include "offload/slot_pool.h"
#include "offload/trace.h"

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

namespace hipattn::engine {

// What one row attends of one kv head: core's ranges of tokens, and the same as ops read them.
struct RowList {
  std::vector<core::TokenRange> ranges;
  std::vector<int64_t> positions;  // where keys are stored un-rotated
  Scratch<device::KvRange> kv_ranges;
  Scratch<int64_t> kv_positions;

  uint32_t size() const { return static_cast<uint32_t>(ranges.size()); }
};

// Everything a search and a row's attention need of one kv head, kept between steps because a
// selection is.
struct HeadState {
  HeadStore store;

  // The present selection: leaves of leaf_tokens tokens, ascending.
  std::vector<int32_t> leaves;
  uint32_t leaf_tokens = 0;
  core::RerankWalk walk;  // of the last search by tree; says what it left out
  core::BeamWalk beam;
  core::StagedWalk staged;
  core::StagedLists staged_lists;

  RowList list;  // of the last decode row

  // Questions to the device and its answers.
  Scratch<NodeGroup> groups;
  Scratch<uint32_t> tokens, key_pos, row_pos;
  Scratch<int32_t> blocks;
  Scratch<float> scores;
};

// How the last decode step of a layer chose its keys.
enum class StepMode : uint8_t { kNever, kDense, kSearched, kExternal };

// One layer of one sequence.
struct LayerState {
  uint64_t tokens = 0;  // length
  uint64_t step = 0;    // decode steps since the last prefill, extend, truncate or fork (D16, D34)
  bool selected = false;  // the heads hold a selection
  int64_t anchor = -1;    // position of the last full search (D18)

  StepMode last_mode = StepMode::kNever;
  int64_t last_pos = -1;
  Scratch<float> step_lse;  // [num_q_heads] of the last decode step

  // For the recall estimate of the last search (D36), made when it is asked for.
  bool search_kept = false;  // the heads' walks are still that search's
  core::Partition search_partition{};
  Scratch<float, device::MemoryKind::kDevice> search_q;       // [num_q_heads][head_dim]
  Scratch<float, device::MemoryKind::kPinned> search_host_q;  // where a part is searched there
  Scratch<float> search_lse;  // [num_q_heads] of what was attended then
  bool estimate_known = false;
  std::vector<float> estimate;  // [num_q_heads]
  std::vector<float> truth;     // [num_q_heads], with verify_recall

  std::vector<HeadState> heads;
};

struct SequenceState {
  AttentionOptions options;
  StoreContext context;
  bool keys_rotated =
      true;  // false: stored as they came, rotated where they are read (position extension)
  uint64_t reserved_tokens = 0;
  core::AuditTable audits;
  std::vector<LayerState> layers;

  bool empty() const {
    for (const LayerState& layer : layers) {
      if (layer.tokens != 0) {
        return false;
      }
    }
    return true;
  }
};

// Work memory of one head's audit.
struct AuditScratch {
  core::TreeWalk walk;
  core::AuditLoss loss;
  RowList list;               // sinks and window
  std::vector<int32_t> kept;  // by the tree, counted from the first block
  Scratch<NodeGroup> groups;
  Scratch<float> scores;   // of nodes; then [group][blocks]
  Scratch<float> outside;  // [group]
};

// How a q head of a masked prefill comes to what it attends.
enum class MaskKind : uint32_t { kEnds, kLines, kBlocks, kFlex, kXAttention, kFlash };

// One q head of a masked prefill; the memory is kept for the next.
struct MaskedHead {
  MaskKind kind = MaskKind::kEnds;
  uint32_t sizes[2] = {0, 0};  // sinks and window, lines of each, or blocks per tile
  bool dense = false;          // its mask is not worth it
  bool slice_dense = false;    // that of this slice
  uint64_t tiles = 0;          // of 64 x 64 that its attention computes, of the chunk or slice
  Scratch<float> vertical, slash, probe_lse;
  Scratch<float, device::MemoryKind::kDevice> workspace;
  Scratch<float> means;   // of the kv head's blocks, in its first q head
  Scratch<float> scores;  // [row tiles][blocks]; XAttention: of 128 each
  core::TopScores top;
  core::Lines lines;
  core::FlexBudget flex{};
  core::FlexLines flex_lines;
  core::BlockLists blocks;
  Scratch<uint32_t> pruned_ptr;  // of blocks that count as their means
  Scratch<ColumnInterval> pruned;
  Scratch<float> delta;         // [head_dim] of the last anchor (delta.h)
  Scratch<uint32_t> positions;  // of the verticals
  Scratch<std::byte, device::MemoryKind::kDevice> panel;
  Scratch<std::byte> mask_memory;
  PrefillMask mask{};
};

// One kv head of a HIP prefill.
struct HipHead {
  core::BlockLists lists;  // leaves, of each query block of a slice
  Scratch<std::byte> mask_memory;
  PrefillMask mask{};
};

// Work memory of attend; one attend runs at a time.
struct AttendScratch {
  Scratch<device::AppendJob> append_jobs;
  Scratch<device::SummarizeJob> summarize_jobs;
  Scratch<device::WriteSketchJob> sketch_jobs;
  Scratch<device::ScoreSketchJob> score_sketch_jobs;
  Scratch<device::DecodeJob> decode_jobs;
  Scratch<device::RotatedJob> rotated_jobs;
  Scratch<device::PrefillJob> prefill_jobs;
  Scratch<device::LinesJob> lines_jobs;
  Scratch<device::PoolJob> pool_jobs;
  Scratch<device::PackJob> pack_jobs;
  Scratch<device::BlockScoreJob> block_score_jobs;
  Scratch<device::AntidiagonalJob> antidiagonal_jobs;
  Scratch<device::SparsePrefillJob> sparse_prefill_jobs;
  std::vector<MaskedHead> masked_heads;
  std::vector<HipHead> hip_heads;
  Scratch<device::DeltaJob> delta_jobs;
  Scratch<float, device::MemoryKind::kDevice> anchor_out;
  Scratch<uint32_t> anchor_rows;
  Scratch<float> deltas;           // [q head][head_dim] of a HIP prefill
  Scratch<float> slice_lse;        // [row][head of the wave], where the caller wants none
  std::vector<float> sampled_lse;  // [row tile][q head] of its last row; NaN: dense
  Scratch<float> log_tokens;       // of each block, all the same
  Scratch<float, device::MemoryKind::kDevice> q, decode_workspace, truth_out;
  Scratch<float> truth_lse;
  std::vector<RowList> truth_lists;
  std::vector<RowList> prefill_lists;  // [row of the block][kv head]
  Scratch<uint32_t> positions;
  std::vector<AuditScratch> audits;
  Scratch<float, device::MemoryKind::kPinned> host_q;   // rows that are searched with on the host
  Scratch<float, device::MemoryKind::kPinned> audit_q;  // the row of an audit there

  // Of launches over blocks that lie in tiers (engine/block_waves.h).
  Scratch<uint32_t> block_slots;
  Scratch<device::KvRange> block_ranges;
  Scratch<std::byte> launch_jobs;
  Scratch<float, device::MemoryKind::kDevice> part_states[2];
};

// What of the device's budget others may have: slots of the cache, then copies of sketches.
class DeviceLender final : public offload::BudgetLender {
 public:
  void Set(offload::MemoryBudget* budget, offload::BlockCache* cache, SketchCopies* copies) {
    budget_ = budget;
    cache_ = cache;
    copies_ = copies;
    budget->SetLender(this);
  }
  void GiveBack(uint64_t bytes) override {
    cache_->GiveBack(bytes);
    if (!budget_->Fits(bytes) && copies_->DropAll()) {
      cache_->GiveBack(bytes);
    }
  }

 private:
  offload::MemoryBudget* budget_ = nullptr;
  offload::BlockCache* cache_ = nullptr;
  SketchCopies* copies_ = nullptr;
};

struct EngineState {
  EngineState(const EngineOptions& o, std::unique_ptr<device::Device> d)
      : options(o),
        logger(o.log),
        device(std::move(d)),
        budget(o.device_kv_bytes),
        host_budget(o.host_kv_bytes, "host_kv_bytes"),
        home_budget(HomeBytes(o), "host_kv_bytes", &host_budget),
        disk_budget(o.disk_kv_bytes, "disk_kv_bytes"),
        memory(device.get(), &budget),
        host_memory(device.get(), &host_budget, device::MemoryKind::kMapped),
        host_chunks(&host_memory),
        copies(&memory, &budget),
        pool(device.get(), &budget, {o.block_tokens, o.head_dim, o.kv()}) {}

  EngineOptions options;
  Logger logger;
  std::unique_ptr<offload::Trace> trace;  // nullptr without; the device's streams write to it, too
  std::unique_ptr<device::Device> device;
  offload::MemoryBudget budget;
  offload::MemoryBudget host_budget;
  offload::MemoryBudget home_budget;  // the part of it that blocks may take
  offload::MemoryBudget disk_budget;
  IndexMemory memory;
  IndexMemory host_memory;                     // of what of the index lies in the host tier
  ChunkPool host_chunks;                       // of that
  SketchCopies copies;                         // of sketches that lie there
  const device::OpTable* host_ops = nullptr;   // the CPU's, for what is searched there
  offload::SlotPool pool;                      // where everything is resident
  std::unique_ptr<offload::DiskStore> disk;    // where there is such a tier; else nullptr
  std::unique_ptr<offload::BlockCache> cache;  // where there are tiers; else nullptr
  DeviceLender lender;                         // of the device's budget, where there are tiers
  device::Buffer inv_freq;                     // double[rope_dim / 2]
  device::Rope rope{};                         // of the model; mode 0 when q and k arrive rotated

  core::AuditTable profile;     // what new sequences start from; no heads when none was loaded
  core::PatternTable patterns;  // of the q heads; no layers when none were loaded
  std::atomic<bool> running{false};
  std::atomic<bool> cancelled{false};
  std::atomic<int64_t> scanned_heads{0};  // of all sequences, now
  AttendScratch scratch;
  JobSlots job_slots;

  std::mutex stats_mutex;
  Stats stats;  // sums only; the rest is filled in when asked
  double recall_sum = 0.0;
  uint64_t recall_count = 0;
  double prefill_recall_sum = 0.0;
  uint64_t prefill_recall_count = 0;
};

// For the files of src/engine that serve several sequences at once.
SequenceState* SequenceStateOf(const Sequence& sequence);

}  // namespace hipattn::engine

#endif  // HIPATTN_ENGINE_STATE_H_
