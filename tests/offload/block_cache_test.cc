// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "offload/block_cache.h"

#include "device/registry.h"
#include "offload/block_lease.h"
#include "tests/support/temporary_folder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <vector>

namespace hipattn::offload {
namespace {

constexpr SlotGeometry kGeometry = {16, 64, DType::kBf16};
constexpr uint64_t kBlock = BlockBytes(kGeometry);
constexpr uint32_t kSlab = SlabSlots(kDeviceSlabBytes, kBlock);

class BlockCacheTest : public ::testing::Test {
 protected:
  explicit BlockCacheTest(uint64_t device_slabs = 2)
      : device_budget_(device_slabs * kSlab * kBlock), host_budget_(uint64_t{64} << 20) {}

  // Writes a number all over the block.
  void Write(uint32_t block, uint8_t number, bool full = true) {
    BlockLease lease(&cache_);
    ASSERT_TRUE(lease.Add(block, BlockLease::Use::kWrite).value());
    ASSERT_TRUE(lease.Load().ok());
    std::memset(device::BlockAddress(cache_.view(), cache_.slot(block)), number, kBlock);
    if (full) {
      ASSERT_TRUE(cache_.WriteBack({&block, 1}).ok());
    }
  }

  // Reads it through a slot; the number, when it is everywhere in the block.
  int Read(uint32_t block) {
    BlockLease lease(&cache_);
    EXPECT_TRUE(lease.Add(block, BlockLease::Use::kRead).value());
    EXPECT_TRUE(lease.Load().ok());
    const std::byte* data = device::BlockAddress(cache_.view(), cache_.slot(block));
    return std::all_of(data, data + kBlock, [&](std::byte b) { return b == data[0]; })
               ? std::to_integer<int>(data[0])
               : -1;
  }

  std::unique_ptr<device::Device> device_ = std::move(device::CreateCpuDevice({1, {}}).value());
  MemoryBudget device_budget_;
  MemoryBudget host_budget_;
  BlockCache cache_{device_.get(), {&device_budget_, &host_budget_, nullptr}, kGeometry};
};

TEST_F(BlockCacheTest, BlocksComeBackAsTheyWereAndMoveHomeOnce) {
  ASSERT_TRUE(cache_.ReserveTail().ok());
  std::vector<uint32_t> blocks;
  for (uint32_t i = 0; i < 5 * kSlab; ++i) {
    blocks.push_back(cache_.Create().value());
    Write(blocks.back(), static_cast<uint8_t>(i));
    ASSERT_TRUE(cache_.Validate().ok()) << cache_.Validate().message();
  }
  EXPECT_EQ(cache_.counts().evicted, 3U * kSlab);
  for (uint32_t i = 0; i < blocks.size(); ++i) {
    EXPECT_EQ(Read(blocks[i]), static_cast<uint8_t>(i));
  }
  EXPECT_EQ(cache_.counts().bytes_device_to_host, blocks.size() * kBlock);
  const uint64_t hits = cache_.counts().hits;
  EXPECT_EQ(hits + cache_.counts().fetched, blocks.size());
  EXPECT_EQ(Read(blocks.front()), 0);
  EXPECT_EQ(Read(blocks.front()), 0);
  EXPECT_GT(cache_.counts().hits, hits);
  EXPECT_LE(device_budget_.peak(), device_budget_.limit());
  for (const uint32_t block : blocks) {
    cache_.Release(block);
  }
  cache_.ReleaseTail();
  EXPECT_EQ(device_budget_.used(), 0U);
  EXPECT_EQ(host_budget_.used(), 0U);
}

TEST_F(BlockCacheTest, KeptBlocksAreEvictedLast) {
  ASSERT_TRUE(cache_.ReserveTail().ok());
  std::vector<uint32_t> blocks;
  for (uint32_t i = 0; i < 2 * kSlab; ++i) {
    blocks.push_back(cache_.Create().value());
    Write(blocks.back(), 1);
  }
  cache_.Keep(blocks[0], true);
  cache_.Keep(blocks[5], true);
  cache_.Keep(blocks[5], false);
  for (uint32_t i = 0; i < 2 * kSlab - 1; ++i) {
    blocks.push_back(cache_.Create().value());
    Write(blocks.back(), 2);
  }
  const uint64_t hits = cache_.counts().hits;
  EXPECT_EQ(Read(blocks[0]), 1);
  EXPECT_EQ(cache_.counts().hits, hits + 1);
  EXPECT_EQ(Read(blocks[5]), 1);
  EXPECT_EQ(cache_.counts().hits, hits + 1);
  EXPECT_TRUE(cache_.Validate().ok());
}

TEST_F(BlockCacheTest, ALeaseThatDoesNotFitChangesNothing) {
  ASSERT_TRUE(cache_.ReserveTail().ok());
  const uint32_t tail = cache_.Create().value();
  Write(tail, 9, false);
  std::vector<uint32_t> blocks;
  for (uint32_t i = 0; i < 2 * kSlab; ++i) {
    blocks.push_back(cache_.Create().value());
    Write(blocks.back(), 3);
  }
  BlockLease lease(&cache_);
  for (uint32_t i = 0; i + 1 < 2 * kSlab; ++i) {
    ASSERT_TRUE(lease.Add(blocks[i], BlockLease::Use::kRead).value()) << i;
  }
  EXPECT_FALSE(lease.Add(blocks.back(), BlockLease::Use::kRead).value());
  lease.Rewind(10);
  ASSERT_TRUE(lease.Add(blocks.back(), BlockLease::Use::kRead).value());
  ASSERT_TRUE(lease.Load().ok());
  lease.Clear();
  EXPECT_TRUE(cache_.Validate().ok()) << cache_.Validate().message();
  EXPECT_EQ(Read(blocks.back()), 3);
  EXPECT_EQ(Read(tail), 9);
  EXPECT_FALSE(lease.Add(cache_.Create().value(), BlockLease::Use::kRead).ok());
}

TEST_F(BlockCacheTest, AStoredBlockThatIsWrittenGoesHomeAgain) {
  ASSERT_TRUE(cache_.ReserveTail().ok());
  const uint32_t block = cache_.Create().value();
  Write(block, 1);
  std::vector<uint32_t> others;
  for (uint32_t i = 0; i < 2 * kSlab; ++i) {
    others.push_back(cache_.Create().value());
    Write(others.back(), 2);
  }
  {
    BlockLease lease(&cache_);
    ASSERT_TRUE(lease.Add(block, BlockLease::Use::kWrite).value());
    ASSERT_TRUE(lease.Load().ok());
    std::byte* data = device::BlockAddress(cache_.view(), cache_.slot(block));
    EXPECT_EQ(std::to_integer<int>(data[7]), 1);  // what was there came back
    std::memset(data, 5, kBlock);
  }
  std::vector<std::byte> content(kBlock);
  ASSERT_TRUE(cache_.ReadContent({&block, 1}, content.data()).ok());
  EXPECT_EQ(std::to_integer<int>(content[0]), 5);  // not the old content at home
  ASSERT_TRUE(cache_.WriteBack({&block, 1}).ok());
  for (const uint32_t other : others) {
    EXPECT_EQ(Read(other), 2);
  }
  EXPECT_EQ(Read(block), 5);
}

TEST_F(BlockCacheTest, LendsWhatIsNotPromised) {
  ASSERT_TRUE(cache_.ReserveTail().ok());
  ASSERT_TRUE(cache_.RaiseFloor(10).ok());
  EXPECT_EQ(cache_.RaiseFloor(2 * kSlab).code(), StatusCode::kOutOfBudget);
  const uint32_t tail = cache_.Create().value();
  std::vector<uint32_t> blocks;
  for (uint32_t i = 0; i < 2 * kSlab; ++i) {
    if (i == kSlab + 3) {
      Write(tail, 7, false);
    }
    blocks.push_back(cache_.Create().value());
    Write(blocks.back(), 4);
  }
  EXPECT_EQ(device_budget_.used(), device_budget_.limit());
  EXPECT_TRUE(device_budget_.Charge(100).ok());
  EXPECT_TRUE(cache_.Validate().ok()) << cache_.Validate().message();
  EXPECT_EQ(device_budget_.Charge(kSlab * kBlock).code(), StatusCode::kOutOfBudget);
  EXPECT_EQ(Read(tail), 7);
  for (const uint32_t block : blocks) {
    EXPECT_EQ(Read(block), 4);
  }
}

TEST_F(BlockCacheTest, AFullHostTierIsATypedErrorThatChangesNothing) {
  MemoryBudget host(kHostSlabBytes * 2, "host_kv_bytes");
  BlockCache small(device_.get(), {&device_budget_, &host, nullptr}, kGeometry);
  std::vector<uint32_t> blocks;
  for (;;) {
    Result<uint32_t> block = small.Create();
    if (!block.ok()) {
      EXPECT_EQ(block.status().code(), StatusCode::kOutOfBudget);
      EXPECT_NE(block.status().message().find("host_kv_bytes"), std::string::npos);
      break;
    }
    blocks.push_back(*block);
  }
  EXPECT_EQ(blocks.size(), SlabSlots(kHostSlabBytes, kBlock));
  small.Release(blocks.back());
  EXPECT_TRUE(small.Create().ok());
}

// What the host tier has no room for goes to disk.
TEST_F(BlockCacheTest, BlocksComeBackFromDisk) {
  const test::TemporaryFolder folder;
  MemoryBudget host(kHostSlabBytes * 3 / 2, "host_kv_bytes");
  MemoryBudget disk(uint64_t{16} << 20, "disk_kv_bytes");
  const auto store =
      std::move(DiskStore::Create(&SystemFileCalls(), &disk, folder.Path("."), kBlock).value());
  BlockCache cache(device_.get(), {&device_budget_, &host, store.get()}, kGeometry);
  ASSERT_TRUE(cache.ReserveTail().ok());
  const uint32_t in_host = SlabSlots(kHostSlabBytes, kBlock);
  std::vector<uint32_t> blocks;
  std::vector<std::byte> content(kBlock);
  for (uint32_t i = 0; i < in_host + 300; ++i) {
    blocks.push_back(cache.Create().value());
    std::fill(content.begin(), content.end(), static_cast<std::byte>(i * 7));
    if (i % 5 == 0) {
      ASSERT_TRUE(cache.Restore({&blocks[i], 1}, content.data()).ok());
      continue;
    }
    BlockLease lease(&cache);
    ASSERT_TRUE(lease.Add(blocks[i], BlockLease::Use::kWrite).value());
    ASSERT_TRUE(lease.Load().ok());
    std::memcpy(device::BlockAddress(cache.view(), cache.slot(blocks[i])), content.data(), kBlock);
    ASSERT_TRUE(cache.WriteBack({&blocks[i], 1}).ok());
  }
  ASSERT_TRUE(cache.FinishWriteBacks().ok());
  EXPECT_EQ(disk.used(), 300 * ExtentBytes(kBlock));
  ASSERT_TRUE(cache.Validate().ok()) << cache.Validate().message();
  for (uint32_t first = 0; first < blocks.size(); first += 100) {
    BlockLease lease(&cache);
    const uint32_t end = std::min<uint32_t>(first + 100, static_cast<uint32_t>(blocks.size()));
    for (uint32_t i = first; i < end; ++i) {
      ASSERT_TRUE(lease.Add(blocks[i], BlockLease::Use::kRead).value());
    }
    ASSERT_TRUE(lease.Load().ok());
    for (uint32_t i = first; i < end; ++i) {
      const std::byte* data = device::BlockAddress(cache.view(), cache.slot(blocks[i]));
      ASSERT_EQ(data[kBlock - 1], static_cast<std::byte>(i * 7)) << i;
    }
  }
  ASSERT_TRUE(cache.ReadContent({&blocks.back(), 1}, content.data()).ok());
  EXPECT_EQ(content[9], static_cast<std::byte>((blocks.size() - 1) * 7));
  EXPECT_GE(store->bytes_read(), 300 * ExtentBytes(kBlock));
  for (const uint32_t block : blocks) {
    cache.Release(block);
  }
  cache.ReleaseTail();
  EXPECT_EQ(disk.used() + host.used() + device_budget_.used(), 0U);
}

// Random operations beside a map of what every block should hold.
TEST_F(BlockCacheTest, AgreesWithAMapOverRandomOperations) {
  std::mt19937 random(5);
  const auto below = [&](size_t n) { return static_cast<size_t>(random()) % n; };
  std::map<uint32_t, std::pair<uint8_t, uint32_t>> live;  // content, holders
  uint32_t tails = 0;
  uint64_t charged = 0;
  for (int step = 0; step < 20'000; ++step) {
    auto some = live.begin();
    std::advance(some, live.empty() ? 0 : below(live.size()));
    switch (below(8)) {
      case 0:
      case 1:
        if (live.size() < 5 * kSlab && (tails > 0 || cache_.ReserveTail().ok())) {
          tails = std::max(tails, 1U);
          const uint32_t block = cache_.Create().value();
          live[block] = {static_cast<uint8_t>(random()), 1};
          Write(block, live[block].first);
        }
        break;
      case 2:
        if (!live.empty()) {
          some->second.first = static_cast<uint8_t>(random());
          Write(some->first, some->second.first);
        }
        break;
      case 3:
        if (!live.empty()) {
          cache_.Release(some->first);
          if (--some->second.second == 0) {
            live.erase(some);
          }
        }
        break;
      case 4:
        if (!live.empty() && below(4) == 0) {
          cache_.Retain(some->first);
          ++some->second.second;
        }
        break;
      case 5:
        if (!live.empty()) {
          cache_.Keep(some->first, below(2) == 0);
        }
        break;
      case 6:
        if (charged != 0) {
          device_budget_.Release(charged);
          charged = 0;
        } else if (device_budget_.Charge(10'000).ok()) {
          charged = 10'000;
        }
        break;
      default:
        if (!live.empty()) {
          ASSERT_EQ(Read(some->first), some->second.first) << step;
        }
    }
    ASSERT_LE(device_budget_.used(), device_budget_.limit());
    if (step % 64 == 0) {
      ASSERT_TRUE(cache_.Validate().ok()) << step << ": " << cache_.Validate().message();
    }
  }
  EXPECT_GT(cache_.counts().fetched, 500U);
  for (const auto& [block, content] : live) {
    EXPECT_EQ(Read(block), content.first);
    for (uint32_t i = 0; i < content.second; ++i) {
      cache_.Release(block);
    }
  }
  if (tails > 0) {
    cache_.ReleaseTail();
  }
  device_budget_.Release(charged);
  EXPECT_EQ(device_budget_.used(), 0U);
  EXPECT_EQ(host_budget_.used(), 0U);
}

}  // namespace
}  // namespace hipattn::offload
