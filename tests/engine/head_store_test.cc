// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "engine/head_store.h"

#include "device/registry.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>

namespace hipattn::engine {
namespace {

class HeadStoreTest : public ::testing::Test {
 protected:
  HeadStoreTest() { context_ = {&pool_, &memory_, 16, 64, true, true}; }

  std::byte* Block(const HeadStore& store, size_t block) {
    return device::BlockAddress(pool_.view(), store.slots()[block]);
  }

  std::unique_ptr<device::Device> device_ = std::move(device::CreateCpuDevice({1, {}}).value());
  offload::MemoryBudget budget_{uint64_t{64} << 20};
  IndexMemory memory_{device_.get(), &budget_};
  offload::SlotPool pool_{device_.get(), &budget_, {16, 64, DType::kBf16}};
  StoreContext context_;
};

TEST_F(HeadStoreTest, TrimGivesEverythingBack) {
  {
    HeadStore store;
    ASSERT_TRUE(store.MakeRoom(context_, 0, 20000).ok());
    EXPECT_GE(store.room_blocks(), 1250U);
    EXPECT_GT(memory_.bytes(), 0U);
    store.Trim(context_, 0);
    EXPECT_EQ(budget_.used(), memory_.bytes());  // slots are back, tables still there
  }
  EXPECT_EQ(budget_.used(), 0U);
}

TEST_F(HeadStoreTest, IndexIsAtMostFourPercentOfTheKv) {
  HeadStore store;
  const uint64_t tokens = 128 * 1024 + 16;  // just past a node of every level
  ASSERT_TRUE(store.MakeRoom(context_, 0, tokens).ok());
  const uint64_t kv = tokens / 16 * offload::BlockBytes({16, 64, DType::kBf16});
  EXPECT_LE(static_cast<double>(memory_.bytes()), 0.04 * static_cast<double>(kv));
  store.Trim(context_, 0);
}

TEST_F(HeadStoreTest, RoomThatDoesNotFitLeavesTheContent) {
  HeadStore store;
  ASSERT_TRUE(store.MakeRoom(context_, 0, 100).ok());
  std::memset(Block(store, 0), 0x11, 64);
  const uint64_t used = budget_.used();
  EXPECT_EQ(store.MakeRoom(context_, 100, uint64_t{1} << 24).code(), StatusCode::kOutOfBudget);
  store.Trim(context_, 100);
  EXPECT_LE(budget_.used(), used + 4096);  // tables may stay longer than before
  EXPECT_EQ(*Block(store, 0), std::byte{0x11});
  store.Trim(context_, 0);
}

TEST_F(HeadStoreTest, ForkSharesBlocksAndTheFirstWriterCopiesTheLast) {
  HeadStore parent;
  ASSERT_TRUE(parent.MakeRoom(context_, 0, 40).ok());
  parent.MarkSummarized(2);
  for (size_t b = 0; b < 3; ++b) {
    std::memset(Block(parent, b), static_cast<int>(b) + 1, 4096);
  }
  HeadStore child;
  ASSERT_TRUE(child.ShareFrom(context_, parent, 40).ok());
  for (size_t b = 0; b < 3; ++b) {
    EXPECT_EQ(child.slots()[b], parent.slots()[b]);
  }
  ASSERT_TRUE(child.MakeRoom(context_, 40, 41).ok());
  EXPECT_EQ(child.slots()[0], parent.slots()[0]);
  EXPECT_EQ(child.slots()[1], parent.slots()[1]);
  EXPECT_NE(child.slots()[2], parent.slots()[2]);
  EXPECT_EQ(std::memcmp(Block(child, 2), Block(parent, 2), 4096), 0);
  // The parent does not know that the child went its own way, so it copies too.
  const uint32_t before = parent.slots()[2];
  ASSERT_TRUE(parent.MakeRoom(context_, 40, 41).ok());
  EXPECT_NE(parent.slots()[2], before);
  EXPECT_EQ(*Block(parent, 2), std::byte{3});
  child.Trim(context_, 0);
  EXPECT_EQ(*Block(parent, 1), std::byte{2});
  parent.Trim(context_, 0);
  EXPECT_EQ(budget_.used(), memory_.bytes());
}

TEST_F(HeadStoreTest, BlocksOfAnotherSideAreNeverWritten) {
  HeadStore parent;
  ASSERT_TRUE(parent.MakeRoom(context_, 0, 400).ok());
  HeadStore child;
  ASSERT_TRUE(child.ShareFrom(context_, parent, 400).ok());
  // The parent goes back into what the child shares and writes on: no block from there on may be
  // the child's.
  parent.Cut(context_, 100);
  parent.Trim(context_, 100);
  ASSERT_TRUE(parent.MakeRoom(context_, 100, 400).ok());
  for (size_t b = 0; b < 25; ++b) {
    EXPECT_EQ(parent.slots()[b] == child.slots()[b], b < 6) << b;
  }
  parent.Trim(context_, 0);
  child.Trim(context_, 0);
  EXPECT_EQ(budget_.used(), memory_.bytes());
}

TEST_F(HeadStoreTest, UnfinishedSummaryChunksAreCopiedBeforeAWrite) {
  HeadStore parent;
  ASSERT_TRUE(parent.MakeRoom(context_, 0, 512).ok());
  parent.MarkSummarized(32);
  HeadStore child;
  ASSERT_TRUE(child.ShareFrom(context_, parent, 500).ok());
  EXPECT_EQ(child.summarized_blocks(), 31U);
  EXPECT_TRUE(child.NeedsRebuild());
  EXPECT_EQ(child.level(0).chunks[0], parent.level(0).chunks[0]);
  ASSERT_TRUE(child.MakeRoom(context_, 500, 512).ok());
  EXPECT_NE(child.level(0).chunks[0], parent.level(0).chunks[0]);
  EXPECT_EQ(std::memcmp(child.level(0).chunks[0], parent.level(0).chunks[0], 1088), 0);
  parent.Trim(context_, 0);
  child.Trim(context_, 0);
}

TEST_F(HeadStoreTest, RebuildReadsAtMost8191Tokens) {
  HeadStore store;
  const uint64_t tokens = 3 * 8192 - 1;
  ASSERT_TRUE(store.MakeRoom(context_, 0, 4 * 8192).ok());
  store.MarkSummarized(4 * 512);
  store.Cut(context_, tokens);
  const device::SummarizeJob job = store.RebuildJob(context_);
  EXPECT_EQ(job.rebuild, 1U);
  EXPECT_EQ(job.first_block, 2U * 512);
  EXPECT_LE(job.num_blocks * 16, 8191U);
  EXPECT_EQ(job.first_block + job.num_blocks, tokens / 16);
  store.Trim(context_, 0);
}

}  // namespace
}  // namespace hipattn::engine
