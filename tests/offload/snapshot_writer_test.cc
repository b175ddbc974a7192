// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Snapshot files of extents that mean nothing: they come back as they were, and every system call
// of a save and a load may fail.
#include "offload/snapshot_writer.h"

#include "device/registry.h"
#include "offload/snapshot_file.h"
#include "tests/support/temporary_folder.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>

namespace hipattn::offload {
namespace {

using test::FileBytes;
using test::TemporaryFolder;

constexpr uint32_t kPage = 4096;

device::Device& Cpu() {
  static const auto device = device::CreateCpuDevice({2, {}});
  return *device.value();
}

// A byte of an extent.
std::byte ByteOf(uint32_t extent, uint64_t offset) {
  return static_cast<std::byte>((offset * 31 + (offset >> 12) * 7 + extent * 101 + 5) & 0xff);
}

SnapshotLayout LayoutOf(std::vector<uint64_t> extents, uint32_t page = kPage) {
  return SnapshotLayout::Make(page, std::move(extents)).value();
}

Status Write(FileCalls& calls, const std::string& path, const SnapshotLayout& layout) {
  return WriteSnapshot(
      Cpu(), calls, path, layout, [](uint32_t extent, uint64_t offset, std::span<std::byte> to) {
        for (size_t i = 0; i < to.size(); ++i) {
          to[i] = ByteOf(extent, offset + i);
        }
        return Status::Ok();
      });
}

// Reads all extents and compares them with what Write gave.
Status ReadBack(FileCalls& calls, const std::string& path, const std::vector<uint64_t>& extents) {
  HIPATTN_ASSIGN_OR_RETURN(const auto file,
                           SnapshotFile::Open(&Cpu(), &calls, path, [](uint32_t extent) {
                             return StrCat("extent ", extent);
                           }));
  EXPECT_EQ(file->layout().num_extents(), extents.size());
  std::mutex mutex;
  std::vector<uint64_t> seen(extents.size());
  HIPATTN_RETURN_IF_ERROR(
      file->Read(0,
                 file->layout().num_extents(),
                 [&](uint32_t extent, uint64_t offset, std::span<const std::byte> bytes) {
                   size_t wrong = 0;
                   for (size_t i = 0; i < bytes.size(); ++i) {
                     wrong += bytes[i] != ByteOf(extent, offset + i) ? 1 : 0;
                   }
                   const std::lock_guard<std::mutex> lock(mutex);
                   EXPECT_EQ(wrong, 0U) << extent << ", " << offset;
                   seen[extent] += bytes.size();
                   return Status::Ok();
                 }));
  EXPECT_EQ(seen, extents);
  return Status::Ok();
}

TEST(SnapshotWriter, ExtentsOfAnySizeComeBack) {
  const TemporaryFolder folder;
  const std::vector<std::vector<uint64_t>> cases = {
      {},
      {0},
      {1},
      {0, 0, 5, 0},
      {4096, 4097, 0, 4095, 12288},
      std::vector<uint64_t>(1500, 100),              // more than a page of extents
      {kTransferBytes * 5 + 17, 3, kTransferBytes},  // more than the buffers hold
  };
  for (const std::vector<uint64_t>& extents : cases) {
    for (const uint32_t page : {kPage, 3 * kPage}) {
      const std::string path = folder.Path("file");
      ASSERT_TRUE(Write(SystemFileCalls(), path, LayoutOf(extents, page)).ok());
      EXPECT_EQ(FileBytes(path).size(), LayoutOf(extents, page).file_bytes());
      const Status status = ReadBack(SystemFileCalls(), path, extents);
      EXPECT_TRUE(status.ok()) << status.message();
    }
  }
  EXPECT_EQ(folder.NumFiles(), 1U);
}

// A file that could not be is no layout.
TEST(SnapshotLayout, SizesBeyondAFileAreRefused) {
  for (const uint64_t bytes : {UINT64_MAX, uint64_t{1} << 63, (uint64_t{1} << 62) + 1}) {
    const Status status = SnapshotLayout::Make(kPage, {100, bytes}).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << bytes;
  }
}

TEST(SnapshotLayout, PagesHoldWholeBlocks) {
  EXPECT_EQ(SnapshotPageBytes(512), 4096U);
  EXPECT_EQ(SnapshotPageBytes(4096), 4096U);
  EXPECT_EQ(SnapshotPageBytes(6144), 12288U);
  EXPECT_EQ(SnapshotPageBytes(8192), 8192U);
  EXPECT_LE(SnapshotPageBytes(uint64_t{2} * 64 * 248 * 4), kMostPageBytes);
}

// Counts its calls and lets one of them fail, or do less than it was asked.
class FaultyCalls : public FileCalls {
 public:
  enum class Fault { kError, kInterrupted, kShort };
  FaultyCalls(int number, Fault fault) : number_(number), fault_(fault) {}

  bool struck() const { return struck_; }

  int Open(const char* path, int flags) override {
    return Strikes() ? Fail() : FileCalls::Open(path, flags);
  }
  int Lock(int file) override { return Strikes() ? Fail() : FileCalls::Lock(file); }
  int StatFile(int file, struct stat* found) override {
    return Strikes() ? Fail() : FileCalls::StatFile(file, found);
  }
  int StatPath(const char* path, struct stat* found) override {
    return Strikes() ? Fail() : FileCalls::StatPath(path, found);
  }
  int Truncate(int file, off_t bytes) override {
    return Strikes() ? Fail() : FileCalls::Truncate(file, bytes);
  }
  int Allocate(int file, off_t bytes) override {
    return Strikes() ? Fail() : FileCalls::Allocate(file, bytes);
  }
  ssize_t Write(int file, const void* data, size_t bytes, off_t offset) override {
    return StrikesTransfer()
               ? Transferred([&] { return FileCalls::Write(file, data, kPage, offset); })
               : FileCalls::Write(file, data, bytes, offset);
  }
  ssize_t Read(int file, void* data, size_t bytes, off_t offset) override {
    return StrikesTransfer()
               ? Transferred([&] { return FileCalls::Read(file, data, kPage, offset); })
               : FileCalls::Read(file, data, bytes, offset);
  }
  int Sync(int file) override { return Strikes() ? Fail() : FileCalls::Sync(file); }
  int Rename(const char* from, const char* to) override {
    return Strikes() ? Fail() : FileCalls::Rename(from, to);
  }

 private:
  bool StrikesTransfer() {
    const bool strikes = calls_.fetch_add(1) == number_;
    struck_ = struck_ || strikes;
    return strikes;
  }
  // Other calls are neither interrupted nor short.
  bool Strikes() { return StrikesTransfer() && fault_ == Fault::kError; }
  int Fail() {
    errno = EIO;
    return -1;
  }
  template <typename Some>
  ssize_t Transferred(const Some& some) {
    if (fault_ == Fault::kShort) {
      return some();
    }
    errno = fault_ == Fault::kError ? EIO : EINTR;
    return -1;
  }

  const int number_;
  const Fault fault_;
  std::atomic<int> calls_{0};
  std::atomic<bool> struck_{false};
};

const std::vector<uint64_t> kBefore = {7, 5000};
const std::vector<uint64_t> kAfter = {100, 9000, 3 * kTransferBytes};

TEST(SnapshotWriter, AnyCallThatFailsLeavesTheEarlierFile) {
  const TemporaryFolder folder;
  const std::string path = folder.Path("file");
  ASSERT_TRUE(Write(SystemFileCalls(), path, LayoutOf(kBefore)).ok());
  int failed = 0;
  for (int number = 0;; ++number) {
    FaultyCalls calls(number, FaultyCalls::Fault::kError);
    const Status status = Write(calls, path, LayoutOf(kAfter));
    if (!calls.struck()) {
      EXPECT_TRUE(status.ok()) << status.message();
      break;
    }
    EXPECT_EQ(status.code(), StatusCode::kIoError) << number;
    EXPECT_NE(status.message().find("Input/output error"), std::string::npos) << status.message();
    EXPECT_EQ(folder.NumFiles(), 1U) << status.message();
    // The folder's sync comes last: the new file has its name by then.
    const bool renamed = status.message().find("power cut") != std::string::npos;
    EXPECT_TRUE(ReadBack(SystemFileCalls(), path, renamed ? kAfter : kBefore).ok()) << number;
    failed += renamed ? 0 : 1;
  }
  EXPECT_GT(failed, 12);
  EXPECT_TRUE(ReadBack(SystemFileCalls(), path, kAfter).ok());
}

TEST(SnapshotWriter, TransfersThatStopEarlyAreGoneOnWith) {
  const TemporaryFolder folder;
  const std::string path = folder.Path("file");
  for (const auto fault : {FaultyCalls::Fault::kShort, FaultyCalls::Fault::kInterrupted}) {
    for (int number = 5; number < 14; ++number) {
      FaultyCalls calls(number, fault);
      ASSERT_TRUE(Write(calls, path, LayoutOf(kAfter)).ok());
      FaultyCalls reads(number - 5, fault);
      const Status status = ReadBack(reads, path, kAfter);
      EXPECT_TRUE(status.ok()) << status.message();
    }
  }
}

TEST(SnapshotFile, AnyCallThatFailsIsAnError) {
  const TemporaryFolder folder;
  const std::string path = folder.Path("file");
  ASSERT_TRUE(Write(SystemFileCalls(), path, LayoutOf(kAfter)).ok());
  int number = 0;
  for (;; ++number) {
    FaultyCalls calls(number, FaultyCalls::Fault::kError);
    const Status status = ReadBack(calls, path, kAfter);
    if (!calls.struck()) {
      EXPECT_TRUE(status.ok()) << status.message();
      break;
    }
    EXPECT_EQ(status.code(), StatusCode::kIoError) << number;
  }
  EXPECT_GT(number, 6);
}

TEST(SnapshotWriter, WhatFailsToFillFailsTheSave) {
  const TemporaryFolder folder;
  const std::string path = folder.Path("file");
  const Status status =
      WriteSnapshot(Cpu(),
                    SystemFileCalls(),
                    path,
                    LayoutOf(kAfter),
                    [](uint32_t extent, uint64_t, std::span<std::byte>) {
                      return extent == 2 ? Internal("no such content") : Status::Ok();
                    });
  EXPECT_EQ(status.code(), StatusCode::kInternal);
  EXPECT_EQ(folder.NumFiles(), 0U);
}

TEST(SnapshotWriter, OneSaveToAPathAtATime) {
  const TemporaryFolder folder;
  const std::string path = folder.Path("file");
  Status second;
  const Status first = WriteSnapshot(Cpu(),
                                     SystemFileCalls(),
                                     path,
                                     LayoutOf({1}),
                                     [&](uint32_t, uint64_t, std::span<std::byte> to) {
                                       to[0] = ByteOf(0, 0);
                                       second = Write(SystemFileCalls(), path, LayoutOf(kBefore));
                                       return Status::Ok();
                                     });
  EXPECT_TRUE(first.ok()) << first.message();
  EXPECT_EQ(second.code(), StatusCode::kIoError);
  EXPECT_NE(second.message().find("another save"), std::string::npos) << second.message();
  EXPECT_TRUE(ReadBack(SystemFileCalls(), path, {1}).ok());
  EXPECT_EQ(folder.NumFiles(), 1U);
}

// What a killed save left is written over, however long it was.
TEST(SnapshotWriter, ClearsUpAfterAKilledSave) {
  const TemporaryFolder folder;
  const std::string path = folder.Path("file");
  test::SetFileBytes(path + ".part", std::string(1000000, 'x'));
  EXPECT_TRUE(Write(SystemFileCalls(), path, LayoutOf(kBefore)).ok());
  EXPECT_TRUE(ReadBack(SystemFileCalls(), path, kBefore).ok());
  EXPECT_EQ(folder.NumFiles(), 1U);
}

}  // namespace
}  // namespace hipattn::offload
