// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#define XXH_INLINE_ALL  // the library's users need not link it
#include "offload/snapshot_layout.h"

#include "base/int_math.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

namespace hipattn::offload {

uint32_t SnapshotPageBytes(uint64_t unit_bytes) {
  return static_cast<uint32_t>(std::lcm(unit_bytes, uint64_t{kDirectAlignment}));
}

uint64_t Checksum(std::span<const std::byte> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

uint64_t SnapshotLayout::HeaderPages(uint64_t num_extents, uint32_t page_bytes) {
  return CeilDiv<uint64_t>(sizeof(SnapshotHeader) + num_extents * sizeof(uint64_t), page_bytes);
}

uint64_t SnapshotLayout::SumPages(uint64_t data_pages, uint32_t page_bytes) {
  return CeilDiv<uint64_t>(data_pages * sizeof(uint64_t), page_bytes);
}

Result<SnapshotLayout> SnapshotLayout::Make(uint32_t page_bytes,
                                            std::vector<uint64_t> extent_bytes) {
  SnapshotLayout layout;
  layout.page_bytes_ = page_bytes;
  layout.extent_bytes_ = std::move(extent_bytes);
  layout.first_page_.reserve(layout.extent_bytes_.size() + 1);
  // The sums are less than a 500th of it.
  const uint64_t most_pages = (uint64_t{1} << 62) / page_bytes;
  uint64_t page = HeaderPages(layout.extent_bytes_.size(), page_bytes);
  for (const uint64_t bytes : layout.extent_bytes_) {
    layout.first_page_.push_back(page);
    const uint64_t pages = CeilDiv<uint64_t>(bytes, page_bytes);
    if (pages > most_pages - page) {
      return InvalidArgument("an extent has ", bytes, " bytes: more than a file can have");
    }
    page += pages;
  }
  layout.first_page_.push_back(page);
  return layout;
}

std::vector<std::byte> SnapshotLayout::HeaderBytes() const {
  std::vector<std::byte> bytes(HeaderPages(extent_bytes_.size(), page_bytes_) * page_bytes_);
  SnapshotHeader header = {{}, kSnapshotVersion, page_bytes_, extent_bytes_.size()};
  std::copy_n(kSnapshotMagic, sizeof(kSnapshotMagic), header.magic);
  std::memcpy(bytes.data(), &header, sizeof(header));
  const std::span<const std::byte> extents = std::as_bytes(std::span(extent_bytes_));
  std::copy(extents.begin(), extents.end(), bytes.begin() + sizeof(header));
  return bytes;
}

SnapshotLayout::Run SnapshotLayout::RunAt(uint64_t page, uint64_t most) const {
  // Of extents that begin at one page all but the last are empty.
  const auto after = std::upper_bound(first_page_.begin(), first_page_.end() - 1, page);
  const auto extent = static_cast<uint32_t>(after - first_page_.begin()) - 1;
  const uint64_t pages = std::min(most, first_page_[extent + 1] - page);
  const uint64_t offset = (page - first_page_[extent]) * page_bytes_;
  const uint64_t bytes = std::min(extent_bytes_[extent] - offset, pages * page_bytes_);
  return {extent, offset, page, bytes, pages};
}

}  // namespace hipattn::offload
