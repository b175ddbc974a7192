// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "offload/snapshot_file.h"

#include "base/int_math.h"
#include "device/parallel_tasks.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace hipattn::offload {
namespace {

constexpr uint64_t kTaskBytes = uint64_t{256} << 10;  // as a save's

}  // namespace

Result<std::unique_ptr<SnapshotFile>> SnapshotFile::Open(device::Device* device,
                                                         FileCalls* calls,
                                                         std::string path,
                                                         NameExtent name) {
  std::unique_ptr<SnapshotFile> file(
      new SnapshotFile(device, calls, std::move(path), std::move(name)));
  HIPATTN_RETURN_IF_ERROR(file->OpenFile());
  HIPATTN_RETURN_IF_ERROR(file->ReadFirstPage());
  HIPATTN_ASSIGN_OR_RETURN(file->ring_,
                           PageRing::Create(*device,
                                            {calls,
                                             file->file_.get(),
                                             file->path_,
                                             file->page_bytes_,
                                             file->file_bytes_ / file->page_bytes_}));
  HIPATTN_RETURN_IF_ERROR(file->ReadEnd());
  HIPATTN_RETURN_IF_ERROR(file->ReadSums());
  HIPATTN_RETURN_IF_ERROR(file->ReadHeader());
  return file;
}

Status SnapshotFile::OpenFile() {
  // O_NONBLOCK: a pipe without a writer is refused below, not waited for.
  file_ = OpenDirect(calls_, path_, O_RDONLY | O_NONBLOCK);
  struct stat found = {};
  if (file_.get() < 0 || calls_.StatFile(file_.get(), &found) != 0) {
    return FileError(path_, "opened", errno);
  }
  if (!S_ISREG(found.st_mode)) {
    return {StatusCode::kIoError, StrCat("path \"", path_, "\" is no file")};
  }
  file_bytes_ = static_cast<uint64_t>(found.st_size);
  return Status::Ok();
}

// The size of the pages, before anything is known: from the first that every file has.
Status SnapshotFile::ReadFirstPage() {
  if (file_bytes_ < kDirectAlignment) {
    return Corrupt("no snapshot, it has ", file_bytes_, " bytes");
  }
  alignas(kDirectAlignment) std::byte page[kDirectAlignment];
  ssize_t bytes = -1;
  do {
    bytes = calls_.Read(file_.get(), page, sizeof(page), 0);
  } while (bytes < 0 && errno == EINTR);
  if (bytes < 0) {
    return FileError(path_, "read", errno);
  }
  SnapshotHeader header = {};
  if (static_cast<size_t>(bytes) < sizeof(header)) {
    return Corrupt("no snapshot, ", bytes, " bytes could be read");
  }
  std::memcpy(&header, page, sizeof(header));
  if (std::memcmp(header.magic, kSnapshotMagic, sizeof(kSnapshotMagic)) != 0) {
    return Corrupt("no snapshot, it begins with other bytes");
  }
  if (header.version != kSnapshotVersion) {
    return {StatusCode::kMismatch,
            StrCat("path \"",
                   path_,
                   "\": version is ",
                   header.version,
                   " in the snapshot, here ",
                   kSnapshotVersion)};
  }
  if (header.page_bytes == 0 || header.page_bytes % kDirectAlignment != 0 ||
      header.page_bytes > kMostPageBytes) {
    return Corrupt("the header's page_bytes is ", header.page_bytes);
  }
  page_bytes_ = header.page_bytes;
  num_extents_ = header.num_extents;
  const uint64_t pages = file_bytes_ / page_bytes_;
  if (file_bytes_ % page_bytes_ != 0 || pages < 3) {
    return Corrupt("cut off, it has ", file_bytes_, " bytes in pages of ", page_bytes_);
  }
  if (num_extents_ > file_bytes_ / sizeof(uint64_t) ||
      SnapshotLayout::HeaderPages(num_extents_, page_bytes_) > pages - 2) {
    return Corrupt(
        "the header's num_extents is ", num_extents_, ", the file has ", pages, " pages");
  }
  return Status::Ok();
}

Status SnapshotFile::ReadEnd() {
  const uint64_t pages = file_bytes_ / page_bytes_;
  SnapshotEnd end = {};
  bool whole = false;
  HIPATTN_RETURN_IF_ERROR(ring_->Read(pages - 1, pages, [&](uint64_t, std::span<std::byte> memory) {
    uint64_t sum = 0;
    std::memcpy(&sum, memory.data() + page_bytes_ - sizeof(sum), sizeof(sum));
    std::memcpy(&end, memory.data(), sizeof(end));
    whole = sum == Checksum(memory.first(page_bytes_ - sizeof(sum)));
    return Status::Ok();
  }));
  if (!whole || std::memcmp(end.magic, kSnapshotEndMagic, sizeof(kSnapshotEndMagic)) != 0) {
    return Corrupt("cut off or damaged: its last page is no end");
  }
  if (end.data_pages >= pages ||
      end.data_pages < SnapshotLayout::HeaderPages(num_extents_, page_bytes_) ||
      end.data_pages + SnapshotLayout::SumPages(end.data_pages, page_bytes_) + 1 != pages) {
    return Corrupt("damaged: its end speaks of ", end.data_pages, " pages, it has ", pages);
  }
  data_pages_ = end.data_pages;
  sums_sum_ = end.sums_sum;
  return Status::Ok();
}

Status SnapshotFile::ReadSums() {
  const uint64_t pages = SnapshotLayout::SumPages(data_pages_, page_bytes_);
  sums_.resize(pages * page_bytes_ / sizeof(uint64_t));
  const std::span<std::byte> bytes = std::as_writable_bytes(std::span(sums_));
  HIPATTN_RETURN_IF_ERROR(ring_->Read(
      data_pages_, data_pages_ + pages, [&](uint64_t page, std::span<std::byte> memory) {
        std::copy(memory.begin(),
                  memory.end(),
                  bytes.begin() + static_cast<std::ptrdiff_t>((page - data_pages_) * page_bytes_));
        return Status::Ok();
      }));
  return Checksum(bytes) == sums_sum_ ? Status::Ok()
                                      : Corrupt("damaged: the checksums are not those written");
}

Status SnapshotFile::ReadHeader() {
  const uint64_t pages = SnapshotLayout::HeaderPages(num_extents_, page_bytes_);
  std::vector<std::byte> header;
  HIPATTN_RETURN_IF_ERROR(ring_->Read(0, pages, [&](uint64_t page, std::span<std::byte> memory) {
    for (uint64_t at = 0; at < memory.size(); at += page_bytes_) {
      if (Checksum(memory.subspan(at, page_bytes_)) != sums_[page + at / page_bytes_]) {
        return Corrupt("the header is damaged");
      }
    }
    header.insert(header.end(), memory.begin(), memory.end());
    return Status::Ok();
  }));
  std::vector<uint64_t> extents(num_extents_);
  if (num_extents_ != 0) {
    std::memcpy(
        extents.data(), header.data() + sizeof(SnapshotHeader), num_extents_ * sizeof(uint64_t));
  }
  Result<SnapshotLayout> layout = SnapshotLayout::Make(page_bytes_, std::move(extents));
  if (!layout.ok() || layout->data_pages() != data_pages_) {
    return Corrupt("the header's extents are not what the file has");
  }
  layout_ = std::move(*layout);
  return Status::Ok();
}

Status SnapshotFile::Read(uint32_t first, uint32_t end, const TakeExtent& take) {
  return ring_->Read(
      layout_.first_page(first),
      layout_.first_page(end),
      [&](uint64_t page, std::span<std::byte> memory) { return TakePages(page, memory, take); });
}

Status SnapshotFile::TakePages(uint64_t page,
                               std::span<const std::byte> memory,
                               const TakeExtent& take) const {
  const uint64_t pages = memory.size() / page_bytes_;
  const uint64_t task_pages = std::max<uint64_t>(1, kTaskBytes / page_bytes_);
  return device::ParallelTasks(device_.executor(), CeilDiv(pages, task_pages), [&](size_t task) {
    const uint64_t first = task * task_pages;
    const uint64_t count = std::min(task_pages, pages - first);
    return TakeTask(page + first, memory.subspan(first * page_bytes_, count * page_bytes_), take);
  });
}

Status SnapshotFile::TakeTask(uint64_t page,
                              std::span<const std::byte> memory,
                              const TakeExtent& take) const {
  const uint64_t end = page + memory.size() / page_bytes_;
  for (uint64_t at = page; at < end;) {
    const SnapshotLayout::Run run = layout_.RunAt(at, end - at);
    const std::span<const std::byte> bytes = memory.subspan((at - page) * page_bytes_);
    for (uint64_t i = 0; i < run.pages; ++i) {
      if (Checksum(bytes.subspan(i * page_bytes_, page_bytes_)) != sums_[at + i]) {
        return Corrupt(name_(run.extent), " is damaged in page ", at + i, " of the file");
      }
    }
    HIPATTN_RETURN_IF_ERROR(take(run.extent, run.offset, bytes.first(run.bytes)));
    at += run.pages;
  }
  return Status::Ok();
}

}  // namespace hipattn::offload
