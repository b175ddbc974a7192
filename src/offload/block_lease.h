// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// BlockLease: blocks that have slots until it lets them go. Add what an op needs; Begin, which
// fetches what is not there; Await; run the op; Clear. Between Begin and Await the caller may run
// ops over other blocks, those of another lease included.
#ifndef HIPATTN_OFFLOAD_BLOCK_LEASE_H_
#define HIPATTN_OFFLOAD_BLOCK_LEASE_H_

#include "offload/block_cache.h"

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
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
  // The same of every block_of(i), i < count, in turn; neighbours that are the same are added once.
  // False at the first without a slot.
  template <typename BlockOf>
  Result<bool> AddAll(size_t count, const BlockOf& block_of, Use use);
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

  // Add of a block that is read and has a slot; false, and nothing changed, when it has none.
  bool AddHit(uint32_t block);

  // What adding and letting go touch of a block lies far apart, and ops push it out of the nearer
  // caches: it is asked for so many blocks ahead, all at once.
  static constexpr size_t kAhead = 32;
  template <typename BlockOf>
  void Expect(size_t begin, size_t end, const BlockOf& block_of) const;

  BlockCache& cache_;
  std::vector<Held> held_;
  std::vector<size_t> changed_;  // of held_: took a slot, or are written
  BlockMover::Transfer transfer_;
  std::vector<BlockCache::Rise> rises_;
  uint64_t num_placed_ = 0;
  uint64_t num_fetched_ = 0;  // by the transfer
  bool loaded_ = false;       // the content of all entries is there
};

template <typename BlockOf>
void BlockLease::Expect(size_t begin, size_t end, const BlockOf& block_of) const {
  for (size_t i = begin; i < end; ++i) {
    __builtin_prefetch(&cache_.records_[block_of(i)], 1);
  }
  for (size_t i = begin; i < end; ++i) {
    if (const uint32_t slot = cache_.records_[block_of(i)].slot; slot != BlockCache::kNoSlot) {
      __builtin_prefetch(&cache_.uses_[slot], 1);
    }
  }
}

inline bool BlockLease::AddHit(uint32_t block) {
  const BlockCache::Record& record = cache_.records_[block];
  assert(BlockCache::IsValid(record));
  if (record.slot == BlockCache::kNoSlot) {
    return false;
  }
  held_.push_back({block, Use::kRead, /*placed=*/false});
  ++cache_.uses_[record.slot].pins;
  return true;
}

template <typename BlockOf>
Result<bool> BlockLease::AddAll(size_t count, const BlockOf& block_of, Use use) {
  if (held_.capacity() < held_.size() + count) {
    held_.reserve(std::max(2 * held_.capacity(), 4 * count));  // others of this size will follow
  }
  for (size_t begin = 0; begin < count; begin += kAhead) {
    const size_t end = std::min(begin + kAhead, count);
    Expect(begin, end, block_of);
    for (size_t i = begin; i < end; ++i) {
      if ((i > 0 && block_of(i) == block_of(i - 1)) || (use == Use::kRead && AddHit(block_of(i)))) {
        continue;
      }
      HIPATTN_ASSIGN_OR_RETURN(const bool fits, Add(block_of(i), use));
      if (!fits) {
        return false;
      }
    }
  }
  return true;
}

}  // namespace hipattn::offload

#endif  // HIPATTN_OFFLOAD_BLOCK_LEASE_H_
