// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "offload/use_queue.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace hipattn::offload {
namespace {

// A round is as many uses as the cache has slots. Half-lives of 2, 3 and 4 rounds are within .01 of
// each other on recorded steps where the cache holds a step's blocks; below that the longest is
// ahead by far.
constexpr uint32_t kRoundTicks = 8;
constexpr int32_t kHalfLifeTicks = 4 * kRoundTicks;

// Shares of hits, of the uses of blocks that were here before, below which fetched blocks
// are the first to go, and above which they are not; and one in so many is not, so that the blocks
// that stay change with the text.
constexpr uint64_t kThrashDivisor = 8;
constexpr uint64_t kCalmDivisor = 4;
constexpr uint32_t kPassedOf = 16;

// By how many ticks a use now exceeds now when the block's history leads by i - reach: the sum of
// both, in half-lives.
template <size_t kSize>
std::array<uint16_t, kSize> MakeSums() {
  std::array<uint16_t, kSize> sums = {};
  for (size_t i = 0; i < kSize; ++i) {
    const double lead = (static_cast<double>(i) - static_cast<double>(kSize) / 2) / kHalfLifeTicks;
    sums[i] = static_cast<uint16_t>(std::lround(kHalfLifeTicks * std::log2(1 + std::exp2(lead))));
  }
  return sums;
}

}  // namespace

UseQueue::UseQueue() : links_(kEnds) {
  for (uint32_t end = 0; end < kEnds; ++end) {
    links_[end] = {end, end};
  }
}

void UseQueue::Grow(uint32_t num_slots) {
  if (links_.size() < size_t{num_slots} + kEnds) {
    links_.resize(size_t{num_slots} + kEnds);
    kept_.resize(num_slots);
  }
}

int32_t UseQueue::Lead(uint32_t history) const {
  constexpr uint32_t kSign = uint32_t{1} << (kHistoryBits - 1);
  const uint32_t difference = (history - now_) & kHistoryMask;
  const int32_t lead = static_cast<int32_t>(difference ^ kSign) - static_cast<int32_t>(kSign);
  constexpr auto kFar = static_cast<int32_t>(kReach);
  return lead < -kFar || lead >= kFar ? -kFar : lead;
}

uint32_t UseQueue::Use(const Entry& block) {
  static const std::array<uint16_t, kRing> kSums = MakeSums<kRing>();
  if (!block.kept) {  // those are not what the slots are for
    const bool known = Lead(block.history) > -static_cast<int32_t>(kReach);
    CountUse(!block.fetched ? Outcome::kHit : known ? Outcome::kReturned : Outcome::kCame);
  }
  const int32_t lead = Lead(block.history);
  return (now_ + kSums[static_cast<size_t>(lead + static_cast<int32_t>(kReach))]) & kHistoryMask;
}

void UseQueue::CountUse(Outcome outcome) {
  round_hits_ += outcome == Outcome::kHit ? 1 : 0;
  round_returns_ += outcome == Outcome::kReturned ? 1 : 0;
  if (++tick_uses_ < std::max(1U, most_ordinary_ / kRoundTicks)) {
    return;
  }
  tick_uses_ = 0;
  Tick();
  if (++round_ticks_ < kRoundTicks) {
    return;
  }
  const uint64_t known = round_hits_ + round_returns_;
  if (round_hits_ * kThrashDivisor < known) {
    thrashes_ = true;
  } else if (round_hits_ * kCalmDivisor > known) {
    thrashes_ = false;
  }
  round_ticks_ = 0;
  round_hits_ = 0;
  round_returns_ = 0;
  most_ordinary_ = ordinary_;
}

// What was the last time in reach joins the next, in front.
void UseQueue::Tick() {
  const uint32_t place = PlaceOf(now_ + kReach);  // that of now_ - kReach
  const uint32_t next = PlaceOf(place + 1);
  now_ = (now_ + 1) & kHistoryMask;
  const uint32_t end = kTimes + place;
  if (IsEmpty(end)) {
    return;
  }
  const uint32_t to = kTimes + next;
  const Link moved = links_[end];
  const uint32_t first = links_[to].behind;
  links_[moved.behind].before = to;
  links_[moved.before].behind = first;
  links_[first].before = moved.before;
  links_[to].behind = moved.behind;
  links_[end] = {end, end};
  filled_[place / 64] &= ~(uint64_t{1} << place % 64);
  filled_[next / 64] |= uint64_t{1} << next % 64;
}

void UseQueue::Append(uint32_t end, uint32_t link) {
  const uint32_t last = links_[end].before;
  links_[link] = {last, end};
  links_[last].behind = link;
  links_[end].before = link;
}

void UseQueue::Add(uint32_t slot, const Entry& block) {
  ++size_;
  if (block.kept) {
    Append(kKept, slot + kEnds);
    kept_[slot] = 1;
    return;
  }
  most_ordinary_ = std::max(most_ordinary_, ++ordinary_);
  if (block.fetched && thrashes_ && ++passed_ % kPassedOf != 0) {
    Append(kFirstToGo, slot + kEnds);
    return;
  }
  AddByTime(slot, block.history);
}

void UseQueue::AddByTime(uint32_t slot, uint32_t history) {
  const uint32_t list = ListOf(history);
  Append(list, slot + kEnds);
  filled_[(list - kTimes) / 64] |= uint64_t{1} << (list - kTimes) % 64;
}

void UseQueue::Remove(uint32_t slot) {
  const Link link = links_[slot + kEnds];
  links_[link.before].behind = link.behind;
  links_[link.behind].before = link.before;
  --size_;
  if (kept_[slot] != 0) {
    kept_[slot] = 0;
  } else {
    --ordinary_;
  }
  if (link.before == link.behind && link.before >= kTimes && link.before < kEnds) {
    const uint32_t place = link.before - kTimes;
    filled_[place / 64] &= ~(uint64_t{1} << place % 64);
  }
}

uint32_t UseQueue::LowestList() const {
  if (!IsEmpty(kFirstToGo)) {
    return kFirstToGo;
  }
  // The ring from now - kReach on, word by word; the first word's lower part comes last.
  const uint32_t begin = PlaceOf(now_ + kReach);
  uint32_t word = begin / 64;
  uint64_t bits = filled_[word] & (~uint64_t{0} << begin % 64);
  while (bits == 0) {
    word = (word + 1) % static_cast<uint32_t>(filled_.size());
    bits = filled_[word];
  }
  return kTimes + word * 64 + static_cast<uint32_t>(std::countr_zero(bits));
}

bool UseQueue::Victim(const Look& look, uint32_t* slot) {
  while (size_ > 0) {
    const uint32_t list = ordinary_ > 0 ? LowestList() : kKept;
    *slot = (list == kKept ? links_[kKept].before : links_[list].behind) - kEnds;
    const std::optional<Entry> block = look(*slot);
    if (block.has_value() &&
        (list == kKept || (list == kFirstToGo ? block->fetched : list == ListOf(block->history)))) {
      return true;
    }
    Remove(*slot);
    if (block.has_value()) {
      ++size_;
      ++ordinary_;
      AddByTime(*slot, block->history);
    }
  }
  return false;
}

}  // namespace hipattn::offload
