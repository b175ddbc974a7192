// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// UseQueue: which slot is given up next: that of the block that was used least, where a use counts
// half as much after the cache's slots have been used four times over. Blocks take their history
// along when they are evicted, so that one that is wanted now and then comes back with it. A block
// that is kept (sinks, window) is given up only when there is no other. docs/offload.md has how
// this was chosen.
//
// How. log2 of the sum of a block's uses, each halved once per half-life, is a line over time, the
// same slope for all blocks; so their order changes only when one is used, and a block's history is
// one number: the time at which a single use would count as much. Time is cut into ticks of an
// eighth of the slots' uses. Blocks lie in lists by that number, from the least time that still
// matters on; the victim is the first of the lowest list.
//
// When the texts of a step go round in more blocks than there are slots, every block may go shortly
// before its turn. When few uses of a round were hits, most blocks that are fetched are therefore
// the next to go, so that the others are there when their turn comes. Every step uses all kept
// blocks, so where not even they fit the last one that was fetched goes, for the same reason.
//
// A slot whose block is used stays where it is in the lists: uses are many, and what a list would
// have to change lies far apart. Victim puts what was used since into its place when it meets it,
// so it passes every slot at most once for each of its uses. All other calls take the same time
// whatever the number of slots.
#ifndef HIPATTN_OFFLOAD_USE_QUEUE_H_
#define HIPATTN_OFFLOAD_USE_QUEUE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

namespace hipattn::offload {

class UseQueue {
 public:
  static constexpr uint32_t kHistoryBits = 24;
  static constexpr uint32_t kHistoryMask = (uint32_t{1} << kHistoryBits) - 1;

  struct Entry {
    uint32_t history;  // what Use returned last for the slot's block; 0: it was never used
    bool kept;
    bool fetched;  // its content came for its last use
  };
  // What is known of a slot in the queue now; nothing when it cannot be given up, and then it has
  // left the queue.
  using Look = std::function<std::optional<Entry>(uint32_t slot)>;

  UseQueue();

  // Numbers below num_slots may be added from now on.
  void Grow(uint32_t num_slots);
  // The history of a block after one more use. Its slot may be in the queue, and stays there.
  uint32_t Use(const Entry& block);
  // REQUIRES: not in the queue.
  void Add(uint32_t slot, const Entry& block);
  // REQUIRES: in the queue.
  void Remove(uint32_t slot);
  // It stays in the queue. False when nothing is in the queue any more.
  bool Victim(const Look& look, uint32_t* slot);

  // How much the block of a history was used: ticks from now to its time, negative for the past,
  // and the least for all that is out of reach.
  int32_t Lead(uint32_t history) const;

  uint32_t size() const { return size_; }

 private:
  // Ticks before and after now that are told apart. A block that is used in every step is ahead by
  // at most 177 in a cache of eight steps' blocks; what is further behind than eight half-lives
  // counts for less than half a tick.
  static constexpr uint32_t kReach = 256;
  static constexpr uint32_t kRing = 2 * kReach;
  // The lists' ends: of kept blocks, of those that go first, and by time.
  static constexpr uint32_t kKept = 0;
  static constexpr uint32_t kFirstToGo = 1;
  static constexpr uint32_t kTimes = 2;
  static constexpr uint32_t kEnds = kTimes + kRing;

  struct Link {
    uint32_t before, behind;
  };

  bool IsEmpty(uint32_t end) const { return links_[end].behind == end; }
  void Append(uint32_t end, uint32_t link);
  // Of blocks with this history.
  uint32_t ListOf(uint32_t history) const {
    return kTimes + PlaceOf(now_ + static_cast<uint32_t>(Lead(history)));
  }
  void AddByTime(uint32_t slot, uint32_t history);
  // The end of the lowest list that is not empty, of slots that are not kept.
  uint32_t LowestList() const;
  enum class Outcome : uint8_t { kHit, kReturned, kCame };  // kReturned: it had been evicted
  void CountUse(Outcome outcome);
  void Tick();
  static uint32_t PlaceOf(uint32_t time) { return time % kRing; }

  std::vector<Link> links_;                           // the lists' ends, then one per slot
  std::vector<uint8_t> kept_;                         // by slot: 1 in the list of kept ones
  std::array<uint64_t, kRing / 64> filled_ = {};      // times whose lists are not empty
  uint32_t now_ = uint32_t{1} << (kHistoryBits - 1);  // in ticks; far from history 0
  uint32_t size_ = 0;
  uint32_t ordinary_ = 0;       // in the queue and not kept
  uint32_t most_ordinary_ = 0;  // since the last round began
  uint32_t tick_uses_ = 0;
  uint32_t round_ticks_ = 0;
  uint64_t round_hits_ = 0;
  uint64_t round_returns_ = 0;
  uint32_t passed_ = 0;  // blocks that went to the end of kFirstToGo
  bool thrashes_ = false;
};

}  // namespace hipattn::offload

#endif  // HIPATTN_OFFLOAD_USE_QUEUE_H_
