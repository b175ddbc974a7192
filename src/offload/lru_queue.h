// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// LruQueue: which slot is given up next: the one that was not used for longest; one that is kept
// (sinks, window) only when there is no other. Every call takes the same time whatever the number
// of slots. Another policy is another class with these five functions.
#ifndef HIPATTN_OFFLOAD_LRU_QUEUE_H_
#define HIPATTN_OFFLOAD_LRU_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace hipattn::offload {

class LruQueue {
 public:
  LruQueue() : links_(kEnds) {
    for (uint32_t end = 0; end < kEnds; ++end) {
      links_[end] = {end, end};
    }
  }

  // Numbers below num_slots may be added from now on.
  void Grow(uint32_t num_slots) {
    if (links_.size() < size_t{num_slots} + kEnds) {
      links_.resize(size_t{num_slots} + kEnds);
    }
  }

  // As the most recently used. REQUIRES: not in the queue.
  void Add(uint32_t slot, bool kept) {
    const uint32_t end = kept ? 1 : 0;
    const uint32_t link = slot + kEnds;
    const uint32_t last = links_[end].before;
    links_[link] = {last, end};
    links_[last].behind = link;
    links_[end].before = link;
    ++size_;
  }

  // REQUIRES: in the queue.
  void Remove(uint32_t slot) {
    const Link link = links_[slot + kEnds];
    links_[link.before].behind = link.behind;
    links_[link.behind].before = link.before;
    --size_;
  }

  // False when nothing is in the queue.
  bool Victim(uint32_t* slot) const {
    for (uint32_t end = 0; end < kEnds; ++end) {
      if (links_[end].behind != end) {
        *slot = links_[end].behind - kEnds;
        return true;
      }
    }
    return false;
  }

  uint32_t size() const { return size_; }

 private:
  static constexpr uint32_t kEnds = 2;  // of the lists: of ordinary slots, of those that are kept

  struct Link {
    uint32_t before, behind;
  };

  std::vector<Link> links_;  // the lists' ends, then one per slot
  uint32_t size_ = 0;
};

}  // namespace hipattn::offload

#endif  // HIPATTN_OFFLOAD_LRU_QUEUE_H_
