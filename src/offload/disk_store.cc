// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "offload/disk_store.h"

#include "base/bad_alloc.h"

#define XXH_INLINE_ALL
#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace hipattn::offload {
namespace {

// Of one way: more than is in flight, whatever the blocks' size.
constexpr uint64_t kBufferBytes = uint64_t{2} << 20;
// Of one transfer: a disk reads neighbours of this size at its full speed when it has several.
constexpr uint64_t kRunBytes = uint64_t{256} << 10;
// Transfers in flight. Scattered reads of 8 KB get faster up to about as many; writes are mostly of
// neighbours.
constexpr unsigned kReadDepth = 32;
constexpr unsigned kWriteDepth = 8;
// By which the file grows, so that a full disk is met before a block needs the space.
constexpr uint64_t kGrowBytes = uint64_t{8} << 20;

}  // namespace

void DiskStore::Release::operator()(std::byte* data) const {
  std::free(data);
}

Result<std::unique_ptr<DiskStore>> DiskStore::Create(FileCalls* calls,
                                                     MemoryBudget* budget,
                                                     const std::string& path,
                                                     uint64_t block_bytes) {
  std::unique_ptr<DiskStore> store(new DiskStore(calls, budget, path, block_bytes));
  HIPATTN_RETURN_IF_ERROR(store->Open());
  HIPATTN_RETURN_IF_ERROR(store->OpenLane(kReadDepth, &store->reads_));
  HIPATTN_RETURN_IF_ERROR(store->OpenLane(kWriteDepth, &store->writes_));
  return store;
}

Status DiskStore::OpenLane(unsigned depth, Lane* lane) {
  const uint64_t bytes = std::max(kBufferBytes, extent_bytes_);
  lane->buffer.reset(static_cast<std::byte*>(std::aligned_alloc(kDiskPageBytes, bytes)));
  if (lane->buffer == nullptr) {
    return OutOfMemory("the system refused ", bytes, " bytes of memory");
  }
  lane->batch = MakeFileBatch(calls_, file_.get(), depth);
  return Status::Ok();
}

// Where the file system cannot make files without names, one loses its name at once.
Status DiskStore::Open() {
  file_ = OpenDirect(*calls_, path_, O_TMPFILE | O_RDWR);
  if (file_.get() < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
    const std::string name = StrCat(path_, "/hipattn-", getpid(), ".blocks");
    file_ = OpenDirect(*calls_, name, O_CREAT | O_EXCL | O_RDWR);
    if (file_.get() >= 0 && calls_->Unlink(name.c_str()) != 0) {
      return FileError(name, "unlinked", errno);
    }
  }
  return file_.get() < 0 ? FileError(path_, "given a file", errno) : Status::Ok();
}

Status DiskStore::Grow() {
  const uint64_t extents = std::max<uint64_t>(kGrowBytes / extent_bytes_, 1);
  const uint64_t before = sums_.size();
  if (before + extents > UINT32_MAX / 2) {
    return OutOfMemory("the disk tier has reached ", UINT32_MAX / 2, " blocks");
  }
  const auto bytes = static_cast<off_t>((before + extents) * extent_bytes_);
  if (calls_->Allocate(file_.get(), bytes) != 0 &&
      (errno != EOPNOTSUPP || calls_->Truncate(file_.get(), bytes) != 0)) {
    return FileError(path_, "given more space", errno);
  }
  free_.reserve(before + extents);
  {
    const std::lock_guard<std::mutex> lock(sums_mutex_);
    sums_.resize(before + extents);
  }
  for (uint64_t extent = before + extents; extent > before; --extent) {
    free_.push_back(static_cast<uint32_t>(extent - 1));
  }
  return Status::Ok();
}

Result<uint32_t> DiskStore::Take() {
  HIPATTN_RETURN_IF_ERROR(budget_->Charge(extent_bytes_));
  if (free_.empty()) {
    Status grown = CatchBadAlloc([this] { return Grow(); });
    if (!grown.ok()) {
      budget_->Release(extent_bytes_);
      return grown;
    }
  }
  const uint32_t extent = free_.back();
  free_.pop_back();
  return extent;
}

void DiskStore::Free(uint32_t extent) {
  budget_->Release(extent_bytes_);
  free_.push_back(extent);
  // A file that cannot shrink keeps its extents for later blocks.
  if (free_.size() == sums_.size() && calls_->Truncate(file_.get(), 0) == 0) {
    free_.clear();
    const std::lock_guard<std::mutex> lock(sums_mutex_);
    sums_.clear();
  }
}

template <typename Block>
std::span<const Block> DiskStore::Plan(std::span<const Block> blocks,
                                       bool writes,
                                       Lane* lane) const {
  const size_t room = std::max<uint64_t>(kBufferBytes / extent_bytes_, 1);
  const std::span<const Block> some = blocks.first(std::min(blocks.size(), room));
  const size_t most = std::max<uint64_t>(kRunBytes / extent_bytes_, 1);
  lane->transfers.clear();
  lane->first.clear();
  for (size_t i = 0; i < some.size();) {
    size_t end = i + 1;
    while (end < some.size() && end - i < most && some[end].extent == some[end - 1].extent + 1) {
      ++end;
    }
    lane->first.push_back(i);
    lane->transfers.push_back({writes,
                               lane->buffer.get() + i * extent_bytes_,
                               (end - i) * extent_bytes_,
                               some[i].extent * extent_bytes_});
    i = end;
  }
  lane->first.push_back(some.size());
  return some;
}

Status DiskStore::ErrorOf(const FileTransfer& transfer) const {
  if (transfer.error != 0) {
    return FileError(path_, transfer.writes ? "written" : "read", transfer.error);
  }
  if (transfer.ended_early) {
    return {StatusCode::kCorrupt,
            StrCat("disk_path \"", path_, "\": the file ends before byte ", transfer.offset + 1)};
  }
  return Status::Ok();
}

void DiskStore::SetSum(uint32_t extent, uint64_t sum) {
  const std::lock_guard<std::mutex> lock(sums_mutex_);
  sums_[extent] = sum;
}

uint64_t DiskStore::Sum(uint32_t extent) {
  const std::lock_guard<std::mutex> lock(sums_mutex_);
  return sums_[extent];
}

Status DiskStore::WriteSome(std::span<const DiskSource> blocks) {
  for (size_t i = 0; i < blocks.size(); ++i) {
    std::byte* place = writes_.buffer.get() + i * extent_bytes_;
    std::memcpy(place, blocks[i].data, block_bytes_);
    std::memset(place + block_bytes_, 0, extent_bytes_ - block_bytes_);
    SetSum(blocks[i].extent, XXH3_64bits(blocks[i].data, block_bytes_));
  }
  writes_.batch->Run(writes_.transfers, [](size_t) {});
  for (const FileTransfer& transfer : writes_.transfers) {
    HIPATTN_RETURN_IF_ERROR(ErrorOf(transfer));
  }
  bytes_written_.fetch_add(blocks.size() * extent_bytes_, std::memory_order_relaxed);
  return Status::Ok();
}

bool DiskStore::TakeRead(const DiskTarget& block, const std::byte* place) {
  if (XXH3_64bits(place, block_bytes_) != Sum(block.extent)) {
    return false;
  }
  std::memcpy(block.data, place, block_bytes_);
  return true;
}

// Blocks are checked and handed out while others are on their way.
Status DiskStore::ReadSome(std::span<const DiskTarget> blocks) {
  std::atomic<size_t> damaged{SIZE_MAX};
  reads_.batch->Run(reads_.transfers, [&](size_t transfer) {
    if (reads_.transfers[transfer].bytes > 0) {
      return;
    }
    for (size_t i = reads_.first[transfer]; i < reads_.first[transfer + 1]; ++i) {
      if (!TakeRead(blocks[i], reads_.buffer.get() + i * extent_bytes_)) {
        damaged.store(i, std::memory_order_relaxed);
      }
    }
  });
  for (const FileTransfer& transfer : reads_.transfers) {
    HIPATTN_RETURN_IF_ERROR(ErrorOf(transfer));
  }
  bytes_read_.fetch_add(blocks.size() * extent_bytes_, std::memory_order_relaxed);
  const size_t found = damaged.load(std::memory_order_relaxed);
  if (found != SIZE_MAX) {
    return {StatusCode::kCorrupt,
            StrCat("disk_path \"", path_, "\": extent ", blocks[found].extent, " is damaged")};
  }
  return Status::Ok();
}

Status DiskStore::Write(std::span<const DiskSource> blocks) {
  const std::lock_guard<std::mutex> lock(writes_.mutex);
  while (!blocks.empty()) {
    const std::span<const DiskSource> some = Plan(blocks, /*writes=*/true, &writes_);
    HIPATTN_RETURN_IF_ERROR(WriteSome(some));
    blocks = blocks.subspan(some.size());
  }
  return Status::Ok();
}

Status DiskStore::Read(std::span<const DiskTarget> blocks) {
  const std::lock_guard<std::mutex> lock(reads_.mutex);
  while (!blocks.empty()) {
    const std::span<const DiskTarget> some = Plan(blocks, /*writes=*/false, &reads_);
    HIPATTN_RETURN_IF_ERROR(ReadSome(some));
    blocks = blocks.subspan(some.size());
  }
  return Status::Ok();
}

void DiskStore::ResetCounts() {
  bytes_read_.store(0, std::memory_order_relaxed);
  bytes_written_.store(0, std::memory_order_relaxed);
}

}  // namespace hipattn::offload
