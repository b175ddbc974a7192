// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "host/executors.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace hipattn::host {
namespace {

class ExecutorTest : public ::testing::TestWithParam<unsigned> {
 protected:
  std::unique_ptr<device::Executor> executor_ = CreateExecutor(GetParam());
};

TEST_P(ExecutorTest, RunsEveryIndexOnce) {
  EXPECT_EQ(executor_->concurrency(), GetParam());
  for (const size_t count : {size_t{0}, size_t{1}, size_t{2}, size_t{1000}}) {
    std::vector<std::atomic<int>> seen(count);
    device::ParallelFor(*executor_, count, [&](size_t i) { seen[i].fetch_add(1); });
    for (size_t i = 0; i < count; ++i) {
      EXPECT_EQ(seen[i].load(), 1) << i << " of " << count;
    }
  }
}

TEST_P(ExecutorTest, WhatTasksWroteIsSeenByTheCaller) {
  std::vector<size_t> squares(5000);
  device::ParallelFor(*executor_, squares.size(), [&](size_t i) { squares[i] = i * i; });
  for (size_t i = 0; i < squares.size(); ++i) {
    ASSERT_EQ(squares[i], i * i);
  }
}

TEST_P(ExecutorTest, NestedCallsFinish) {
  std::atomic<int> leaves{0};
  device::ParallelFor(*executor_, 7, [&](size_t) {
    device::ParallelFor(*executor_, 11, [&](size_t) { leaves.fetch_add(1); });
  });
  EXPECT_EQ(leaves.load(), 77);
}

TEST_P(ExecutorTest, ServesSeveralCallersAtOnce) {
  std::atomic<int> sum{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 3; ++c) {
    callers.emplace_back([&] {
      for (int round = 0; round < 50; ++round) {
        device::ParallelFor(*executor_, 20, [&](size_t) { sum.fetch_add(1); });
      }
    });
  }
  for (std::thread& caller : callers) {
    caller.join();
  }
  EXPECT_EQ(sum.load(), 3 * 50 * 20);
}

INSTANTIATE_TEST_SUITE_P(Threads, ExecutorTest, ::testing::Values(1U, 2U, 5U));

}  // namespace
}  // namespace hipattn::host
