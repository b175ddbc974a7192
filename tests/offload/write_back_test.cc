// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What travels beside ops: fetches of a lease that are awaited later, write-backs that nobody waits
// for, and what becomes of those that fail.
#include "offload/block_lease.h"
#include "tests/emulated/emulated_device.h"
#include "tests/offload/faulty_calls.h"
#include "tests/support/temporary_folder.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

namespace hipattn::offload {
namespace {

constexpr SlotGeometry kGeometry = {16, 64, DType::kBf16};
constexpr uint64_t kBlock = BlockBytes(kGeometry);
constexpr uint32_t kSlab = SlabSlots(kDeviceSlabBytes, kBlock);

class WriteBackTest : public ::testing::Test {
 protected:
  explicit WriteBackTest(bool simulated = true, uint64_t host_bytes = uint64_t{64} << 20)
      : host_budget_(host_bytes, "host_kv_bytes") {
    test::EmulatedOptions options;
    options.simulated_clock = simulated;
    options.device_bytes = options.pinned_bytes = size_t{64} << 20;
    device_ = std::move(test::EmulatedDevice::Create(options).value());
  }

  void Open(DiskStore* disk) {
    cache_ = std::make_unique<BlockCache>(
        device_.get(), BlockCache::Tiers{&device_budget_, &host_budget_, disk}, kGeometry);
    ASSERT_TRUE(cache_->ReserveTail().ok());
  }

  std::byte* Content(uint32_t block) {
    return device::BlockAddress(cache_->view(), cache_->slot(block));
  }

  // New dirty blocks, each full of its number.
  std::vector<uint32_t> Dirty(uint32_t count) {
    std::vector<uint32_t> blocks;
    BlockLease lease(cache_.get());
    for (uint32_t i = 0; i < count; ++i) {
      blocks.push_back(cache_->Create().value());
      EXPECT_TRUE(lease.Add(blocks.back(), BlockLease::Use::kWrite).value());
    }
    EXPECT_TRUE(lease.Load().ok());
    for (const uint32_t block : blocks) {
      std::memset(Content(block), static_cast<int>(block % 251), kBlock);
    }
    return blocks;
  }

  void ExpectContents(const std::vector<uint32_t>& blocks) {
    for (const uint32_t block : blocks) {
      BlockLease lease(cache_.get());
      ASSERT_TRUE(lease.Add(block, BlockLease::Use::kRead).value());
      const Status loaded = lease.Load();
      ASSERT_TRUE(loaded.ok()) << loaded.message();
      EXPECT_EQ(std::to_integer<uint32_t>(Content(block)[0]), block % 251);
      EXPECT_EQ(std::to_integer<uint32_t>(Content(block)[kBlock - 1]), block % 251);
    }
  }

  void ExpectValid() {
    const Status valid = cache_->Validate();
    EXPECT_TRUE(valid.ok()) << valid.message();
  }

  void ReleaseAll(const std::vector<uint32_t>& blocks) {
    for (const uint32_t block : blocks) {
      cache_->Release(block);
    }
    cache_->ReleaseTail();
    EXPECT_EQ(device_budget_.used() + host_budget_.used(), 0U);
  }

  std::unique_ptr<test::EmulatedDevice> device_;
  MemoryBudget device_budget_{2 * kSlab * kBlock};
  MemoryBudget host_budget_;
  std::unique_ptr<BlockCache> cache_;
};

TEST_F(WriteBackTest, NobodyWaitsForItButWhoNeedsTheSlot) {
  Open(nullptr);
  std::vector<uint32_t> blocks = Dirty(kSlab);
  const int64_t begin = device_->clock().now_ns();
  ASSERT_TRUE(cache_->WriteBack(blocks).ok());
  ExpectContents(blocks);  // hits
  EXPECT_EQ(device_->clock().now_ns(), begin);
  ExpectValid();
  const std::vector<uint32_t> more = Dirty(kSlab);  // there is room beside them
  EXPECT_EQ(device_->clock().now_ns(), begin);
  ASSERT_TRUE(cache_->WriteBack(more).ok());
  const std::vector<uint32_t> most = Dirty(kSlab);  // which takes the slots of the first
  EXPECT_GT(device_->clock().now_ns(), begin);
  ASSERT_TRUE(cache_->WriteBack(most).ok());
  EXPECT_EQ(cache_->counts().bytes_device_to_host, 3 * kSlab * kBlock);
  ExpectContents(blocks);
  blocks.insert(blocks.end(), more.begin(), more.end());
  blocks.insert(blocks.end(), most.begin(), most.end());
  ExpectContents(blocks);
  ExpectValid();
  ReleaseAll(blocks);
}

TEST_F(WriteBackTest, ABlockThatIsWrittenAgainWaitsForItsWayHome) {
  Open(nullptr);
  const std::vector<uint32_t> blocks = Dirty(1);
  const int64_t begin = device_->clock().now_ns();
  ASSERT_TRUE(cache_->WriteBack(blocks).ok());
  {
    BlockLease lease(cache_.get());
    ASSERT_TRUE(lease.Add(blocks[0], BlockLease::Use::kWrite).value());
    EXPECT_GT(device_->clock().now_ns(), begin);
    ASSERT_TRUE(lease.Load().ok());
  }
  ExpectValid();
  ASSERT_TRUE(cache_->WriteBack(blocks).ok());
  ReleaseAll(blocks);  // while it is leaving
}

TEST_F(WriteBackTest, AFetchTravelsBesideAnotherLease) {
  Open(nullptr);
  std::vector<uint32_t> blocks;
  for (uint32_t i = 0; i < 4; ++i) {
    const std::vector<uint32_t> some = Dirty(kSlab);
    ASSERT_TRUE(cache_->WriteBack(some).ok());
    blocks.insert(blocks.end(), some.begin(), some.end());
  }
  ASSERT_TRUE(cache_->FinishWriteBacks().ok());
  BlockLease first(cache_.get());
  BlockLease second(cache_.get());
  const auto begin = [&](size_t from, BlockLease* lease) {
    for (size_t i = from; i < from + kSlab / 2; ++i) {
      ASSERT_TRUE(lease->Add(blocks[i], BlockLease::Use::kRead).value());
    }
    ASSERT_TRUE(lease->Begin(BlockMover::Pace::kBeside).ok());
    EXPECT_TRUE(lease->travels());
  };
  const int64_t start = device_->clock().now_ns();
  begin(0, &first);
  begin(kSlab / 4, &second);  // half of it is what the first brings
  EXPECT_EQ(device_->clock().now_ns(), start);
  ASSERT_TRUE(first.Await().ok());
  device_->clock().Advance(1'000'000);
  const int64_t computed = device_->clock().now_ns();
  ASSERT_TRUE(second.Await().ok());
  EXPECT_EQ(device_->clock().now_ns(), computed);
  EXPECT_EQ(cache_->counts().fetched, kSlab * 3U / 4);
  first.Clear();
  second.Clear();
  ExpectValid();
  begin(2 * kSlab, &first);  // and never awaits it
  first.Clear();
  ExpectValid();
  ExpectContents(blocks);
  ReleaseAll(blocks);
}

class DiskWriteBackTest : public WriteBackTest {
 protected:
  DiskWriteBackTest() : WriteBackTest(/*simulated=*/false, /*host_bytes=*/0) {
    disk_ = std::move(DiskStore::Create(&calls_, &disk_budget_, folder_.Path("."), kBlock).value());
  }
  ~DiskWriteBackTest() override { cache_.reset(); }

  test::FaultyCalls calls_{test::FaultyCalls::Ring::kEmulated};
  const test::TemporaryFolder folder_;
  MemoryBudget disk_budget_{uint64_t{64} << 20, "disk_kv_bytes"};
  std::unique_ptr<DiskStore> disk_;
};

TEST_F(DiskWriteBackTest, WhatFailedIsTriedAgainAndNothingIsLost) {
  Open(disk_.get());
  calls_.write_error = ENOSPC;
  std::vector<uint32_t> blocks = Dirty(kSlab);
  ASSERT_TRUE(cache_->WriteBack(blocks).ok());
  const Status finished = cache_->FinishWriteBacks();
  EXPECT_EQ(finished.code(), StatusCode::kIoError) << finished.message();
  ExpectValid();
  const std::vector<uint32_t> more = Dirty(kSlab);
  EXPECT_EQ(cache_->WriteBack(more).code(), StatusCode::kIoError);
  {
    // No slot is left that could be had.
    BlockLease lease(cache_.get());
    EXPECT_EQ(lease.Add(cache_->Create().value(), BlockLease::Use::kWrite).status().code(),
              StatusCode::kIoError);
  }
  ExpectContents(blocks);
  ExpectContents(more);
  cache_->Release(blocks.back());  // one of those that failed
  blocks.pop_back();
  calls_.write_error = 0;
  ASSERT_TRUE(cache_->WriteBack(more).ok());
  ASSERT_TRUE(cache_->FinishWriteBacks().ok());
  ExpectValid();
  blocks.insert(blocks.end(), more.begin(), more.end());
  const std::vector<uint32_t> most = Dirty(kSlab);
  ASSERT_TRUE(cache_->WriteBack(most).ok());
  blocks.insert(blocks.end(), most.begin(), most.end());
  ExpectContents(blocks);
  EXPECT_GT(cache_->counts().fetched, 0U);
}

TEST_F(DiskWriteBackTest, DiskAndOpsGoSideBySide) {
  Open(disk_.get());
  std::vector<uint32_t> blocks;
  for (uint32_t i = 0; i < 40; ++i) {
    const std::vector<uint32_t> some = Dirty(kSlab / 4);
    ASSERT_TRUE(cache_->WriteBack(some).ok());
    blocks.insert(blocks.end(), some.begin(), some.end());
    BlockLease reads(cache_.get());
    for (size_t n = 0; n < kSlab / 2; ++n) {
      ASSERT_TRUE(reads.Add(blocks[(n * 37 + i) % blocks.size()], BlockLease::Use::kRead).value());
    }
    ASSERT_TRUE(reads.Begin(BlockMover::Pace::kBeside).ok());
    ExpectContents(some);
    ASSERT_TRUE(reads.Await().ok());
    for (size_t n = 0; n < kSlab / 2; ++n) {
      const uint32_t block = blocks[(n * 37 + i) % blocks.size()];
      ASSERT_EQ(std::to_integer<uint32_t>(Content(block)[n]), block % 251);
    }
  }
  ASSERT_TRUE(cache_->FinishWriteBacks().ok());
  ExpectContents(blocks);
  ExpectValid();
}

}  // namespace
}  // namespace hipattn::offload
