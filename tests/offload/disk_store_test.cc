// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "offload/disk_store.h"

#include "tests/offload/faulty_calls.h"
#include "tests/support/temporary_folder.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace hipattn::offload {
namespace {

constexpr uint64_t kBlock = 3072;  // not a multiple of a page

using Ring = test::FaultyCalls::Ring;

// On threads, on an emulated ring, and on the system's where it has one.
class DiskStoreTest : public ::testing::TestWithParam<Ring> {
 protected:
  void SetUp() override {
    std::unique_ptr<FileRing> found;
    if (GetParam() == Ring::kSystem && MakeSystemRing(-1, 1, &found) != 0) {
      GTEST_SKIP() << "no io_uring here: " << std::strerror(errno);
    }
    Open();
  }

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
  test::FaultyCalls calls_{GetParam()};
  MemoryBudget budget_{uint64_t{64} << 20, "disk_kv_bytes"};
  std::unique_ptr<DiskStore> store_;
};

// What the emulated calls let go wrong, on threads and on a ring.
class DiskFaultsTest : public DiskStoreTest {};

TEST_P(DiskStoreTest, BlocksComeBackInAnyOrder) {
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
}

TEST_P(DiskStoreTest, TheFileEndsAndBitsFlip) {
  const std::vector<uint32_t> extents = WriteSome(40);
  std::vector<std::byte> got;
  {
    const std::string name = StrCat("/proc/self/fd/", calls_.file);
    const int file = open(name.c_str(), O_RDWR);
    ASSERT_GE(file, 0);
    const auto offset = static_cast<off_t>(extents[20] * ExtentBytes(kBlock) + 7);
    const char wrong = static_cast<char>(static_cast<char>(Content(extents[20])[7]) ^ 1);
    EXPECT_EQ(pwrite(file, &wrong, 1, offset), 1);
    EXPECT_EQ(close(file), 0);
  }
  const Status flipped = ReadOne(extents[20], &got);
  EXPECT_EQ(flipped.code(), StatusCode::kCorrupt);
  EXPECT_NE(flipped.message().find(StrCat("extent ", extents[20])), std::string::npos)
      << flipped.message();
  EXPECT_TRUE(ReadOne(extents[19], &got).ok());
  ASSERT_EQ(ftruncate(calls_.file, static_cast<off_t>(30 * ExtentBytes(kBlock))), 0);
  const Status ended = ReadOne(extents[35], &got);
  EXPECT_EQ(ended.code(), StatusCode::kCorrupt) << ended.message();
  EXPECT_NE(ended.message().find("ends"), std::string::npos) << ended.message();
  EXPECT_TRUE(ReadOne(extents[29], &got).ok());
}

TEST_P(DiskStoreTest, ReadersAndWritersShareIt) {
  const std::vector<uint32_t> extents = WriteSome(200);
  std::vector<std::thread> threads;
  for (uint32_t first = 0; first < 4; ++first) {
    threads.emplace_back([&, first] {
      for (uint32_t round = 0; round < 5; ++round) {
        std::vector<std::vector<std::byte>> got(extents.size() / 4, std::vector<std::byte>(kBlock));
        std::vector<DiskTarget> targets;
        std::vector<DiskSource> sources;
        for (size_t i = 0; i < got.size(); ++i) {
          targets.push_back({extents[i * 4 + first], got[i].data()});
          sources.push_back({extents[i * 4 + first], got[i].data()});
        }
        EXPECT_TRUE(store_->Read(targets).ok());
        for (size_t i = 0; i < got.size(); ++i) {
          EXPECT_EQ(got[i], Content(extents[i * 4 + first]));
        }
        EXPECT_TRUE(store_->Write(sources).ok());
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(store_->bytes_read(), 5 * 200 * ExtentBytes(kBlock));
  EXPECT_EQ(store_->bytes_written(), 6 * 200 * ExtentBytes(kBlock));
}

TEST_P(DiskStoreTest, NothingIsLeftAndSpaceComesBack) {
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

TEST_P(DiskStoreTest, FileSystemsWithoutNamelessFiles) {
  calls_.no_nameless = true;
  Open();
  EXPECT_EQ(folder_.NumFiles(), 0U);
  std::vector<std::byte> got;
  EXPECT_TRUE(ReadOne(WriteSome(2)[1], &got).ok());
  EXPECT_EQ(DiskStore::Create(&calls_, &budget_, folder_.Path("no/such"), kBlock).status().code(),
            StatusCode::kIoError);
}

TEST_P(DiskFaultsTest, EveryFlippedBitIsFound) {
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

TEST_P(DiskFaultsTest, ErrorsAreTyped) {
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

TEST_P(DiskStoreTest, AFullDiskIsMetBeforeAnythingIsWritten) {
  calls_.allocate_error = ENOSPC;
  EXPECT_EQ(store_->Take().status().code(), StatusCode::kIoError);
  EXPECT_EQ(budget_.used(), 0U);
  calls_.allocate_error = EOPNOTSUPP;  // of file systems that cannot promise space
  EXPECT_TRUE(store_->Take().ok());
}

TEST_P(DiskStoreTest, TheBudgetIsHeld) {
  MemoryBudget small(2 * ExtentBytes(kBlock), "disk_kv_bytes");
  const auto store =
      std::move(DiskStore::Create(&calls_, &small, folder_.Path("."), kBlock).value());
  EXPECT_TRUE(store->Take().ok());
  EXPECT_TRUE(store->Take().ok());
  const Status status = store->Take().status();
  EXPECT_EQ(status.code(), StatusCode::kOutOfBudget);
  EXPECT_NE(status.message().find("disk_kv_bytes"), std::string::npos) << status.message();
}

TEST_P(DiskFaultsTest, ATransferMayTakeSeveralCalls) {
  calls_.most = 1024;
  calls_.interrupts = 5;
  const std::vector<uint32_t> extents = WriteSome(50);
  calls_.interrupts = 5;
  for (const uint32_t extent : {extents[5], extents[49]}) {
    std::vector<std::byte> got;
    ASSERT_TRUE(ReadOne(extent, &got).ok());
    EXPECT_EQ(got, Content(extent));
  }
  EXPECT_LE(calls_.interrupts, 0);
}

class RingFaultsTest : public DiskStoreTest {
 protected:
  // Of scattered blocks, more than the ring holds.
  Status ReadSome(const std::vector<uint32_t>& extents) {
    std::vector<std::vector<std::byte>> got(extents.size() / 2, std::vector<std::byte>(kBlock));
    std::vector<DiskTarget> targets;
    for (size_t i = 0; i < got.size(); ++i) {
      targets.push_back({extents[2 * i], got[i].data()});
    }
    Status status = store_->Read(targets);
    for (size_t i = 0; status.ok() && i < got.size(); ++i) {
      EXPECT_EQ(got[i], Content(extents[2 * i])) << i;
    }
    return status;
  }
};

TEST_P(RingFaultsTest, RequestsAreTakenInPartsAndWithPauses) {
  const std::vector<uint32_t> extents = WriteSome(200);
  calls_.submit_most = 3;
  EXPECT_TRUE(ReadSome(extents).ok());
  calls_.submit_most = SIZE_MAX;
  calls_.submit_error = EINTR;
  calls_.submit_errors = 7;
  EXPECT_TRUE(ReadSome(extents).ok());
  EXPECT_EQ(calls_.submit_errors, 0);
  calls_.most = 512;
  calls_.interrupts = 9;
  EXPECT_TRUE(ReadSome(extents).ok());
  EXPECT_EQ(calls_.rings_made, 2);  // one per way
}

TEST_P(RingFaultsTest, ARingThatTakesNothingIsGivenUp) {
  const std::vector<uint32_t> extents = WriteSome(200);
  for (const int error : {ENOMEM, EAGAIN}) {
    const int before = calls_.rings_made;
    calls_.submit_error = error;
    calls_.submit_errors = 1;
    const Status refused = ReadSome(extents);
    EXPECT_EQ(refused.code(), StatusCode::kIoError) << refused.message();
    EXPECT_TRUE(ReadSome(extents).ok());
    EXPECT_EQ(calls_.rings_made, before + 1);
  }
  // With some in flight: those end, the others have the error.
  calls_.submit_most = 2;
  calls_.refuse_after = 3;
  EXPECT_EQ(ReadSome(extents).code(), StatusCode::kIoError);
  calls_.ring_error = EMFILE;  // and none is to be had any more
  const Status none = ReadSome(extents);
  EXPECT_EQ(none.code(), StatusCode::kIoError) << none.message();
  calls_.ring_error = 0;
  EXPECT_TRUE(ReadSome(extents).ok());
}

TEST_P(DiskStoreTest, WhatRunsTheTransfersIsSaid) {
  const std::string name = store_->transport();
  EXPECT_NE(name.find(GetParam() == Ring::kRefused ? "threads, because" : "io_uring"),
            std::string::npos)
      << name;
}

const auto kName = [](const ::testing::TestParamInfo<Ring>& kind) {
  constexpr const char* kNames[] = {"Threads", "EmulatedRing", "SystemRing"};
  return kNames[static_cast<int>(kind.param)];
};
INSTANTIATE_TEST_SUITE_P(Files,
                         DiskStoreTest,
                         ::testing::Values(Ring::kRefused, Ring::kEmulated, Ring::kSystem),
                         kName);
INSTANTIATE_TEST_SUITE_P(Files,
                         DiskFaultsTest,
                         ::testing::Values(Ring::kRefused, Ring::kEmulated),
                         kName);
INSTANTIATE_TEST_SUITE_P(Files, RingFaultsTest, ::testing::Values(Ring::kEmulated), kName);

}  // namespace
}  // namespace hipattn::offload
