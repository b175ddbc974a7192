// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// PageArena: pieces of memory that are cut from large mapped ranges, so that pieces smaller than a
// huge page lie in huge pages, too, side by side.
//
// A range is address space of up to 1 GiB. It takes memory where pieces lie, and gives a huge page
// back when no piece is left in it. So what is taken from the system is what the pieces need,
// rounded to huge pages.
#ifndef HIPATTN_HOST_PAGE_ARENA_H_
#define HIPATTN_HOST_PAGE_ARENA_H_

#include "base/result.h"
#include "device/host_memory.h"

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

namespace hipattn::host {

inline constexpr size_t kHugePageBytes = size_t{2} << 20;

// Thread-safe.
class PageArena {
 public:
  // Of a piece; larger ones are better mapped by themselves.
  static constexpr size_t kMaxBytes = size_t{16} << 20;

  // Ranges are mapped on `node`. `memory` outlives the arena.
  PageArena(device::HostMemory* memory, int node) : memory_(memory), node_(node) {}
  // REQUIRES: every piece was given back.
  ~PageArena();
  PageArena(const PageArena&) = delete;
  PageArena& operator=(const PageArena&) = delete;

  // 64 KiB-aligned, from 2 MiB on 2 MiB-aligned. kOutOfMemory. REQUIRES: 0 < bytes <= kMaxBytes.
  Result<std::byte*> Take(size_t bytes);
  void Give(std::byte* piece, size_t bytes) noexcept;

  size_t mapped_bytes() const;  // address space of all ranges

 private:
  struct Range {
    std::byte* data;
    size_t bytes;
    std::vector<bool> taken;  // by unit
    size_t num_taken;
  };

  // The first place for so many units, or taken.size().
  static size_t FindPlace(const Range& range, size_t units);
  Status AddRange();

  device::HostMemory* const memory_;
  const int node_;
  mutable std::mutex mutex_;
  std::vector<Range> ranges_;
};

}  // namespace hipattn::host

#endif  // HIPATTN_HOST_PAGE_ARENA_H_
