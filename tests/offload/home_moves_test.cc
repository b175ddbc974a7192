// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Blocks that move between host memory and disk: what is wanted rises, what is not is written once,
// and no content or byte of a budget is lost on the way.
#include "offload/block_lease.h"
#include "tests/emulated/emulated_device.h"
#include "tests/offload/faulty_calls.h"
#include "tests/support/temporary_folder.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <utility>
#include <vector>

namespace hipattn::offload {
namespace {

constexpr SlotGeometry kGeometry = {16, 64, DType::kBf16};
constexpr uint64_t kBlock = BlockBytes(kGeometry);
constexpr uint32_t kSlots = SlabSlots(kDeviceSlabBytes, kBlock);
constexpr uint32_t kInHost = SlabSlots(kHostSlabBytes, kBlock);
constexpr uint32_t kOnDisk = 300;

class HomeMovesTest : public ::testing::Test {
 protected:
  HomeMovesTest() {
    test::EmulatedOptions options;
    options.device_bytes = options.pinned_bytes = size_t{64} << 20;
    device_ = std::move(test::EmulatedDevice::Create(options).value());
  }
  ~HomeMovesTest() override { cache_.reset(); }

  // A slab on the device and in the host, so many extents.
  void Open(uint32_t extents) {
    disk_budget_ = std::make_unique<MemoryBudget>(extents * ExtentBytes(kBlock), "disk_kv_bytes");
    disk_ = std::move(
        DiskStore::Create(&calls_, disk_budget_.get(), folder_.Path("."), kBlock).value());
    cache_ = std::make_unique<BlockCache>(
        device_.get(), BlockCache::Tiers{&device_budget_, &host_budget_, disk_.get()}, kGeometry);
    ASSERT_TRUE(cache_->ReserveTail().ok());
  }

  std::byte* Content(uint32_t block) {
    return device::BlockAddress(cache_->view(), cache_->slot(block));
  }

  void Write(uint32_t block, uint8_t content) {
    contents_[block] = content;
    BlockLease lease(cache_.get());
    ASSERT_TRUE(lease.Add(block, BlockLease::Use::kWrite).value());
    ASSERT_TRUE(lease.Load().ok());
    std::memset(Content(block), content, kBlock);
    ASSERT_TRUE(cache_->WriteBack({&block, 1}).ok());
  }

  uint32_t WriteNew() {
    Result<uint32_t> block = cache_->Create();
    EXPECT_TRUE(block.ok()) << block.status().message();
    Write(*block, static_cast<uint8_t>(*block * 7 + 1));
    return *block;
  }

  // The host tier full, the others on disk.
  std::vector<uint32_t> Fill(uint32_t on_disk) {
    std::vector<uint32_t> blocks;
    for (uint32_t i = 0; i < kInHost + on_disk; ++i) {
      blocks.push_back(WriteNew());
    }
    EXPECT_TRUE(cache_->FinishWriteBacks().ok());
    EXPECT_EQ(disk_budget_->used(), on_disk * ExtentBytes(kBlock));
    return blocks;
  }

  void Read(const std::vector<uint32_t>& blocks) {
    BlockLease lease(cache_.get());
    for (const uint32_t block : blocks) {
      ASSERT_TRUE(lease.Add(block, BlockLease::Use::kRead).value());
    }
    ASSERT_TRUE(lease.Load().ok());
    for (const uint32_t block : blocks) {
      ASSERT_EQ(std::to_integer<uint8_t>(Content(block)[0]), contents_[block]) << block;
      ASSERT_EQ(std::to_integer<uint8_t>(Content(block)[kBlock - 1]), contents_[block]) << block;
    }
  }

  // In turn, more blocks than the device holds.
  void ReadInTurn(const std::vector<uint32_t>& blocks, uint32_t rounds) {
    for (uint32_t round = 0; round < rounds; ++round) {
      for (size_t first = 0; first < blocks.size(); first += kSlots / 2) {
        const size_t end = std::min<size_t>(blocks.size(), first + kSlots / 2);
        Read({blocks.begin() + static_cast<std::ptrdiff_t>(first),
              blocks.begin() + static_cast<std::ptrdiff_t>(end)});
      }
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
    EXPECT_EQ(device_budget_.used() + host_budget_.used() + disk_budget_->used(), 0U);
  }

  test::FaultyCalls calls_{test::FaultyCalls::Ring::kEmulated};
  const test::TemporaryFolder folder_;
  std::unique_ptr<test::EmulatedDevice> device_;
  MemoryBudget device_budget_{kSlots * kBlock};
  MemoryBudget host_budget_{kHostSlabBytes * 3 / 2, "host_kv_bytes"};
  std::unique_ptr<MemoryBudget> disk_budget_;
  std::unique_ptr<DiskStore> disk_;
  std::unique_ptr<BlockCache> cache_;
  std::map<uint32_t, uint8_t> contents_;
};

TEST_F(HomeMovesTest, WhatIsWantedRisesAndIsReadFromDiskNoMore) {
  Open(kInHost + kOnDisk);
  std::vector<uint32_t> blocks = Fill(kOnDisk);
  const std::vector<uint32_t> wanted(blocks.end() - 2 * kSlots, blocks.end());
  ReadInTurn(wanted, 40);
  ExpectValid();
  EXPECT_GE(cache_->counts().raised, wanted.size());
  EXPECT_GE(cache_->counts().lowered, wanted.size());
  // Everything that was written: each block home, and no block of the host tier down twice.
  const uint64_t written = disk_->bytes_written();
  EXPECT_EQ(written, (kOnDisk + cache_->counts().lowered) * ExtentBytes(kBlock));
  EXPECT_LE(cache_->counts().lowered, kInHost);
  const uint64_t read = disk_->bytes_read();
  ReadInTurn(wanted, 3);
  EXPECT_EQ(disk_->bytes_read(), read);
  EXPECT_LE(host_budget_.peak(), kHostSlabBytes * 3 / 2);
  ReadInTurn(blocks, 1);
  ExpectValid();
  ReleaseAll(blocks);
}

TEST_F(HomeMovesTest, ASpareGivesWayToANewBlock) {
  const uint32_t extents = kOnDisk + 50;
  Open(extents);
  std::vector<uint32_t> blocks = Fill(kOnDisk);
  ReadInTurn({blocks.end() - 2 * kSlots, blocks.end()}, 20);
  EXPECT_EQ(cache_->counts().lowered, 50U);  // as many as there was room for
  EXPECT_GT(disk_budget_->used(), kOnDisk * ExtentBytes(kBlock));
  while (blocks.size() < kInHost + extents) {
    blocks.push_back(WriteNew());
  }
  EXPECT_EQ(cache_->Create().status().code(), StatusCode::kOutOfBudget);
  ASSERT_TRUE(cache_->FinishWriteBacks().ok());
  ExpectValid();
  ReadInTurn(blocks, 1);
  ReleaseAll(blocks);
}

TEST_F(HomeMovesTest, ABlockThatIsWrittenAgainHasOneHome) {
  Open(kInHost + kOnDisk);
  const std::vector<uint32_t> blocks = Fill(kOnDisk);
  const std::vector<uint32_t> wanted(blocks.end() - 2 * kSlots, blocks.end());
  for (uint8_t round = 0; round < 12; ++round) {
    ReadInTurn(wanted, 4);
    for (size_t i = round; i < wanted.size(); i += 5) {
      Write(wanted[i], static_cast<uint8_t>(100 + round + i));
    }
    for (size_t i = round; i < kInHost; i += 31) {  // some of which are on their way down
      Write(blocks[i], static_cast<uint8_t>(50 + round + i));
    }
    ASSERT_TRUE(cache_->FinishWriteBacks().ok());
    ExpectValid();
  }
  EXPECT_GT(cache_->counts().raised, 0U);
  ReadInTurn(blocks, 2);
  ReleaseAll(blocks);
}

TEST_F(HomeMovesTest, ADiskThatRefusesMovesNothing) {
  Open(kInHost + kOnDisk);
  const std::vector<uint32_t> blocks = Fill(kOnDisk);
  calls_.write_error = ENOSPC;
  ReadInTurn({blocks.end() - 2 * kSlots, blocks.end()}, 20);
  EXPECT_EQ(cache_->counts().lowered + cache_->counts().raised, 0U);
  ExpectValid();
  calls_.write_error = 0;
  ReadInTurn(blocks, 1);
  EXPECT_EQ(disk_budget_->used(), kOnDisk * ExtentBytes(kBlock));
  ReleaseAll(blocks);
}

TEST_F(HomeMovesTest, AFetchThatFailsRaisesNothing) {
  Open(kInHost + kOnDisk);
  const std::vector<uint32_t> blocks = Fill(kOnDisk);
  const std::vector<uint32_t> wanted(blocks.end() - 2 * kSlots, blocks.end());
  ReadInTurn(wanted, 2);
  for (int round = 0; round < 20; ++round) {
    calls_.read_error = EIO;
    {
      BlockLease lease(cache_.get());
      for (size_t i = 0; i < kSlots / 2; ++i) {
        ASSERT_TRUE(lease.Add(wanted[i], BlockLease::Use::kRead).value());
      }
      const Status loaded = lease.Load();
      EXPECT_TRUE(loaded.ok() || loaded.code() == StatusCode::kIoError) << loaded.message();
    }
    calls_.read_error = 0;
    ExpectValid();
    ReadInTurn(wanted, 1);
  }
  EXPECT_GT(cache_->counts().raised, 0U);
  ReleaseAll(blocks);
}

TEST_F(HomeMovesTest, RandomOperationsLoseNothing) {
  Open(kOnDisk);
  std::vector<uint32_t> blocks;
  std::mt19937 random(11);
  const auto below = [&](size_t n) { return static_cast<size_t>(random()) % n; };
  for (int step = 0; step < 4000; ++step) {
    const size_t kind = below(10);
    if (blocks.size() < kSlots || (kind < 3 && blocks.size() < kInHost + kOnDisk)) {
      for (size_t i = 0; i < 8 && blocks.size() < kInHost + kOnDisk; ++i) {
        blocks.push_back(WriteNew());
      }
    } else if (kind == 3 && step % 7 == 0) {
      for (size_t i = 0; i < blocks.size() / 2; ++i) {
        std::swap(blocks[below(blocks.size())], blocks.back());
        cache_->Release(blocks.back());
        blocks.pop_back();
      }
    } else if (kind == 4) {
      Write(blocks[below(blocks.size())], static_cast<uint8_t>(random()));
    } else {
      // Mostly the same ones.
      std::vector<uint32_t> some;
      const size_t range = below(4) == 0 ? blocks.size() : std::min(blocks.size(), size_t{120});
      for (size_t i = 0; i < kSlots / 2; ++i) {
        some.push_back(blocks[blocks.size() - 1 - below(range)]);
      }
      Read(some);
    }
    if (step % 50 == 0) {
      ASSERT_TRUE(cache_->FinishWriteBacks().ok());
      ExpectValid();
    }
    ASSERT_FALSE(HasFailure()) << step;
  }
  EXPECT_GT(cache_->counts().raised, 100U);
  EXPECT_GT(cache_->counts().lowered, 100U);
  ReleaseAll(blocks);
}

}  // namespace
}  // namespace hipattn::offload
