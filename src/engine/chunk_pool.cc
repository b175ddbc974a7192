// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "engine/chunk_pool.h"

#include <numeric>

namespace hipattn::engine {

Result<IndexChunk> ChunkPool::Take(uint64_t chunk_bytes) {
  Slabs& slabs = sizes_[chunk_bytes];
  if (slabs.open.empty()) {
    HIPATTN_RETURN_IF_ERROR(AddSlab(chunk_bytes, &slabs));
  }
  const uint32_t number = slabs.open.back();
  Slab& slab = slabs.slabs[number];
  IndexChunk chunk;
  chunk.place_ = slab.free.back();
  slab.free.pop_back();
  if (slab.free.empty()) {
    Unlist(slabs, slab);
  }
  chunk.data_ = slab.memory.buffer().data() + chunk.place_ * chunk_bytes;
  chunk.device_data_ = slab.memory.buffer().device_data() + chunk.place_ * chunk_bytes;
  chunk.pool_ = this;
  chunk.chunk_bytes_ = chunk_bytes;
  chunk.slab_ = number;
  return chunk;
}

// Makes room in every list that Give will write to, so that it needs no memory.
Status ChunkPool::AddSlab(uint64_t chunk_bytes, Slabs* slabs) {
  return CatchBadAlloc([&]() -> Status {
    if (slabs->numbers.empty()) {
      slabs->slabs.emplace_back();
      slabs->open.reserve(slabs->slabs.capacity());
      slabs->numbers.reserve(slabs->slabs.capacity());
      slabs->numbers.push_back(static_cast<uint32_t>(slabs->slabs.size() - 1));
    }
    Slab slab;
    slab.free.resize(SlabChunks(chunk_bytes));
    std::iota(slab.free.rbegin(), slab.free.rend(), 0U);
    HIPATTN_ASSIGN_OR_RETURN(
        slab.memory,
        memory_->Allocate(device::MemoryKind::kMapped, slab.free.size() * chunk_bytes));
    const uint32_t number = slabs->numbers.back();
    slabs->numbers.pop_back();
    slab.open_place = static_cast<uint32_t>(slabs->open.size());
    slabs->open.push_back(number);
    slabs->slabs[number] = std::move(slab);
    return Status::Ok();
  });
}

void ChunkPool::Give(const IndexChunk& chunk) {
  Slabs& slabs = sizes_.find(chunk.chunk_bytes_)->second;
  Slab& slab = slabs.slabs[chunk.slab_];
  slab.free.push_back(chunk.place_);
  if (slab.open_place == kNowhere) {
    slab.open_place = static_cast<uint32_t>(slabs.open.size());
    slabs.open.push_back(chunk.slab_);
  }
  if (slab.free.size() == SlabChunks(chunk.chunk_bytes_)) {
    Unlist(slabs, slab);
    slab = {};
    slabs.numbers.push_back(chunk.slab_);
  }
}

void ChunkPool::Unlist(Slabs& slabs, Slab& slab) {
  const uint32_t last = slabs.open.back();
  slabs.open[slab.open_place] = last;
  slabs.slabs[last].open_place = slab.open_place;
  slabs.open.pop_back();
  slab.open_place = kNowhere;
}

}  // namespace hipattn::engine
