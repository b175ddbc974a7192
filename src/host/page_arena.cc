// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "host/page_arena.h"

#include "base/bad_alloc.h"
#include "base/int_math.h"

#include <algorithm>
#include <utility>

namespace hipattn::host {
namespace {

constexpr size_t kUnitBytes = size_t{64} << 10;
constexpr size_t kPageUnits = kHugePageBytes / kUnitBytes;
// A range has as much address space as all before it, so that there are few.
constexpr size_t kFirstRangeBytes = size_t{16} << 20;
constexpr size_t kMaxRangeBytes = size_t{1} << 30;

}  // namespace

PageArena::~PageArena() {
  for (const Range& range : ranges_) {
    memory_->Unmap(range.data, range.bytes);
  }
}

size_t PageArena::mapped_bytes() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  size_t bytes = 0;
  for (const Range& range : ranges_) {
    bytes += range.bytes;
  }
  return bytes;
}

size_t PageArena::FindPlace(const Range& range, size_t units) {
  const size_t step = units >= kPageUnits ? kPageUnits : 1;
  const auto begin = range.taken.begin();
  for (size_t at = 0; at + units <= range.taken.size();) {
    const auto first = begin + static_cast<std::ptrdiff_t>(at);
    const auto end = first + static_cast<std::ptrdiff_t>(units);
    const auto obstacle = std::find(first, end, true);
    if (obstacle == end) {
      return at;
    }
    at = RoundUp(static_cast<size_t>(obstacle - begin) + 1, step);
  }
  return range.taken.size();
}

// Where there is little address space left, a smaller range.
Status PageArena::AddRange() {
  size_t mapped = 0;
  for (const Range& range : ranges_) {
    mapped += range.bytes;
  }
  ranges_.reserve(ranges_.size() + 1);
  size_t bytes = std::clamp(mapped, kFirstRangeBytes, kMaxRangeBytes);
  for (;;) {
    Range range = {nullptr, bytes, std::vector<bool>(bytes / kUnitBytes), 0};
    Result<std::byte*> data = memory_->Map(bytes, node_);
    if (data.ok()) {
      range.data = *data;
      ranges_.push_back(std::move(range));
      return Status::Ok();
    }
    if (bytes <= kMaxBytes) {
      return data.status();
    }
    bytes /= 2;
  }
}

Result<std::byte*> PageArena::Take(size_t bytes) {
  const size_t units = CeilDiv(bytes, kUnitBytes);
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto take = [&](Range& range) -> std::byte* {
    if (range.taken.size() - range.num_taken < units) {
      return nullptr;
    }
    const size_t at = FindPlace(range, units);
    if (at == range.taken.size()) {
      return nullptr;
    }
    std::fill_n(range.taken.begin() + static_cast<std::ptrdiff_t>(at), units, true);
    range.num_taken += units;
    return range.data + at * kUnitBytes;
  };
  for (Range& range : ranges_) {
    if (std::byte* piece = take(range); piece != nullptr) {
      return piece;
    }
  }
  HIPATTN_RETURN_IF_ERROR(CatchBadAlloc([this] { return AddRange(); }));
  return take(ranges_.back());
}

void PageArena::Give(std::byte* piece, size_t bytes) noexcept {
  const size_t units = CeilDiv(bytes, kUnitBytes);
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto range = std::find_if(ranges_.begin(), ranges_.end(), [&](const Range& r) {
    return piece >= r.data && piece < r.data + r.bytes;
  });
  const size_t at = static_cast<size_t>(piece - range->data) / kUnitBytes;
  const auto begin = range->taken.begin();
  std::fill_n(begin + static_cast<std::ptrdiff_t>(at), units, false);
  range->num_taken -= units;
  if (range->num_taken == 0) {
    memory_->Unmap(range->data, range->bytes);
    ranges_.erase(range);
    return;
  }
  // The first and the last page may have pieces beside this one.
  size_t first = at / kPageUnits;
  size_t end = CeilDiv(at + units, kPageUnits);
  const auto is_empty = [&](size_t page) {
    const auto units_begin = begin + static_cast<std::ptrdiff_t>(page * kPageUnits);
    return std::find(units_begin, units_begin + kPageUnits, true) == units_begin + kPageUnits;
  };
  first += is_empty(first) ? 0 : 1;
  end -= end > first && !is_empty(end - 1) ? 1 : 0;
  if (end > first) {
    memory_->Discard(range->data + first * kHugePageBytes, (end - first) * kHugePageBytes);
  }
}

}  // namespace hipattn::host
