// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "cache_policies.h"

#include "offload/use_queue.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <list>
#include <optional>
#include <set>
#include <utility>

namespace tiers_bench {
namespace {

// A list of blocks with the place of each.
class BlockList {
 public:
  explicit BlockList(uint32_t num_blocks) : places_(num_blocks) {}

  void Append(uint32_t block) { places_[block] = blocks_.insert(blocks_.end(), block); }
  void Remove(uint32_t block) { blocks_.erase(places_[block]); }
  uint32_t front() const { return blocks_.front(); }
  uint32_t back() const { return blocks_.back(); }

 private:
  std::list<uint32_t> blocks_;
  std::vector<std::list<uint32_t>::iterator> places_;
};

class Lru final : public CachePolicy {
 public:
  explicit Lru(uint32_t num_blocks) : order_(num_blocks) {}

  void Pin(uint32_t block) override { order_.Remove(block); }
  void Add(const Use& use) override { order_.Append(use.block); }
  uint32_t TakeVictim() override {
    const uint32_t victim = order_.front();
    order_.Remove(victim);
    return victim;
  }

 private:
  BlockList order_;
};

class Clock final : public CachePolicy {
 public:
  explicit Clock(uint32_t num_blocks)
      : order_(num_blocks), referenced_(num_blocks), pinned_(num_blocks) {}

  void Pin(uint32_t block) override { pinned_[block] = true; }
  void Add(const Use& use) override {
    pinned_[use.block] = false;
    referenced_[use.block] = !use.fetched;
    if (use.fetched) {
      order_.Append(use.block);
    }
  }
  uint32_t TakeVictim() override {
    while (true) {
      const uint32_t block = order_.front();
      order_.Remove(block);
      if (!pinned_[block] && !referenced_[block]) {
        return block;
      }
      referenced_[block] = referenced_[block] && pinned_[block];
      order_.Append(block);
    }
  }

 private:
  BlockList order_;
  std::vector<bool> referenced_, pinned_;
};

class StepOrder final : public CachePolicy {
 public:
  explicit StepOrder(uint32_t num_blocks) : order_(num_blocks), uses_(num_blocks) {}

  void BeginStep(uint32_t) override {
    length_ = now_ - begin_;
    begin_ = now_;
  }
  void Pin(uint32_t block) override { order_.Remove(block); }
  void Add(const Use& use) override {
    uses_[use.block] = now_++;
    order_.Append(use.block);
  }
  uint32_t TakeVictim() override {
    const uint32_t oldest = order_.front();
    const uint32_t victim = now_ - uses_[oldest] >= length_ ? oldest : order_.back();
    order_.Remove(victim);
    return victim;
  }

 private:
  BlockList order_;
  std::vector<uint64_t> uses_;  // the last of each block
  uint64_t now_ = 0;
  uint64_t begin_ = 0;   // of this step
  uint64_t length_ = 0;  // of the last one, in uses
};

class Frequency final : public CachePolicy {
 public:
  Frequency(uint32_t num_blocks, double strong_weight)
      : strong_weight_(strong_weight), scores_(num_blocks, -std::numeric_limits<double>::max()) {}

  void BeginStep(uint32_t step) override { now_ = step / kHalfLifeSteps; }
  void Pin(uint32_t block) override { order_.erase({scores_[block], block}); }
  void Add(const Use& use) override {
    // log2 of the sum of all uses, each worth 2 to the power of its time: that order is the one of
    // decayed sums, and needs no decay.
    double& score = scores_[use.block];
    const double more = now_ + std::log2(use.strong ? strong_weight_ : 1.0);
    const auto [low, high] = std::minmax(score, more);
    score = high + std::log2(1 + std::exp2(low - high));
    order_.insert({score, use.block});
  }
  uint32_t TakeVictim() override {
    const uint32_t victim = order_.begin()->second;
    order_.erase(order_.begin());
    return victim;
  }

 private:
  static constexpr double kHalfLifeSteps = 8;

  const double strong_weight_;
  double now_ = 0;
  std::vector<double> scores_;
  std::set<std::pair<double, uint32_t>> order_;
};

class Library final : public CachePolicy {
 public:
  Library(uint32_t num_blocks, uint32_t capacity)
      : slots_(num_blocks),
        entries_(num_blocks),
        pinned_(num_blocks),
        blocks_(capacity),
        queued_(capacity) {
    queue_.Grow(capacity);
    for (uint32_t slot = 0; slot < capacity; ++slot) {
      free_.push_back(slot);
    }
  }

  void Pin(uint32_t block) override { pinned_[block] = true; }
  void Add(const Use& use) override {
    if (use.fetched) {
      slots_[use.block] = free_.back();
      free_.pop_back();
      blocks_[slots_[use.block]] = use.block;
    }
    pinned_[use.block] = false;
    hipattn::offload::UseQueue::Entry& entry = entries_[use.block];
    entry.fetched = use.fetched;
    entry.history = queue_.Use(entry);
    const uint32_t slot = slots_[use.block];
    if (!queued_[slot]) {
      queue_.Add(slot, entry);
      queued_[slot] = true;
    }
  }
  uint32_t TakeVictim() override {
    uint32_t slot = 0;
    static_cast<void>(queue_.Victim([this](uint32_t queued) { return Look(queued); }, &slot));
    queue_.Remove(slot);
    queued_[slot] = false;
    free_.push_back(slot);
    return blocks_[slot];
  }

 private:
  std::optional<hipattn::offload::UseQueue::Entry> Look(uint32_t slot) {
    if (pinned_[blocks_[slot]]) {
      queued_[slot] = false;
      return std::nullopt;
    }
    return entries_[blocks_[slot]];
  }

  hipattn::offload::UseQueue queue_;
  std::vector<uint32_t> slots_;  // by block
  std::vector<hipattn::offload::UseQueue::Entry> entries_;
  std::vector<bool> pinned_;
  std::vector<uint32_t> blocks_;  // by slot
  std::vector<bool> queued_;
  std::vector<uint32_t> free_;
};

}  // namespace

std::vector<std::string> PolicyNames() {
  return {"lru", "clock", "step", "frequency", "score", "use-queue"};
}

std::unique_ptr<CachePolicy> MakePolicy(const std::string& name,
                                        uint32_t num_blocks,
                                        uint32_t capacity) {
  constexpr double kStrongWeight = 3;
  if (name == "clock") {
    return std::make_unique<Clock>(num_blocks);
  }
  if (name == "step") {
    return std::make_unique<StepOrder>(num_blocks);
  }
  if (name == "frequency" || name == "score") {
    return std::make_unique<Frequency>(num_blocks, name == "score" ? kStrongWeight : 1);
  }
  if (name == "use-queue") {
    return std::make_unique<Library>(num_blocks, capacity);
  }
  return std::make_unique<Lru>(num_blocks);
}

}  // namespace tiers_bench
