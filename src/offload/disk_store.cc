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

// Of one transfer: a disk reads neighbours of this size at its full speed.
constexpr uint64_t kBufferBytes = uint64_t{1} << 20;
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
  const uint64_t bytes = std::max(kBufferBytes, store->extent_bytes_);
  store->buffer_.reset(static_cast<std::byte*>(std::aligned_alloc(kDiskPageBytes, bytes)));
  if (store->buffer_ == nullptr) {
    return OutOfMemory("the system refused ", bytes, " bytes of memory");
  }
  HIPATTN_RETURN_IF_ERROR(store->Open());
  return store;
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
size_t DiskStore::Neighbours(std::span<const Block> blocks) const {
  const size_t most = std::max<uint64_t>(kBufferBytes / extent_bytes_, 1);
  size_t count = 1;
  while (count < std::min(blocks.size(), most) &&
         blocks[count].extent == blocks[0].extent + count) {
    ++count;
  }
  return count;
}

void DiskStore::SetSum(uint32_t extent, uint64_t sum) {
  const std::lock_guard<std::mutex> lock(sums_mutex_);
  sums_[extent] = sum;
}

uint64_t DiskStore::Sum(uint32_t extent) {
  const std::lock_guard<std::mutex> lock(sums_mutex_);
  return sums_[extent];
}

Status DiskStore::WriteRun(std::span<const DiskSource> run) {
  const std::lock_guard<std::mutex> lock(buffer_mutex_);
  for (size_t i = 0; i < run.size(); ++i) {
    std::byte* place = buffer_.get() + i * extent_bytes_;
    std::memcpy(place, run[i].data, block_bytes_);
    std::memset(place + block_bytes_, 0, extent_bytes_ - block_bytes_);
    SetSum(run[i].extent, XXH3_64bits(run[i].data, block_bytes_));
  }
  const uint64_t bytes = run.size() * extent_bytes_;
  for (uint64_t done = 0; done < bytes;) {
    const auto offset = static_cast<off_t>(run[0].extent * extent_bytes_ + done);
    const ssize_t moved = calls_->Write(file_.get(), buffer_.get() + done, bytes - done, offset);
    if (moved < 0 && errno == EINTR) {
      continue;
    }
    if (moved <= 0) {
      return FileError(path_, "written", moved == 0 ? ENOSPC : errno);
    }
    done += static_cast<uint64_t>(moved);
  }
  bytes_written_.fetch_add(bytes, std::memory_order_relaxed);
  return Status::Ok();
}

Status DiskStore::ReadRun(std::span<const DiskTarget> run) {
  const std::lock_guard<std::mutex> lock(buffer_mutex_);
  const uint64_t bytes = run.size() * extent_bytes_;
  for (uint64_t done = 0; done < bytes;) {
    const auto offset = static_cast<off_t>(run[0].extent * extent_bytes_ + done);
    const ssize_t moved = calls_->Read(file_.get(), buffer_.get() + done, bytes - done, offset);
    if (moved < 0 && errno == EINTR) {
      continue;
    }
    if (moved < 0) {
      return FileError(path_, "read", errno);
    }
    if (moved == 0) {
      return {StatusCode::kCorrupt,
              StrCat("disk_path \"", path_, "\": the file ends before byte ", offset + 1)};
    }
    done += static_cast<uint64_t>(moved);
  }
  bytes_read_.fetch_add(bytes, std::memory_order_relaxed);
  for (size_t i = 0; i < run.size(); ++i) {
    const std::byte* place = buffer_.get() + i * extent_bytes_;
    if (XXH3_64bits(place, block_bytes_) != Sum(run[i].extent)) {
      return {StatusCode::kCorrupt,
              StrCat("disk_path \"", path_, "\": extent ", run[i].extent, " is damaged")};
    }
    std::memcpy(run[i].data, place, block_bytes_);
  }
  return Status::Ok();
}

Status DiskStore::Write(std::span<const DiskSource> blocks) {
  while (!blocks.empty()) {
    const size_t count = Neighbours(blocks);
    HIPATTN_RETURN_IF_ERROR(WriteRun(blocks.first(count)));
    blocks = blocks.subspan(count);
  }
  return Status::Ok();
}

Status DiskStore::Read(std::span<const DiskTarget> blocks) {
  while (!blocks.empty()) {
    const size_t count = Neighbours(blocks);
    HIPATTN_RETURN_IF_ERROR(ReadRun(blocks.first(count)));
    blocks = blocks.subspan(count);
  }
  return Status::Ok();
}

void DiskStore::ResetCounts() {
  bytes_read_.store(0, std::memory_order_relaxed);
  bytes_written_.store(0, std::memory_order_relaxed);
}

}  // namespace hipattn::offload
