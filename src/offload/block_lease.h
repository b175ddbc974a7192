// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// BlockLease: blocks that have slots until it lets them go. Add what an op needs; Begin, which
// fetches what is not there; Await; run the op; Clear. Between Begin and Await the caller may run
// ops over other blocks, those of another lease included.
#ifndef HIPATTN_OFFLOAD_BLOCK_LEASE_H_
#define HIPATTN_OFFLOAD_BLOCK_LEASE_H_

#include "offload/block_cache.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace hipattn::offload {

// One lease at a time uses the floor. Where two live, the one that was begun first is awaited and
// cleared first, but for errors: then the later one is cleared first, as it may count on what the
// other was to bring.
class BlockLease {
 public:
  enum class Use : uint8_t { kRead, kWrite };

  explicit BlockLease(BlockCache* cache) : cache_(*cache) {}
  ~BlockLease() { Clear(); }
  BlockLease(const BlockLease&) = delete;
  BlockLease& operator=(const BlockLease&) = delete;

  // Pins a block. False, and nothing changed, when no slot is left; errors of the device, and of a
  // disk that refuses what had to leave the slots. REQUIRES: not begun.
  Result<bool> Add(uint32_t block, Use use);
  size_t size() const { return held_.size(); }
  // Entries that took a slot.
  uint64_t num_placed() const { return num_placed_; }
  // Whether what was added while the lease grew from one size to the other waits for content.
  bool Misses(size_t from, size_t to) const;
  // Lets go what was added since then. REQUIRES: not begun.
  void Rewind(size_t size);
  // Begins to bring the content of what was added.
  Status Begin(BlockMover::Pace pace);
  // After Begin: whether there is something to do until the content is there.
  bool travels() const { return transfer_.staged_job != 0 || transfer_.copied.stream != 0; }
  // Until it is there; what was added for writing becomes dirty.
  Status Await();
  // Both.
  Status Load();
  // Lets everything go, once nothing is on its way to it.
  void Clear();

 private:
  struct Held {
    uint32_t block;
    Use use;
    bool placed;  // this entry took the slot
  };

  // All entries, or none where reading hits changes no state.
  std::span<const Held> Changed() const;

  BlockCache& cache_;
  std::vector<Held> held_;
  BlockMover::Transfer transfer_;
  std::vector<BlockCache::Rise> rises_;
  uint64_t num_placed_ = 0;
  uint64_t num_writes_ = 0;
  uint64_t num_fetched_ = 0;  // by the transfer
  bool loaded_ = false;       // the content of all entries is there
};

}  // namespace hipattn::offload

#endif  // HIPATTN_OFFLOAD_BLOCK_LEASE_H_
