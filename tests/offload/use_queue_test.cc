// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "offload/use_queue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <random>
#include <vector>

namespace hipattn::offload {
namespace {

constexpr uint32_t kNowhere = UINT32_MAX;

// A cache that holds only numbers: blocks in slots, evicted as the queue says.
class NumberCache {
 public:
  NumberCache(uint32_t num_slots, uint32_t num_blocks)
      : slots_(num_blocks, kNowhere), entries_(num_blocks), blocks_(num_slots, kNowhere) {
    queue_.Grow(num_slots);
  }

  // Whether it was there.
  bool Use(uint32_t block, bool kept = false) {
    const bool hit = slots_[block] != kNowhere;
    if (!hit) {
      const auto free = std::find(blocks_.begin(), blocks_.end(), kNowhere);
      auto slot = static_cast<uint32_t>(free - blocks_.begin());
      if (free == blocks_.end()) {
        EXPECT_TRUE(
            queue_.Victim([&](uint32_t queued) { return entries_[blocks_[queued]]; }, &slot));
        queue_.Remove(slot);
        slots_[blocks_[slot]] = kNowhere;
      }
      blocks_[slot] = block;
      slots_[block] = slot;
    }
    UseQueue::Entry& entry = entries_[block];
    entry = {entry.history, kept, !hit};
    entry.history = queue_.Use(entry);
    if (!hit) {
      queue_.Add(slots_[block], entry);
    }
    return hit;
  }
  // Hits of all of [begin, end) in turn.
  uint32_t UseAll(uint32_t begin, uint32_t end) {
    uint32_t hits = 0;
    for (uint32_t block = begin; block < end; ++block) {
      hits += Use(block) ? 1 : 0;
    }
    return hits;
  }
  bool Has(uint32_t block) const { return slots_[block] != kNowhere; }
  const UseQueue& queue() const { return queue_; }

 private:
  UseQueue queue_;
  std::vector<uint32_t> slots_;  // by block
  std::vector<UseQueue::Entry> entries_;
  std::vector<uint32_t> blocks_;  // by slot
};

TEST(UseQueueTest, BlocksUsedOnceGoInTheOrderOfTheirUse) {
  NumberCache cache(16, 100);
  EXPECT_EQ(cache.UseAll(0, 16), 0U);
  for (uint32_t block = 16; block < 24; ++block) {
    EXPECT_FALSE(cache.Use(block));
    EXPECT_FALSE(cache.Has(block - 16)) << block;
    EXPECT_TRUE(cache.Has(block - 15)) << block;
  }
}

TEST(UseQueueTest, WhatIsUsedAgainAndAgainOutlivesAScan) {
  NumberCache cache(64, 1000);
  for (int round = 0; round < 20; ++round) {
    cache.UseAll(0, 16);
  }
  cache.UseAll(100, 100 + 2 * 64);
  EXPECT_EQ(cache.UseAll(0, 16), 16U);
}

TEST(UseQueueTest, ABlockComesBackWithItsHistory) {
  NumberCache cache(64, 1000);
  for (int round = 0; round < 8; ++round) {
    cache.Use(0);
    cache.UseAll(100, 132);
  }
  uint32_t next = 200;
  while (cache.Has(0)) {
    cache.Use(next++);
  }
  EXPECT_FALSE(cache.Use(0));
  // Of these two the one that was never used before goes first.
  const uint32_t once = next++;
  EXPECT_FALSE(cache.Use(once));
  while (cache.Has(once)) {
    cache.Use(next++);
  }
  EXPECT_TRUE(cache.Has(0));
}

TEST(UseQueueTest, WhatWasUsedLongAgoGoesHoweverOften) {
  NumberCache cache(32, 40000);
  for (int round = 0; round < 50; ++round) {
    cache.UseAll(0, 8);
  }
  uint32_t next = 100;
  // Sixteen half-lives.
  for (; next < 100 + 64 * 32; ++next) {
    cache.Use(next);
  }
  EXPECT_EQ(cache.UseAll(0, 8), 0U);
}

TEST(UseQueueTest, KeptSlotsGoLast) {
  NumberCache cache(16, 1000);
  for (uint32_t block = 0; block < 12; ++block) {
    cache.Use(block, true);
  }
  cache.UseAll(100, 200);
  for (uint32_t block = 0; block < 12; ++block) {
    EXPECT_TRUE(cache.Has(block)) << block;
  }
}

// Steps go round in all kept blocks; the best possible are all slots but one.
TEST(UseQueueTest, KeptSlotsThatDoNotFitHaveHits) {
  constexpr uint32_t kSlots = 16;
  constexpr uint32_t kBlocks = 40;
  constexpr uint32_t kRounds = 40;
  NumberCache cache(kSlots, 1000);
  uint32_t hits = 0;
  for (uint32_t round = 0; round < kRounds; ++round) {
    for (uint32_t block = 0; block < kBlocks; ++block) {
      hits += cache.Use(block, true) ? 1 : 0;
    }
  }
  EXPECT_GT(hits, (kRounds - 1) * (kSlots - 2));
}

// Least recently used would have no hit at all; what stays in place could have one in each slot.
TEST(UseQueueTest, RoundsThatAreLargerThanTheCacheHaveHits) {
  for (const uint32_t blocks : {300U, 512U, 1024U}) {
    constexpr uint32_t kSlots = 256;
    NumberCache cache(kSlots, blocks);
    for (int round = 0; round < 20; ++round) {
      cache.UseAll(0, blocks);
    }
    uint32_t hits = 0;
    constexpr uint32_t kRounds = 40;
    for (uint32_t round = 0; round < kRounds; ++round) {
      hits += cache.UseAll(0, blocks);
    }
    EXPECT_GT(hits, kRounds * kSlots / 4) << blocks;
    EXPECT_LE(hits, kRounds * kSlots) << blocks;
  }
}

TEST(UseQueueTest, RoundsThatFitAreAllHits) {
  NumberCache cache(256, 256);
  cache.UseAll(0, 256);
  for (int round = 0; round < 30; ++round) {
    EXPECT_EQ(cache.UseAll(0, 256), 256U);
  }
}

// A slot that is used stays where it is, and one that is pinned until a search meets it.
TEST(UseQueueTest, EverySlotComesOutOnceWhateverWentIn) {
  std::mt19937 random(7);
  constexpr uint32_t kSlots = 300;
  UseQueue queue;
  queue.Grow(kSlots);
  std::vector<UseQueue::Entry> entries(kSlots);
  std::vector<bool> in(kSlots), pinned(kSlots);
  uint32_t size = 0;
  const UseQueue::Look look = [&](uint32_t slot) -> std::optional<UseQueue::Entry> {
    EXPECT_TRUE(in[slot]);
    if (pinned[slot]) {
      in[slot] = false;
      --size;
      return std::nullopt;
    }
    return entries[slot];
  };
  const auto can_go = [&](uint32_t slot) { return in[slot] && !pinned[slot]; };
  const auto can_go_first = [&](uint32_t slot) { return can_go(slot) && !entries[slot].kept; };
  std::vector<uint32_t> all(kSlots);
  std::iota(all.begin(), all.end(), 0U);
  for (int i = 0; i < 200000; ++i) {
    const uint32_t slot = static_cast<uint32_t>(random() % kSlots);
    const auto choice = random() % 4;
    if (!in[slot]) {
      UseQueue::Entry& entry = entries[slot];
      entry = {entry.history, random() % 8 == 0, random() % 16 != 0};
      entry.history = random() % 50 == 0 ? 0 : queue.Use(entry);
      queue.Add(slot, entry);
      in[slot] = true;
      pinned[slot] = false;
      ++size;
    } else if (choice == 0) {
      queue.Remove(slot);
      in[slot] = false;
      --size;
    } else if (choice == 1) {
      pinned[slot] = !pinned[slot];
    } else {
      entries[slot].fetched = false;
      entries[slot].history = queue.Use(entries[slot]);
    }
    ASSERT_EQ(queue.size(), size);
    if (i % 4 != 0) {
      continue;
    }
    const bool any = std::any_of(all.begin(), all.end(), can_go);
    const bool ordinary = std::any_of(all.begin(), all.end(), can_go_first);
    uint32_t victim = 0;
    ASSERT_EQ(queue.Victim(look, &victim), any);
    ASSERT_EQ(queue.size(), size);
    if (any) {
      ASSERT_TRUE(can_go(victim));
      ASSERT_EQ(entries[victim].kept, !ordinary);
    }
  }
  while (queue.size() > 0) {
    uint32_t victim = 0;
    if (queue.Victim(look, &victim)) {
      queue.Remove(victim);
      in[victim] = false;
      --size;
    }
  }
  EXPECT_EQ(size, 0U);
  EXPECT_TRUE(std::none_of(in.begin(), in.end(), [](bool is_in) { return is_in; }));
}

// Of slots used at different times the one whose count is least now, wherever its use found it.
TEST(UseQueueTest, TheVictimIsTheSlotUsedLeastUpToNow) {
  std::mt19937 random(3);
  constexpr uint32_t kSlots = 200;
  UseQueue queue;
  queue.Grow(kSlots);
  std::vector<UseQueue::Entry> entries(kSlots);
  const UseQueue::Look look = [&](uint32_t slot) { return entries[slot]; };
  for (uint32_t slot = 0; slot < kSlots; ++slot) {
    entries[slot].history = queue.Use(entries[slot]);
    queue.Add(slot, entries[slot]);
  }
  for (int i = 0; i < 20000; ++i) {
    const auto slot = static_cast<uint32_t>(std::min(random() % kSlots, random() % kSlots));
    entries[slot].history = queue.Use(entries[slot]);
    if (i % 64 == 0) {
      uint32_t victim = 0;
      ASSERT_TRUE(queue.Victim(look, &victim));
      for (uint32_t other = 0; other < kSlots; ++other) {
        ASSERT_LE(queue.Lead(entries[victim].history), queue.Lead(entries[other].history));
      }
    }
  }
}

}  // namespace
}  // namespace hipattn::offload
