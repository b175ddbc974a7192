// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// DiskStore: blocks in extents of one file that has no name, so that nothing of it is left when the
// process ends, however it ends. Every block is under a checksum, which stays in memory. Reads and
// writes pass the page cache where the file system can; neighbours are one transfer, and several
// transfers are in flight at once.
#ifndef HIPATTN_OFFLOAD_DISK_STORE_H_
#define HIPATTN_OFFLOAD_DISK_STORE_H_

#include "base/result.h"
#include "offload/file_batch.h"
#include "offload/memory_budget.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace hipattn::offload {

// Extents are whole pages of this size, as direct transfers want them.
inline constexpr uint64_t kDiskPageBytes = 4096;

constexpr uint64_t ExtentBytes(uint64_t block_bytes) {
  return (block_bytes + kDiskPageBytes - 1) / kDiskPageBytes * kDiskPageBytes;
}

// A block on its way to the file, and from it.
struct DiskSource {
  uint32_t extent;
  const std::byte* data;
};
struct DiskTarget {
  uint32_t extent;
  std::byte* data;
};

// Take and Free: one thread at a time, beside others that read and write. The rest is thread-safe.
class DiskStore {
 public:
  // A file in the folder `path`. `calls` and `budget` outlive it. kIoError, kOutOfMemory.
  static Result<std::unique_ptr<DiskStore>> Create(FileCalls* calls,
                                                   MemoryBudget* budget,
                                                   const std::string& path,
                                                   uint64_t block_bytes);

  // An extent. kOutOfBudget; kIoError when the disk is full.
  Result<uint32_t> Take();
  // The file gives its space back with the last one.
  void Free(uint32_t extent);

  // kIoError; Read: kCorrupt when a block is not what was written.
  Status Write(std::span<const DiskSource> blocks);
  Status Read(std::span<const DiskTarget> blocks);

  // What runs the transfers, for a log.
  std::string transport() const { return reads_.batch->Name(); }

  uint64_t bytes_read() const { return bytes_read_.load(std::memory_order_relaxed); }
  uint64_t bytes_written() const { return bytes_written_.load(std::memory_order_relaxed); }
  void ResetCounts();

 private:
  struct Release {
    void operator()(std::byte* data) const;
  };

  // Of one way; one caller at a time.
  struct Lane {
    std::mutex mutex;
    std::unique_ptr<std::byte, Release> buffer;
    std::vector<FileTransfer> transfers;
    std::vector<size_t> first;         // block of each transfer; one more for the end
    std::unique_ptr<FileBatch> batch;  // goes first: its threads may use the rest
  };

  DiskStore(FileCalls* calls, MemoryBudget* budget, std::string path, uint64_t block_bytes)
      : calls_(calls),
        budget_(budget),
        path_(std::move(path)),
        block_bytes_(block_bytes),
        extent_bytes_(ExtentBytes(block_bytes)) {}

  Status Open();
  Status OpenLane(unsigned depth, Lane* lane);
  Status Grow();
  // As many of the first blocks as the lane's buffer holds, where they lie in it one after the
  // other.
  template <typename Block>
  std::span<const Block> Plan(std::span<const Block> blocks, bool writes, Lane* lane) const;
  Status ErrorOf(const FileTransfer& transfer) const;
  void SetSum(uint32_t extent, uint64_t sum);
  uint64_t Sum(uint32_t extent);
  Status WriteSome(std::span<const DiskSource> blocks);
  Status ReadSome(std::span<const DiskTarget> blocks);
  // Checks a block that was read, and hands it out.
  bool TakeRead(const DiskTarget& block, const std::byte* place);

  FileCalls* const calls_;
  MemoryBudget* const budget_;
  const std::string path_;
  const uint64_t block_bytes_;
  const uint64_t extent_bytes_;
  OwnedFile file_;
  std::vector<uint32_t> free_;  // last out first
  std::mutex sums_mutex_;
  std::vector<uint64_t> sums_;  // by extent: XXH3 of its block
  std::atomic<uint64_t> bytes_read_{0}, bytes_written_{0};
  Lane reads_, writes_;
};

}  // namespace hipattn::offload

#endif  // HIPATTN_OFFLOAD_DISK_STORE_H_
