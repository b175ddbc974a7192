// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// PageRing: pages of a file that pass through a ring of large buffers in host memory. While one
// buffer is with the disk, the caller fills or empties another.
#ifndef HIPATTN_OFFLOAD_PAGE_RING_H_
#define HIPATTN_OFFLOAD_PAGE_RING_H_

#include "base/result.h"
#include "device/device.h"
#include "offload/file_queue.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

namespace hipattn::offload {

// Of one transfer. A disk is as fast as it gets from about 4 MB on; four buffers are 32 MB.
inline constexpr size_t kTransferBytes = size_t{8} << 20;

// One thread at a time.
class PageRing {
 public:
  // The memory of some neighbouring pages, of which `page` is the first.
  using UsePages = std::function<Status(uint64_t page, std::span<std::byte> memory)>;

  struct File {
    FileCalls* calls;  // outlives the ring, as does the file
    int number;
    std::string path;  // for messages
    uint32_t page_bytes;
    uint64_t pages;  // that it will have, or has
  };
  // kOutOfMemory.
  static Result<std::unique_ptr<PageRing>> Create(device::Device& device, const File& file);

  // Writes the pages [begin, end) after `fill` has filled them; in order. The last of them may
  // still be on their way: Finish waits.
  Status Write(uint64_t begin, uint64_t end, const UsePages& fill);
  Status Finish();

  // Reads the pages [begin, end) and hands them over in order. Errors of FileQueue::Wait.
  Status Read(uint64_t begin, uint64_t end, const UsePages& use);

 private:
  PageRing(device::Buffer memory, std::unique_ptr<FileQueue> queue, uint32_t page_bytes)
      : memory_(std::move(memory)), queue_(std::move(queue)), page_bytes_(page_bytes) {}
  std::byte* Memory(uint32_t slot) const { return aligned_ + slot * transfer_bytes_; }

  device::Buffer memory_;  // outlives the queue's transfers
  std::unique_ptr<FileQueue> queue_;
  const uint32_t page_bytes_;
  size_t transfer_bytes_ = 0;
  std::byte* aligned_ = nullptr;
  uint64_t next_ = 0;  // transfers so far; slots take turns
};

}  // namespace hipattn::offload

#endif  // HIPATTN_OFFLOAD_PAGE_RING_H_
