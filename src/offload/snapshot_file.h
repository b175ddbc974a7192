// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// SnapshotFile: a snapshot that is read. Nothing of the file is believed before its checksum has
// been compared: Open compares those of header, sums and end, Read those of every page it reads.
#ifndef HIPATTN_OFFLOAD_SNAPSHOT_FILE_H_
#define HIPATTN_OFFLOAD_SNAPSHOT_FILE_H_

#include "base/result.h"
#include "device/device.h"
#include "offload/file_calls.h"
#include "offload/page_ring.h"
#include "offload/snapshot_layout.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace hipattn::offload {

// Takes the bytes of an extent from `offset` on. Called from several threads at once.
using TakeExtent =
    std::function<Status(uint32_t extent, uint64_t offset, std::span<const std::byte> bytes)>;

// What an extent is called in messages.
using NameExtent = std::function<std::string(uint32_t extent)>;

// One thread at a time.
class SnapshotFile {
 public:
  // kIoError: it cannot be read. kCorrupt: it is no snapshot, or damaged. kMismatch: of another
  // version. `device` and `calls` outlive it.
  static Result<std::unique_ptr<SnapshotFile>> Open(device::Device* device,
                                                    FileCalls* calls,
                                                    std::string path,
                                                    NameExtent name);

  const SnapshotLayout& layout() const { return layout_; }

  // The extents [first, end), checked, in any order; whole pages, but for the last of each extent.
  // Copies and checksums run on the device's executor while the disk reads. kCorrupt names the
  // extent; `take` may have been called for others then.
  Status Read(uint32_t first, uint32_t end, const TakeExtent& take);

 private:
  SnapshotFile(device::Device* device, FileCalls* calls, std::string path, NameExtent name)
      : device_(*device), calls_(*calls), path_(std::move(path)), name_(std::move(name)) {}

  Status OpenFile();
  Status ReadFirstPage();
  Status ReadEnd();
  Status ReadSums();
  Status ReadHeader();
  Status TakePages(uint64_t page, std::span<const std::byte> memory, const TakeExtent& take) const;
  Status TakeTask(uint64_t page, std::span<const std::byte> memory, const TakeExtent& take) const;
  template <typename... Parts>
  Status Corrupt(const Parts&... parts) const {
    return {StatusCode::kCorrupt, StrCat("path \"", path_, "\": ", parts...)};
  }

  device::Device& device_;
  FileCalls& calls_;
  const std::string path_;
  const NameExtent name_;
  OwnedFile file_;
  std::unique_ptr<PageRing> ring_;
  uint64_t file_bytes_ = 0;
  uint32_t page_bytes_ = 0;
  uint64_t num_extents_ = 0;
  uint64_t data_pages_ = 0;
  uint64_t sums_sum_ = 0;
  std::vector<uint64_t> sums_;  // of the data pages, and the zeros behind them
  SnapshotLayout layout_;
};

}  // namespace hipattn::offload

#endif  // HIPATTN_OFFLOAD_SNAPSHOT_FILE_H_
