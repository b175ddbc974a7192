// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "offload/block_lease.h"

#include <algorithm>
#include <cassert>
#include <chrono>

namespace hipattn::offload {
namespace {

using Clock = std::chrono::steady_clock;

uint64_t NsSince(Clock::time_point begin) {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - begin).count());
}

}  // namespace

Result<bool> BlockLease::Add(uint32_t block, Use use) {
  BlockCache::Record& record = cache_.records_[block];
  assert(BlockCache::IsValid(record));
  if (changed_.size() == changed_.capacity()) {  // an entry with a slot must not need memory
    changed_.reserve(2 * changed_.size() + 16);
  }
  if (use == Use::kWrite) {
    cache_.BecomeOwn(block);
    if (record.slot != BlockCache::kNoSlot) {
      cache_.LeaveQueue(record.slot);
    }
  }
  const bool placed = record.slot == BlockCache::kNoSlot;
  held_.push_back({block, use, placed});
  if (placed) {
    Result<bool> taken =
        use == Use::kRead && !record.home_valid
            ? Result<bool>(Internal("block ", block, " is read before it was written"))
            : cache_.TakeSlot(block, BlockCache::Growth::kAllowed);
    if (!taken.ok() || !*taken) {
      held_.pop_back();
      return taken;
    }
    record.loading = true;
    ++num_placed_;
  }
  if (placed || use == Use::kWrite) {
    changed_.push_back(held_.size() - 1);
  }
  cache_.Pin(block);
  return true;
}

bool BlockLease::Misses(size_t from, size_t to) const {
  return num_placed_ > 0 &&
         std::any_of(held_.begin() + static_cast<std::ptrdiff_t>(from),
                     held_.begin() + static_cast<std::ptrdiff_t>(to),
                     [&](const Held& held) { return cache_.records_[held.block].loading; });
}

void BlockLease::Rewind(size_t size) {
  while (held_.size() > size) {
    const Held& held = held_.back();
    cache_.Unpin(held.block);
    if (held.placed || held.use == Use::kWrite) {
      changed_.pop_back();
    }
    if (held.placed) {
      --num_placed_;
      cache_.LeaveSlot(cache_.records_[held.block]);
    }
    held_.pop_back();
  }
}

Status BlockLease::Begin(BlockMover::Pace pace) {
  cache_.FinishDone();
  std::vector<BlockMover::Block>& missing = cache_.moving_;
  missing.clear();
  for (const size_t i : changed_) {
    const Held& held = held_[i];
    BlockCache::Record& record = cache_.records_[held.block];
    if (held.placed && record.home_valid) {
      missing.push_back(cache_.PlacesOf(record));
      if (held.use == Use::kRead && missing.back().home == nullptr) {
        cache_.Raise(held.block, &missing.back(), &rises_);
      }
    } else if (held.use == Use::kWrite) {
      record.home_valid = false;
    }
  }
  num_fetched_ = missing.size();
  if (missing.empty()) {
    return Status::Ok();
  }
  const Clock::time_point begin = Clock::now();
  HIPATTN_RETURN_IF_ERROR(cache_.mover_.Begin(missing, BlockMover::Way::kBack, pace, &transfer_));
  cache_.BeginLowering();
  Count(&cache_.fetch_wait_ns_, NsSince(begin));
  return Status::Ok();
}

Status BlockLease::Await() {
  if (num_fetched_ > 0) {
    const Clock::time_point begin = Clock::now();
    HIPATTN_RETURN_IF_ERROR(cache_.mover_.Wait(&transfer_));
    Count(&cache_.fetch_wait_ns_, NsSince(begin));
  }
  for (const size_t i : changed_) {
    const Held& held = held_[i];
    BlockCache::Record& record = cache_.records_[held.block];
    record.loading = record.loading && !held.placed;
    record.home_valid = record.home_valid && held.use == Use::kRead;
  }
  cache_.FinishRises(/*came=*/true, &rises_);
  Count(&cache_.hits_, held_.size() - changed_.size());
  Count(&cache_.fetched_, num_fetched_);
  Count(&cache_.bytes_in_, num_fetched_ * cache_.slots_.block_bytes());
  num_fetched_ = 0;
  loaded_ = true;
  return Status::Ok();
}

Status BlockLease::Load() {
  HIPATTN_RETURN_IF_ERROR(Begin(BlockMover::Pace::kAtOnce));
  return Await();
}

void BlockLease::Clear() {
  if (num_fetched_ > 0) {
    // Whoever began it has another error to tell: what was fetched is let go.
    static_cast<void>(cache_.mover_.Wait(&transfer_));
    num_fetched_ = 0;
  }
  cache_.FinishRises(/*came=*/false, &rises_);
  if (!loaded_) {
    return Rewind(0);
  }
  // In their order: slots that come free in the order of a text are filled in it, too, and
  // neighbours travel as one piece.
  for (size_t begin = 0; begin < held_.size(); begin += kAhead) {
    const size_t end = std::min(begin + kAhead, held_.size());
    Expect(begin, end, [&](size_t i) { return held_[i].block; });
    for (size_t i = begin; i < end; ++i) {
      cache_.EndUse(held_[i].block);
    }
  }
  held_.clear();
  changed_.clear();
  num_placed_ = 0;
  loaded_ = false;
}

}  // namespace hipattn::offload
