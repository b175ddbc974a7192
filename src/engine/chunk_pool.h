// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// IndexChunk: memory of neighbouring summaries or sketches, an allocation of its own or a part of
// one of ChunkPool's slabs. ChunkPool cuts them from slabs, because host memory that a device sees
// is slow to come by and chunks are small.
#ifndef HIPATTN_ENGINE_CHUNK_POOL_H_
#define HIPATTN_ENGINE_CHUNK_POOL_H_

#include "base/result.h"
#include "engine/visible_array.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

namespace hipattn::engine {

// About what a slab takes: as small as the device's slabs, so that a short text takes little.
inline constexpr uint64_t kIndexSlabBytes = uint64_t{256} << 10;

constexpr uint64_t SlabChunks(uint64_t chunk_bytes) {
  return std::max<uint64_t>(kIndexSlabBytes / chunk_bytes, 1);
}

class ChunkPool;

// Movable. Its memory may be handed out again as soon as it goes: by then whatever read or wrote it
// has been waited for, or comes before the next owner's work on stream 0.
class IndexChunk {
 public:
  IndexChunk() = default;
  explicit IndexChunk(ChargedBuffer own)
      : data_(own.buffer().data()),
        device_data_(own.buffer().device_data()),
        own_(std::move(own)) {}
  IndexChunk(IndexChunk&& other) noexcept { Swap(other); }
  IndexChunk& operator=(IndexChunk&& other) noexcept {
    Swap(other);
    return *this;
  }
  IndexChunk(const IndexChunk&) = delete;
  IndexChunk& operator=(const IndexChunk&) = delete;
  inline ~IndexChunk();

  std::byte* data() const { return data_; }                // as copies, and the host, take it
  std::byte* device_data() const { return device_data_; }  // as ops take it

 private:
  friend class ChunkPool;
  void Swap(IndexChunk& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(device_data_, other.device_data_);
    std::swap(own_, other.own_);
    std::swap(pool_, other.pool_);
    std::swap(chunk_bytes_, other.chunk_bytes_);
    std::swap(slab_, other.slab_);
    std::swap(place_, other.place_);
  }

  std::byte* data_ = nullptr;
  std::byte* device_data_ = nullptr;
  ChargedBuffer own_;
  ChunkPool* pool_ = nullptr;
  uint64_t chunk_bytes_ = 0;
  uint32_t slab_ = 0, place_ = 0;
};

// Slabs of mapped memory, each of chunks of one size. A slab goes back when its last chunk does.
// One thread at a time.
class ChunkPool {
 public:
  // `memory` outlives the pool, and the pool its chunks.
  explicit ChunkPool(IndexMemory* memory) : memory_(memory) {}

  // Errors of IndexMemory's Allocate.
  Result<IndexChunk> Take(uint64_t chunk_bytes);

 private:
  friend class IndexChunk;
  static constexpr uint32_t kNowhere = UINT32_MAX;

  struct Slab {
    ChargedBuffer memory;
    std::vector<uint32_t> free;  // places, last out first
    uint32_t open_place = kNowhere;
  };
  struct Slabs {                    // of one size of chunks
    std::vector<Slab> slabs;        // by number
    std::vector<uint32_t> numbers;  // of slabs that went back
    std::vector<uint32_t> open;     // slabs with a free place
  };

  Status AddSlab(uint64_t chunk_bytes, Slabs* slabs);
  void Give(const IndexChunk& chunk);
  static void Unlist(Slabs& slabs, Slab& slab);

  IndexMemory* const memory_;
  std::map<uint64_t, Slabs> sizes_;
};

inline IndexChunk::~IndexChunk() {
  if (pool_ != nullptr) {
    pool_->Give(*this);
  }
}

}  // namespace hipattn::engine

#endif  // HIPATTN_ENGINE_CHUNK_POOL_H_
