// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Copies, in the device's memory, of the sketches of scanned heads, where sketches lie on the host:
// a scan reads all of a head's at every search, faster there than any host does. They are extras.
// What lies on the host stays complete; copies take at most half of what device_kv_bytes leaves
// beside the index and the slots that are promised, at the cost of cached blocks, and all go when
// somebody needs what they hold. A head without one is scanned on the host, to the same bits.
#ifndef HIPATTN_ENGINE_SKETCH_COPIES_H_
#define HIPATTN_ENGINE_SKETCH_COPIES_H_

#include "engine/visible_array.h"
#include "offload/block_cache.h"

#include <cstdint>
#include <vector>

namespace hipattn::engine {

class SketchCopy;

// Those of an engine. One thread at a time.
class SketchCopies {
 public:
  // All outlive it; the cache is asked only while there is one.
  SketchCopies(IndexMemory* memory, const offload::MemoryBudget* budget)
      : memory_(*memory), budget_(*budget) {}
  void SetCache(const offload::BlockCache* cache) { cache_ = cache; }

  uint64_t bytes() const { return bytes_; }
  // Gives all back. False: there was none, or one is being made.
  bool DropAll();

 private:
  friend class SketchCopy;
  bool Fits(uint64_t bytes) const;

  IndexMemory& memory_;
  const offload::MemoryBudget& budget_;
  const offload::BlockCache* cache_ = nullptr;
  std::vector<SketchCopy*> held_;
  uint64_t bytes_ = 0;
  bool making_ = false;
};

// That of one head, of its first blocks; empty at first.
class SketchCopy {
 public:
  SketchCopy() = default;
  SketchCopy(const SketchCopy&) = delete;
  SketchCopy& operator=(const SketchCopy&) = delete;
  ~SketchCopy() { Drop(); }

  struct Source {
    device::SketchTable table;  // as copies take it
    uint64_t sketch_bytes;
    uint32_t sketches_per_block;
    uint64_t blocks;
  };

  // Brings it up to source.blocks, or drops it where there is no room. Errors of the device.
  Status Bring(SketchCopies* copies, const Source& source);
  // Blocks from here on are not as they were.
  void Cut(uint64_t blocks) { blocks_ = std::min(blocks_, blocks); }
  void Drop();

  uint64_t blocks() const { return blocks_; }
  device::SketchTable table() const { return {pointers_.device_data(), kChunkLog2}; }

 private:
  static constexpr uint32_t kChunkLog2 = 7;  // 2048 tokens, 96 KB at a head_dim of 128

  Status MakeRoom(const Source& source);
  Status CopyMissing(const Source& source);

  SketchCopies* copies_ = nullptr;  // that it is listed in
  std::vector<ChargedBuffer> chunks_;
  VisibleArray<std::byte*> pointers_;
  uint64_t blocks_ = 0;
  uint64_t bytes_ = 0;
};

}  // namespace hipattn::engine

#endif  // HIPATTN_ENGINE_SKETCH_COPIES_H_
