// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "offload/snapshot_writer.h"

#include "base/int_math.h"
#include "device/parallel_tasks.h"
#include "offload/page_ring.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

namespace hipattn::offload {
namespace {

// Of one task: enough of them for many cores in every transfer.
constexpr uint64_t kTaskBytes = uint64_t{256} << 10;

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash + 1);
}

// PATH.part, locked, until it has become PATH.
class PartFile {
 public:
  PartFile(FileCalls* calls, std::string path)
      : calls_(*calls), path_(std::move(path)), part_(path_ + ".part") {}
  ~PartFile() {
    if (mine_) {
      calls_.Unlink(part_.c_str());
    }
  }
  PartFile(const PartFile&) = delete;
  PartFile& operator=(const PartFile&) = delete;

  int number() const { return file_.get(); }
  Status Create(uint64_t bytes);
  Status Commit();

 private:
  Status Lock();
  Status Failed(const char* what) const { return FileError(part_, what, errno); }

  FileCalls& calls_;
  const std::string path_;
  const std::string part_;
  OwnedFile file_;
  bool mine_ = false;  // PATH.part is there, and nobody else's
};

// Opens and locks PATH.part. Between the two another save may have renamed or removed it; the lock
// is then one of a file that is no longer PATH.part.
Status PartFile::Lock() {
  for (;;) {
    file_ = OpenDirect(calls_, part_, O_WRONLY | O_CREAT | O_NOFOLLOW);
    if (file_.get() < 0) {
      return Failed("created");
    }
    const bool locked = calls_.Lock(file_.get()) == 0;
    if (!locked && errno == EWOULDBLOCK) {
      return {StatusCode::kIoError, StrCat("path \"", path_, "\": another save to it is at work")};
    }
    mine_ = true;
    if (!locked) {
      return Failed("locked");
    }
    struct stat opened = {};
    struct stat named = {};
    if (calls_.StatFile(file_.get(), &opened) != 0) {
      return Failed("examined");
    }
    const bool found = calls_.StatPath(part_.c_str(), &named) == 0;
    if (!found && errno != ENOENT) {
      return Failed("examined");
    }
    if (found && opened.st_ino == named.st_ino && opened.st_dev == named.st_dev) {
      return Status::Ok();
    }
    mine_ = false;
  }
}

Status PartFile::Create(uint64_t bytes) {
  HIPATTN_RETURN_IF_ERROR(Lock());
  if (calls_.Truncate(file_.get(), 0) != 0) {
    return Failed("emptied");
  }
  // A full disk is met now, and the writes need not extend the file. Not every file system can.
  if (calls_.Allocate(file_.get(), static_cast<off_t>(bytes)) != 0 && errno != EOPNOTSUPP &&
      errno != ENOSYS) {
    return Failed("allocated");
  }
  return Status::Ok();
}

Status PartFile::Commit() {
  if (calls_.Sync(file_.get()) != 0) {
    return Failed("synced");
  }
  // Opened before the rename, after which an error could not be taken back.
  const std::string folder = FolderOf(path_);
  const OwnedFile opened(&calls_, calls_.Open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (opened.get() < 0) {
    return FileError(folder, "opened", errno);
  }
  if (calls_.Rename(part_.c_str(), path_.c_str()) != 0) {
    return FileError(path_, "replaced", errno);
  }
  mine_ = false;
  return calls_.Sync(opened.get()) == 0
             ? Status::Ok()
             : FileError(folder, "synced, so the snapshot may not outlive a power cut", errno);
}

// Fills pages and keeps their sums.
class PageFiller {
 public:
  PageFiller(device::Executor* executor, const SnapshotLayout* layout, const FillExtent* fill)
      : executor_(*executor),
        layout_(*layout),
        fill_(*fill),
        header_(layout->HeaderBytes()),
        tail_((layout->sum_pages() + 1) * layout->page_bytes() / sizeof(uint64_t)) {}

  // Of the header and the extents.
  Status Fill(uint64_t page, std::span<std::byte> memory);
  // The pages of sums and the last one. REQUIRES: all others have been filled.
  void FinishTail();
  Status FillTail(uint64_t page, std::span<std::byte> memory) const;

 private:
  Status FillTask(uint64_t page, std::span<std::byte> memory);
  uint64_t header_pages() const { return header_.size() / layout_.page_bytes(); }

  device::Executor& executor_;
  const SnapshotLayout& layout_;
  const FillExtent& fill_;
  const std::vector<std::byte> header_;
  std::vector<uint64_t> tail_;
};

Status PageFiller::Fill(uint64_t page, std::span<std::byte> memory) {
  const uint64_t page_bytes = layout_.page_bytes();
  const uint64_t pages = memory.size() / page_bytes;
  const uint64_t task_pages = std::max<uint64_t>(1, kTaskBytes / page_bytes);
  return device::ParallelTasks(executor_, CeilDiv(pages, task_pages), [&](size_t task) {
    const uint64_t first = task * task_pages;
    const uint64_t count = std::min(task_pages, pages - first);
    return FillTask(page + first, memory.subspan(first * page_bytes, count * page_bytes));
  });
}

Status PageFiller::FillTask(uint64_t page, std::span<std::byte> memory) {
  const uint64_t page_bytes = layout_.page_bytes();
  const uint64_t end = page + memory.size() / page_bytes;
  for (uint64_t at = page; at < end;) {
    const std::span<std::byte> rest = memory.subspan((at - page) * page_bytes);
    if (at < header_pages()) {
      std::copy_n(header_.data() + at * page_bytes, page_bytes, rest.data());
      ++at;
      continue;
    }
    const SnapshotLayout::Run run = layout_.RunAt(at, end - at);
    HIPATTN_RETURN_IF_ERROR(fill_(run.extent, run.offset, rest.first(run.bytes)));
    std::fill_n(rest.data() + run.bytes, run.pages * page_bytes - run.bytes, std::byte{0});
    at += run.pages;
  }
  for (uint64_t at = page; at < end; ++at) {
    tail_[at] = Checksum(memory.subspan((at - page) * page_bytes, page_bytes));
  }
  return Status::Ok();
}

void PageFiller::FinishTail() {
  const uint64_t page_bytes = layout_.page_bytes();
  const std::span<std::byte> tail = std::as_writable_bytes(std::span(tail_));
  const std::span<std::byte> last = tail.last(page_bytes);
  SnapshotEnd end = {{}, layout_.data_pages(), Checksum(tail.first(tail.size() - page_bytes))};
  std::copy_n(kSnapshotEndMagic, sizeof(kSnapshotEndMagic), end.magic);
  std::memcpy(last.data(), &end, sizeof(end));
  tail_.back() = Checksum(last.first(page_bytes - sizeof(uint64_t)));
}

Status PageFiller::FillTail(uint64_t page, std::span<std::byte> memory) const {
  const uint64_t offset = (page - layout_.data_pages()) * layout_.page_bytes();
  std::memcpy(memory.data(), std::as_bytes(std::span(tail_)).data() + offset, memory.size());
  return Status::Ok();
}

}  // namespace

Status WriteSnapshot(device::Device& device,
                     FileCalls& calls,
                     const std::string& path,
                     const SnapshotLayout& layout,
                     const FillExtent& fill) {
  PageFiller filler(&device.executor(), &layout, &fill);
  PartFile part(&calls, path);
  HIPATTN_RETURN_IF_ERROR(part.Create(layout.file_bytes()));
  const uint64_t pages = layout.file_bytes() / layout.page_bytes();
  HIPATTN_ASSIGN_OR_RETURN(
      const std::unique_ptr<PageRing> ring,
      PageRing::Create(device, {&calls, part.number(), path, layout.page_bytes(), pages}));
  HIPATTN_RETURN_IF_ERROR(
      ring->Write(0, layout.data_pages(), [&](uint64_t page, std::span<std::byte> memory) {
        return filler.Fill(page, memory);
      }));
  filler.FinishTail();
  HIPATTN_RETURN_IF_ERROR(
      ring->Write(layout.data_pages(), pages, [&](uint64_t page, std::span<std::byte> memory) {
        return filler.FillTail(page, memory);
      }));
  HIPATTN_RETURN_IF_ERROR(ring->Finish());
  return part.Commit();
}

}  // namespace hipattn::offload
