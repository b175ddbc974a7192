// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// How a snapshot file lies on disk, version 1 (docs/offload.md, "Snapshots"). Extents of bytes in
// pages of one size, each page with a checksum:
//   header   SnapshotHeader, then the u64 bytes of every extent
//   extents  one after another, each from a page's begin on
//   sums     a u64 per page before them: XXH3 (64 bits) of the page
//   end      SnapshotEnd, the last page
// What is left of a part's last page is zero. Everything is little-endian. What the extents mean is
// the caller's business.
#ifndef HIPATTN_OFFLOAD_SNAPSHOT_LAYOUT_H_
#define HIPATTN_OFFLOAD_SNAPSHOT_LAYOUT_H_

#include "base/result.h"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace hipattn::offload {

static_assert(std::endian::native == std::endian::little, "numbers of the file are used in place");

inline constexpr uint32_t kSnapshotVersion = 1;
// What direct I/O wants of addresses, offsets and sizes on every disk in use.
inline constexpr uint32_t kDirectAlignment = 4096;
inline constexpr uint32_t kMostPageBytes = uint32_t{1} << 20;

inline constexpr char kSnapshotMagic[8] = {'h', 'i', 'p', 'a', 't', 't', 'n', '\x1a'};
inline constexpr char kSnapshotEndMagic[8] = {'\x1a', 'n', 't', 't', 'a', 'p', 'i', 'h'};

struct SnapshotHeader {
  char magic[8];
  uint32_t version;
  uint32_t page_bytes;
  uint64_t num_extents;
};
static_assert(sizeof(SnapshotHeader) == 24);

struct SnapshotEnd {
  char magic[8];
  uint64_t data_pages;  // header and extents
  uint64_t sums_sum;    // XXH3 of the pages of sums
};
static_assert(sizeof(SnapshotEnd) == 24);
// The last 8 bytes of the file are the XXH3 of the rest of the last page.

// The smallest page that holds whole units of so many bytes and whole units of direct I/O.
uint32_t SnapshotPageBytes(uint64_t unit_bytes);

uint64_t Checksum(std::span<const std::byte> bytes);

class SnapshotLayout {
 public:
  // kInvalidArgument: the sizes do not fit 63 bits. REQUIRES: page_bytes is a multiple of
  // kDirectAlignment.
  static Result<SnapshotLayout> Make(uint32_t page_bytes, std::vector<uint64_t> extent_bytes);

  uint32_t page_bytes() const { return page_bytes_; }
  uint32_t num_extents() const { return static_cast<uint32_t>(extent_bytes_.size()); }
  uint64_t extent_bytes(uint32_t extent) const { return extent_bytes_[extent]; }
  // Of the first page; first_page(num_extents()) is where the sums begin.
  uint64_t first_page(uint32_t extent) const { return first_page_[extent]; }
  uint64_t data_pages() const { return first_page_.back(); }
  uint64_t sum_pages() const { return SumPages(data_pages(), page_bytes_); }
  uint64_t file_bytes() const { return (data_pages() + sum_pages() + 1) * page_bytes_; }

  static uint64_t HeaderPages(uint64_t num_extents, uint32_t page_bytes);
  static uint64_t SumPages(uint64_t data_pages, uint32_t page_bytes);

  // The header's pages.
  std::vector<std::byte> HeaderBytes() const;

  // Part of one extent that lies in neighbouring pages.
  struct Run {
    uint32_t extent;
    uint64_t offset;  // in the extent
    uint64_t page;    // of the file
    uint64_t bytes;   // of the extent
    uint64_t pages;
  };
  // The run that begins at `page`, of at most `most` pages. REQUIRES: the page is an extent's.
  Run RunAt(uint64_t page, uint64_t most) const;

 private:
  uint32_t page_bytes_ = 0;
  std::vector<uint64_t> extent_bytes_;
  std::vector<uint64_t> first_page_;
};

}  // namespace hipattn::offload

#endif  // HIPATTN_OFFLOAD_SNAPSHOT_LAYOUT_H_
