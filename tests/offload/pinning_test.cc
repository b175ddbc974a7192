// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// A host tier on a device that pins less than all of it: what is beyond is ordinary memory, whose
// blocks travel through staging memory that is pinned. The device refuses copies of anything else.
#include "offload/block_lease.h"
#include "tests/emulated/emulated_device.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace hipattn::offload {
namespace {

constexpr SlotGeometry kGeometry = {16, 64, DType::kBf16};
constexpr uint64_t kBlock = BlockBytes(kGeometry);
constexpr uint32_t kDeviceSlab = SlabSlots(kDeviceSlabBytes, kBlock);
constexpr uint32_t kHostSlab = SlabSlots(kHostSlabBytes, kBlock);
constexpr size_t kStaging = size_t{2} * 128 * kBlock;  // both ways
constexpr size_t kSlabBytes = kHostSlab * kBlock;
constexpr size_t kSlabs = 4;

struct Limits {
  size_t pinned_bytes;        // as the device says
  size_t refused_beyond;      // as it turns out
  size_t pinned_slabs;        // that the tier gets
  bool pinned_copies = true;  // no other is allowed
};

class PinningTest : public ::testing::TestWithParam<Limits> {
 protected:
  PinningTest() {
    test::EmulatedOptions options;
    options.device_bytes = size_t{16} << 20;
    options.pinned_bytes = GetParam().pinned_bytes;
    options.refused_pins_beyond_bytes = GetParam().refused_beyond;
    options.copies_pinned_memory_only = GetParam().pinned_copies;
    options.jitter_ns = 20'000;
    device_ = std::move(test::EmulatedDevice::Create(options).value());
    log_ = std::make_unique<Logger>(
        LogSink{[](void* to, int32_t /*level*/, const char* message) {
                  static_cast<std::vector<std::string>*>(to)->emplace_back(message);
                },
                &messages_});
    cache_ = std::make_unique<BlockCache>(
        device_.get(),
        BlockCache::Tiers{&device_budget_, &host_budget_, nullptr, log_.get()},
        kGeometry);
    EXPECT_TRUE(cache_->ReserveTail().ok());
  }

  std::byte* Content(uint32_t block) {
    return device::BlockAddress(cache_->view(), cache_->slot(block));
  }

  // New blocks, each full of its number, on their way home.
  void Write(uint32_t count, std::vector<uint32_t>* blocks) {
    std::vector<uint32_t> fresh;
    {
      BlockLease lease(cache_.get());
      for (uint32_t i = 0; i < count; ++i) {
        fresh.push_back(cache_->Create().value());
        ASSERT_TRUE(lease.Add(fresh.back(), BlockLease::Use::kWrite).value());
      }
      ASSERT_TRUE(lease.Load().ok());
      for (const uint32_t block : fresh) {
        std::memset(Content(block), static_cast<int>(block % 251), kBlock);
      }
    }
    ASSERT_TRUE(cache_->WriteBack(fresh).ok());
    blocks->insert(blocks->end(), fresh.begin(), fresh.end());
  }

  void ExpectContents(std::span<const uint32_t> blocks) {
    for (size_t done = 0; done < blocks.size(); done += kDeviceSlab) {
      BlockLease lease(cache_.get());
      const size_t end = std::min(blocks.size(), done + kDeviceSlab);
      for (size_t i = done; i < end; ++i) {
        ASSERT_TRUE(lease.Add(blocks[i], BlockLease::Use::kRead).value());
      }
      const Status loaded = lease.Load();
      ASSERT_TRUE(loaded.ok()) << loaded.message();
      for (size_t i = done; i < end; ++i) {
        const std::byte* const data = Content(blocks[i]);
        const auto number = static_cast<std::byte>(blocks[i] % 251);
        ASSERT_TRUE(std::all_of(data, data + kBlock, [&](std::byte b) { return b == number; }))
            << "block " << blocks[i];
      }
    }
  }

  std::unique_ptr<test::EmulatedDevice> device_;
  MemoryBudget device_budget_{2 * kDeviceSlab * kBlock};
  MemoryBudget host_budget_{uint64_t{64} << 20, "host_kv_bytes"};
  std::vector<std::string> messages_;
  std::unique_ptr<Logger> log_;
  std::unique_ptr<BlockCache> cache_;
};

TEST_P(PinningTest, BlocksComeBackFromPinnedAndOtherMemory) {
  const size_t ordinary = kSlabs - GetParam().pinned_slabs;
  std::vector<uint32_t> blocks;
  for (uint32_t i = 0; i < kSlabs * kHostSlab / kDeviceSlab; ++i) {
    Write(kDeviceSlab, &blocks);
  }
  ASSERT_TRUE(cache_->FinishWriteBacks().ok());
  EXPECT_TRUE(cache_->Validate().ok());
  EXPECT_EQ(cache_->ordinary_bytes(), ordinary * kHostSlab * (kBlock + kBlockRecordBytes));
  EXPECT_EQ(host_budget_.used(), kSlabs * kHostSlab * (kBlock + kBlockRecordBytes));
  EXPECT_LE(device_->bytes_in_use(device::MemoryKind::kPinned),
            std::min(GetParam().pinned_bytes, GetParam().refused_beyond));
  EXPECT_EQ(messages_.size(), ordinary > 0 ? 1U : 0U);
  ExpectContents(blocks);
  // Blocks of all slabs in one transfer, both ways, neighbours and not.
  std::vector<uint32_t> mixed;
  for (uint32_t i = 0; i < kDeviceSlab; ++i) {
    mixed.push_back(blocks[(size_t{i} * 331) % blocks.size()]);
  }
  ExpectContents(mixed);
  EXPECT_EQ(cache_->counts().bytes_device_to_host, blocks.size() * kBlock);
  EXPECT_TRUE(cache_->Validate().ok());
  for (const uint32_t block : blocks) {
    cache_->Release(block);
  }
  cache_->ReleaseTail();
  EXPECT_EQ(host_budget_.used(), 0U);
  EXPECT_EQ(cache_->ordinary_bytes(), 0U);
}

TEST_P(PinningTest, PinnedMemoryThatWasGivenBackIsTakenAgain) {
  std::vector<uint32_t> blocks;
  for (int round = 0; round < 2; ++round) {
    blocks.clear();
    for (uint32_t i = 0; i < kSlabs * kHostSlab; ++i) {
      blocks.push_back(cache_->Create().value());
    }
    EXPECT_EQ(cache_->ordinary_bytes(),
              (kSlabs - GetParam().pinned_slabs) * kHostSlab * (kBlock + kBlockRecordBytes));
    for (const uint32_t block : blocks) {
      cache_->Release(block);
    }
    cache_->ReleaseTail();
    EXPECT_EQ(cache_->ordinary_bytes(), 0U);
    ASSERT_TRUE(cache_->ReserveTail().ok());
  }
}

INSTANTIATE_TEST_SUITE_P(
    Limits,
    PinningTest,
    ::testing::Values(Limits{size_t{64} << 20, SIZE_MAX, kSlabs},
                      Limits{kStaging + kSlabBytes, SIZE_MAX, 1},
                      Limits{kStaging + 3 * kSlabBytes - 1, SIZE_MAX, 2},
                      Limits{kStaging, SIZE_MAX, 0},
                      Limits{size_t{64} << 20, kStaging + 2 * kSlabBytes, 2},  // refused early
                      Limits{0, SIZE_MAX, 0, /*pinned_copies=*/false}),
    [](const ::testing::TestParamInfo<Limits>& param) {
      return "case_" + std::to_string(param.index);
    });

}  // namespace
}  // namespace hipattn::offload
