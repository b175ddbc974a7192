// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Which block a full cache gives up: the policies that replay compares. Plain rather than quick;
// the library's own is src/offload/use_queue.h, which is one of them.
#ifndef HIPATTN_BENCH_TIERS_CACHE_POLICIES_H_
#define HIPATTN_BENCH_TIERS_CACHE_POLICIES_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace tiers_bench {

class CachePolicy {
 public:
  struct Use {
    uint32_t block;
    bool strong;
    bool fetched;  // it was missing
  };

  virtual ~CachePolicy() = default;
  // Steps are counted from 0; half-lives are in steps.
  virtual void BeginStep(uint32_t) {}
  // A cached block is about to be attended and cannot be a victim until Add.
  virtual void Pin(uint32_t block) = 0;
  // It was attended.
  virtual void Add(const Use& use) = 0;
  // Leaves the cache. REQUIRES: something was added and is not pinned.
  virtual uint32_t TakeVictim() = 0;
};

// lru       least recently used
// clock     second chance
// step      what the last step did not use, the oldest first; where there is nothing like that the
//           most recently used, which for a step that goes round is the last to be wanted again
// frequency decayed frequency of use, half-life of 8 steps; evicted blocks keep theirs
// score     the same, strong picks counting three times
// use-queue the library's
std::vector<std::string> PolicyNames();

// A cache of `capacity` of the blocks [0, num_blocks). REQUIRES: a known name.
std::unique_ptr<CachePolicy> MakePolicy(const std::string& name,
                                        uint32_t num_blocks,
                                        uint32_t capacity);

}  // namespace tiers_bench

#endif  // HIPATTN_BENCH_TIERS_CACHE_POLICIES_H_
