// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "offload/disk_store.h"

#include "tests/support/temporary_folder.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <numeric>
#include <vector>

namespace hipattn::offload {
namespace {

constexpr uint64_t kBlock = 3072;  // not a multiple of a page

// The calls of this process, some of which go wrong.
class FaultyCalls : public FileCalls {
 public:
  int Open(const char* path, int flags) override {
    if (no_nameless && (flags & O_TMPFILE) == O_TMPFILE) {
      errno = EOPNOTSUPP;
      return -1;
    }
    file = FileCalls::Open(path, flags);
    return file;
  }
  int Allocate(int number, off_t bytes) override {
    if (allocate_error != 0) {
      errno = allocate_error;
      return -1;
    }
    return FileCalls::Allocate(number, bytes);
  }
  ssize_t Write(int number, const void* data, size_t bytes, off_t offset) override {
    if (write_error != 0) {
      errno = write_error;
      return -1;
    }
    return FileCalls::Write(number, data, bytes, offset);
  }
  ssize_t Read(int number, void* data, size_t bytes, off_t offset) override {
    if (read_error != 0) {
      errno = read_error;
      return -1;
    }
    if (ends_early) {
      return 0;
    }
    const ssize_t moved = FileCalls::Read(number, data, std::min(bytes, most), offset);
    if (flipped_byte < bytes) {
      static_cast<char*>(data)[flipped_byte] ^= 4;
    }
    return moved;
  }

  int file = -1;
  bool no_nameless = false, ends_early = false;
  int allocate_error = 0, write_error = 0, read_error = 0;
  size_t most = SIZE_MAX;
  size_t flipped_byte = SIZE_MAX;
};

class DiskStoreTest : public ::testing::Test {
 protected:
  DiskStoreTest() { Open(); }

  void Open() {
    store_ = std::move(DiskStore::Create(&calls_, &budget_, folder_.Path("."), kBlock).value());
  }
  static std::vector<std::byte> Content(uint32_t number) {
    std::vector<std::byte> content(kBlock);
    for (size_t i = 0; i < kBlock; ++i) {
      content[i] = static_cast<std::byte>(number * 31 + i * 7);
    }
    return content;
  }
  // Extents with contents of their own.
  std::vector<uint32_t> WriteSome(uint32_t count) {
    std::vector<uint32_t> extents;
    std::vector<std::vector<std::byte>> contents;
    std::vector<DiskSource> sources;
    for (uint32_t i = 0; i < count; ++i) {
      extents.push_back(store_->Take().value());
      contents.push_back(Content(extents.back()));
      sources.push_back({extents.back(), contents.back().data()});
    }
    EXPECT_TRUE(store_->Write(sources).ok());
    return extents;
  }
  Status ReadOne(uint32_t extent, std::vector<std::byte>* to) {
    to->assign(kBlock, std::byte{0});
    const DiskTarget target = {extent, to->data()};
    return store_->Read({&target, 1});
  }

  test::TemporaryFolder folder_;
  FaultyCalls calls_;
  MemoryBudget budget_{uint64_t{64} << 20, "disk_kv_bytes"};
  std::unique_ptr<DiskStore> store_;
};

TEST_F(DiskStoreTest, BlocksComeBackInAnyOrder) {
  const std::vector<uint32_t> extents = WriteSome(700);
  EXPECT_EQ(budget_.used(), 700 * ExtentBytes(kBlock));
  EXPECT_EQ(store_->bytes_written(), 700 * ExtentBytes(kBlock));
  std::vector<std::vector<std::byte>> got(extents.size(), std::vector<std::byte>(kBlock));
  std::vector<DiskTarget> targets;
  for (size_t i = 0; i < extents.size(); ++i) {
    const size_t shuffled = i * 37 % extents.size();
    targets.push_back({extents[shuffled], got[shuffled].data()});
  }
  ASSERT_TRUE(store_->Read(targets).ok());
  for (size_t i = 0; i < extents.size(); ++i) {
    EXPECT_EQ(got[i], Content(extents[i])) << i;
  }
  calls_.most = 1024;  // a transfer may take several calls
  ASSERT_TRUE(ReadOne(extents[5], &got[0]).ok());
  EXPECT_EQ(got[0], Content(extents[5]));
}

TEST_F(DiskStoreTest, NothingIsLeftAndSpaceComesBack) {
  const std::vector<uint32_t> extents = WriteSome(10);
  EXPECT_EQ(folder_.NumFiles(), 0U);
  struct stat found = {};
  ASSERT_EQ(fstat(calls_.file, &found), 0);
  EXPECT_GT(found.st_blocks, 0);
  for (const uint32_t extent : extents) {
    store_->Free(extent);
  }
  ASSERT_EQ(fstat(calls_.file, &found), 0);
  EXPECT_EQ(found.st_size, 0);
  EXPECT_EQ(found.st_blocks, 0);
  EXPECT_EQ(budget_.used(), 0U);
  WriteSome(3);
}

TEST_F(DiskStoreTest, FileSystemsWithoutNamelessFiles) {
  calls_.no_nameless = true;
  Open();
  EXPECT_EQ(folder_.NumFiles(), 0U);
  std::vector<std::byte> got;
  EXPECT_TRUE(ReadOne(WriteSome(2)[1], &got).ok());
  EXPECT_EQ(DiskStore::Create(&calls_, &budget_, folder_.Path("no/such"), kBlock).status().code(),
            StatusCode::kIoError);
}

TEST_F(DiskStoreTest, EveryFlippedBitIsFound) {
  const std::vector<uint32_t> extents = WriteSome(2);
  std::vector<std::byte> got;
  for (size_t byte = 0; byte < kBlock; byte += 61) {
    calls_.flipped_byte = byte;
    const Status status = ReadOne(extents[1], &got);
    ASSERT_EQ(status.code(), StatusCode::kCorrupt) << byte;
    EXPECT_NE(status.message().find("extent"), std::string::npos) << status.message();
  }
  calls_.flipped_byte = SIZE_MAX;
  EXPECT_TRUE(ReadOne(extents[1], &got).ok());
}

TEST_F(DiskStoreTest, ErrorsAreTyped) {
  const std::vector<uint32_t> extents = WriteSome(1);
  std::vector<std::byte> got;
  calls_.ends_early = true;
  EXPECT_EQ(ReadOne(extents[0], &got).code(), StatusCode::kCorrupt);
  calls_.ends_early = false;
  calls_.read_error = EIO;
  EXPECT_EQ(ReadOne(extents[0], &got).code(), StatusCode::kIoError);
  calls_.read_error = 0;
  calls_.write_error = ENOSPC;
  const DiskSource source = {extents[0], got.data()};
  EXPECT_EQ(store_->Write({&source, 1}).code(), StatusCode::kIoError);
}

TEST_F(DiskStoreTest, AFullDiskIsMetBeforeAnythingIsWritten) {
  calls_.allocate_error = ENOSPC;
  EXPECT_EQ(store_->Take().status().code(), StatusCode::kIoError);
  EXPECT_EQ(budget_.used(), 0U);
  calls_.allocate_error = EOPNOTSUPP;  // of file systems that cannot promise space
  EXPECT_TRUE(store_->Take().ok());
}

TEST_F(DiskStoreTest, TheBudgetIsHeld) {
  MemoryBudget small(2 * ExtentBytes(kBlock), "disk_kv_bytes");
  const auto store =
      std::move(DiskStore::Create(&calls_, &small, folder_.Path("."), kBlock).value());
  EXPECT_TRUE(store->Take().ok());
  EXPECT_TRUE(store->Take().ok());
  const Status status = store->Take().status();
  EXPECT_EQ(status.code(), StatusCode::kOutOfBudget);
  EXPECT_NE(status.message().find("disk_kv_bytes"), std::string::npos) << status.message();
}

}  // namespace
}  // namespace hipattn::offload
