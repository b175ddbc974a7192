// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "offload/slot_pool.h"

#include "device/registry.h"
#include "offload/memory_budget.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <thread>
#include <vector>

namespace hipattn::offload {
namespace {

TEST(MemoryBudgetTest, RefusesWhatDoesNotFitAndChargesNothing) {
  MemoryBudget budget(100);
  EXPECT_TRUE(budget.Charge(60).ok());
  const Status status = budget.Charge(41);
  EXPECT_EQ(status.code(), StatusCode::kOutOfBudget);
  EXPECT_NE(status.message().find("100"), std::string::npos) << status.message();
  EXPECT_EQ(budget.used(), 60U);
  EXPECT_TRUE(budget.Charge(40).ok());
  EXPECT_EQ(budget.Charge(UINT64_MAX).code(), StatusCode::kOutOfBudget);
}

TEST(MemoryBudgetTest, PeakStaysUntilReset) {
  MemoryBudget budget(100);
  ASSERT_TRUE(budget.Charge(70).ok());
  budget.Release(50);
  EXPECT_EQ(budget.used(), 20U);
  EXPECT_EQ(budget.peak(), 70U);
  budget.ResetPeak();
  EXPECT_EQ(budget.peak(), 20U);
}

class SlotPoolTest : public ::testing::Test {
 protected:
  std::unique_ptr<device::Device> device_ = std::move(device::CreateCpuDevice({1, {}}).value());
  const SlotGeometry geometry_ = {16, 64, DType::kBf16};
};

TEST_F(SlotPoolTest, RunsAreDisjointAlignedAndReusedOnceTheLastHolderIsGone) {
  MemoryBudget budget(uint64_t{1} << 30);
  SlotPool pool(device_.get(), &budget, geometry_);
  const uint32_t first = pool.TakeRun().value();
  const uint32_t second = pool.TakeRun().value();
  EXPECT_EQ(first % kRunSlots, 0U);
  EXPECT_NE(first, second);
  EXPECT_EQ(budget.used(), 2 * pool.run_bytes());
  const device::BlockPool view = pool.view();
  EXPECT_EQ(reinterpret_cast<uintptr_t>(device::BlockAddress(view, first)) % 64, 0U);
  EXPECT_EQ(device::BlockAddress(view, first + 1) - device::BlockAddress(view, first),
            static_cast<ptrdiff_t>(view.block_bytes));

  pool.Retain(first);
  pool.Release(first);
  EXPECT_EQ(budget.used(), 2 * pool.run_bytes());
  pool.Release(first);
  EXPECT_EQ(budget.used(), pool.run_bytes());
  EXPECT_EQ(pool.TakeRun().value(), first);
}

TEST_F(SlotPoolTest, BudgetIsTheLimit) {
  MemoryBudget budget(3 * kRunSlots * BlockBytes(geometry_) + 1);
  SlotPool pool(device_.get(), &budget, geometry_);
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(pool.TakeRun().ok());
  }
  EXPECT_EQ(pool.TakeRun().status().code(), StatusCode::kOutOfBudget);
}

TEST_F(SlotPoolTest, AddressesStayWhileSlabsAreAdded) {
  MemoryBudget budget(uint64_t{1} << 40);
  SlotPool pool(device_.get(), &budget, {64, 256, DType::kF32});
  const uint32_t first = pool.TakeRun().value();
  const device::BlockPool early = pool.view();
  const std::byte* address = device::BlockAddress(early, first);
  std::set<uint32_t> runs = {first};
  for (int i = 0; i < 600; ++i) {  // 20 slabs: the table of slabs grows
    EXPECT_TRUE(runs.insert(pool.TakeRun().value()).second);
  }
  EXPECT_EQ(device::BlockAddress(pool.view(), first), address);
  EXPECT_EQ(device::BlockAddress(early, first), address);
}

TEST_F(SlotPoolTest, ManyThreadsNeverGetTheSameRun) {
  MemoryBudget budget(uint64_t{1} << 30);
  SlotPool pool(device_.get(), &budget, geometry_);
  std::vector<std::vector<uint32_t>> taken(4);
  std::vector<std::thread> threads;
  for (std::vector<uint32_t>& mine : taken) {
    threads.emplace_back([&pool, &mine] {
      for (int i = 0; i < 200; ++i) {
        mine.push_back(pool.TakeRun().value());
        if (i % 3 == 0) {
          pool.Release(mine.back());
          mine.pop_back();
        }
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  std::set<uint32_t> all;
  size_t count = 0;
  for (const std::vector<uint32_t>& mine : taken) {
    all.insert(mine.begin(), mine.end());
    count += mine.size();
  }
  EXPECT_EQ(all.size(), count);
  EXPECT_EQ(budget.used(), count * pool.run_bytes());
}

}  // namespace
}  // namespace hipattn::offload
