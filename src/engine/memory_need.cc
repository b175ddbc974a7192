// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What HeadStore takes for a text of a given length, without making one. Keep the two in step: the
// test compares them.
#include "base/int_math.h"
#include "base/status.h"
#include "device/params.h"
#include "engine/block_ops.h"
#include "engine/chunk_pool.h"
#include "engine/head_store.h"
#include "engine/options.h"
#include "offload/block_cache.h"

#include <algorithm>

namespace hipattn::engine {
namespace {

// Elements a VisibleArray may have room for when it grew to `size` step by step.
uint64_t GrownArray(uint64_t size) {
  return size == 0 ? 0 : size + size / 8 + 8;
}

uint64_t TableBytes(uint64_t runs) {
  return GrownArray(runs * offload::kRunSlots) * sizeof(uint32_t);
}

// What the index of one head takes.
struct IndexNeed {
  struct Chunks {  // of one size
    uint64_t chunk_bytes = 0, count = 0;
  };

  uint64_t device_bytes = 0;
  uint64_t host_bytes = 0;              // but for chunks
  Chunks host_chunks[kHostLevels + 1];  // levels, sketches
};

// Chunks of a level or of sketches, and the tables that lead to them.
void AddChunks(uint64_t count, uint64_t chunk_bytes, IndexNeed::Chunks* on_host, IndexNeed* need) {
  const uint64_t pointers = GrownArray(count) * sizeof(std::byte*);
  if (on_host == nullptr) {
    need->device_bytes += count * chunk_bytes + pointers;
    return;
  }
  *on_host = {chunk_bytes, count};
  need->host_bytes += 2 * pointers;  // one of the device's addresses, one of the host's
}

// The block tree of one head: summaries and their tables, open nodes, kept vectors.
void AddTree(const EngineOptions& engine,
             const AttentionOptions& attention,
             uint64_t num_tokens,
             IndexNeed* need) {
  const uint64_t group_bytes =
      device::SummaryGroupBytes(engine.head_dim, ScorerHasSpread(attention.scorer_kind()));
  const uint64_t vectors_bytes = uint64_t{3} * engine.head_dim * sizeof(float);
  const uint32_t kept_level = device::KeptLevel(engine.block_tokens);
  need->device_bytes += (kMaxLevels - 1) * vectors_bytes;
  for (uint32_t level = 0; level < kMaxLevels; ++level) {
    const uint64_t nodes = num_tokens / (uint64_t{engine.block_tokens} << (3 * level));
    const uint64_t chunk_groups = uint64_t{1} << ChunkGroupsLog2(level);
    const bool on_host = engine.indexes_on_host() && level < kHostLevels;
    AddChunks(CeilDiv(nodes, chunk_groups * kFanOut),
              chunk_groups * group_bytes,
              on_host ? &need->host_chunks[level] : nullptr,
              need);
    if (level >= kept_level) {
      need->device_bytes += nodes * vectors_bytes + GrownArray(nodes) * sizeof(float*);
    }
  }
}

void AddSketches(const EngineOptions& engine, uint64_t num_tokens, IndexNeed* need) {
  const uint64_t sketches =
      num_tokens / engine.block_tokens * (engine.block_tokens / device::kSketchTokens);
  const uint64_t chunk_sketches = uint64_t{1} << kChunkSketchesLog2;
  AddChunks(CeilDiv(sketches, chunk_sketches),
            chunk_sketches * device::SketchBytes(engine.head_dim),
            engine.indexes_on_host() ? &need->host_chunks[kHostLevels] : nullptr,
            need);
}

IndexNeed IndexNeedOf(const EngineOptions& engine,
                      const AttentionOptions& attention,
                      uint64_t num_tokens,
                      uint64_t table_bytes) {
  IndexNeed need;
  (engine.indexes_on_host() ? need.host_bytes : need.device_bytes) += table_bytes;
  if (attention.keeps_summaries()) {
    AddTree(engine, attention, num_tokens, &need);
  }
  if (attention.keeps_sketches()) {
    AddSketches(engine, num_tokens, &need);
  }
  return need;
}

// Of the indexes of `heads` heads in the host tier, where chunks share slabs.
bool HostIndexBytes(const IndexNeed& head, uint64_t heads, uint64_t* bytes) {
  bool fits = CheckedMul(heads, head.host_bytes, bytes);
  for (const IndexNeed::Chunks& chunks : head.host_chunks) {
    if (chunks.count == 0) {
      continue;
    }
    const uint64_t slab_chunks = SlabChunks(chunks.chunk_bytes);
    uint64_t count = 0;
    uint64_t slabs_bytes = 0;
    fits =
        fits && CheckedMul(heads, chunks.count, &count) &&
        CheckedMul(CeilDiv(count, slab_chunks), slab_chunks * chunks.chunk_bytes, &slabs_bytes) &&
        CheckedAdd(*bytes, slabs_bytes, bytes);
  }
  return fits;
}

// Bytes of the slabs that hold num_slots; false when they do not fit 64 bits.
bool SlabBytes(uint64_t num_slots, uint64_t slab_bytes, uint64_t slot_bytes, uint64_t* bytes) {
  const uint64_t slots = offload::SlabSlots(slab_bytes, slot_bytes);
  return CheckedMul(CeilDiv(num_slots, slots), slots * slot_bytes, bytes);
}

struct TierNeed {
  uint64_t num_tokens;
  uint32_t floor_slots;
  uint64_t host_index_bytes;
};

// With tiers behind the device: every block has its home there, on disk what the host tier has no
// room for, and the device holds its part of the index, the last block of each of `heads` heads,
// and what one step reads at once.
bool AddTiers(const EngineOptions& engine,
              uint64_t heads,
              const TierNeed& tiers,
              MemoryNeed* need) {
  const uint64_t block_bytes =
      offload::BlockBytes({engine.block_tokens, engine.head_dim, engine.kv()});
  const uint64_t head_blocks = CeilDiv<uint64_t>(tiers.num_tokens, engine.block_tokens);
  uint64_t blocks = 0;
  uint64_t least = 0;
  uint64_t full = 0;
  const uint64_t host_slots = offload::SlabSlots(offload::kHostSlabBytes, block_bytes);
  const uint64_t host_slab = host_slots * (block_bytes + offload::kBlockRecordBytes);
  if (!CheckedMul(heads, head_blocks, &blocks)) {
    return false;
  }
  const uint64_t host_room = engine.disk_kv_bytes == 0
                                 ? blocks
                                 : std::min(blocks, HomeBytes(engine) / host_slab * host_slots);
  return CheckedMul(blocks, block_bytes, &need->kv_bytes_total) &&
         SlabBytes(heads + tiers.floor_slots, offload::kDeviceSlabBytes, block_bytes, &least) &&
         SlabBytes(blocks, offload::kDeviceSlabBytes, block_bytes, &full) &&
         CheckedAdd(need->device_index_bytes, least, &need->device_bytes_min) &&
         CheckedAdd(need->device_index_bytes, std::max(full, least), &need->device_bytes_full) &&
         CheckedMul(CeilDiv(host_room, host_slots), host_slab, &need->host_bytes) &&
         CheckedAdd(need->host_bytes, tiers.host_index_bytes, &need->host_bytes) &&
         CheckedMul(blocks - host_room, offload::ExtentBytes(block_bytes), &need->disk_bytes);
}

}  // namespace

uint64_t HomeBytes(const EngineOptions& engine) {
  if (engine.disk_kv_bytes == 0 || !engine.indexes_on_host()) {
    return engine.host_kv_bytes;
  }
  const uint64_t block_bytes =
      offload::BlockBytes({engine.block_tokens, engine.head_dim, engine.kv()});
  // Of one block: its summary, its share of the level above, sketches, tables.
  const uint64_t index_bytes =
      device::SummaryGroupBytes(engine.head_dim, /*has_spread=*/true) * 9 / 64 +
      engine.block_tokens / device::kSketchTokens * device::SketchBytes(engine.head_dim) +
      2 * sizeof(uint32_t);
  const uint64_t most_blocks =
      engine.host_kv_bytes / block_bytes + engine.disk_kv_bytes / offload::ExtentBytes(block_bytes);
  uint64_t kept = 0;
  if (!CheckedMul(most_blocks, index_bytes, &kept)) {
    kept = UINT64_MAX;
  }
  return engine.host_kv_bytes - std::min(engine.host_kv_bytes / 2, kept);
}

Result<MemoryNeed> ComputeMemoryNeed(const EngineOptions& engine,
                                     const AttentionOptions& attention,
                                     uint64_t num_tokens,
                                     uint32_t num_sequences) {
  if (num_tokens == 0 || num_tokens > kMaxTokens) {
    return InvalidArgument("num_tokens is ", num_tokens, ", must be 1 to ", kMaxTokens);
  }
  if (num_sequences == 0) {
    return InvalidArgument("num_sequences is 0, need at least 1");
  }
  const uint64_t block_bytes =
      offload::BlockBytes({engine.block_tokens, engine.head_dim, engine.kv()});
  const uint64_t runs =
      CeilDiv<uint64_t>(num_tokens, uint64_t{engine.block_tokens} * offload::kRunSlots);
  const uint64_t head_kv_bytes = runs * offload::kRunSlots * block_bytes;
  const uint64_t table_bytes = TableBytes(runs);
  const IndexNeed index = IndexNeedOf(engine, attention, num_tokens, table_bytes);

  MemoryNeed need;
  // Options bound layers * kv heads to 2^17, so this product fits; the bytes may not.
  const uint64_t heads = uint64_t{engine.num_layers} * engine.num_kv_heads * num_sequences;
  // While a table grows, the old one is still there; tables grow one at a time, and a block table
  // is the largest.
  const uint64_t host_growing_bytes = engine.indexes_on_host() ? table_bytes : 0;
  uint64_t host_index_bytes = 0;
  const bool fits =
      CheckedMul(heads, head_kv_bytes, &need.kv_bytes_total) &&
      CheckedMul(heads, index.device_bytes, &need.device_index_bytes) &&
      CheckedAdd(need.device_index_bytes, table_bytes, &need.device_index_bytes) &&
      HostIndexBytes(index, heads, &host_index_bytes) &&
      CheckedAdd(host_index_bytes, host_growing_bytes, &host_index_bytes) &&
      CheckedAdd(need.kv_bytes_total, need.device_index_bytes, &need.device_bytes_full);
  if (!fits) {
    return InvalidArgument("num_tokens ",
                           num_tokens,
                           " in num_sequences ",
                           num_sequences,
                           " need more bytes than 64 bits count");
  }
  need.device_bytes_min = need.device_bytes_full;  // one tier: everything is resident
  const TierNeed tiers = {num_tokens, FloorSlots(engine, attention, num_tokens), host_index_bytes};
  if (engine.has_tiers() && !AddTiers(engine, heads, tiers, &need)) {
    return InvalidArgument("num_tokens ",
                           num_tokens,
                           " in num_sequences ",
                           num_sequences,
                           " need more bytes than 64 bits count");
  }
  return need;
}

}  // namespace hipattn::engine
