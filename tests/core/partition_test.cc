// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/partition.h"

#include "core/query_blocks.h"
#include "core/refresh.h"

#include <gtest/gtest.h>

namespace hipattn::core {
namespace {

TEST(Partition, ByHand) {
  const PartitionSizes sizes{4, 16};
  const Partition part = SplitPartition(99, 100, sizes);
  EXPECT_EQ(part.sink_end, 4);
  EXPECT_EQ(part.window_begin, 84);
  EXPECT_EQ(part.end, 100);
  // The window wins over the sinks.
  EXPECT_EQ(SplitPartition(17, 18, sizes).sink_end, 2);
  EXPECT_EQ(SplitPartition(15, 16, sizes).sink_end, 0);
  // Fewer keys are cached than the query's position says.
  EXPECT_EQ(SplitPartition(99, 50, sizes).end, 50);
  EXPECT_EQ(SplitPartition(99, 50, sizes).window_begin, 50);
}

TEST(Partition, AnchoredWindowBeginsWhereItDidAtTheAnchor) {
  const PartitionSizes sizes{4, 16};
  EXPECT_EQ(SplitPartition(107, 108, sizes, 99).window_begin, 84);
  EXPECT_EQ(SplitPartition(107, 108, sizes, 99).end, 108);
}

TEST(QueryBlocks, EdgesLieAtMultiplesWhereverACallBegins) {
  const auto blocks = QueryBlocks(100, 200, 64);
  ASSERT_EQ(blocks.size(), 4U);
  EXPECT_EQ(blocks[0].end, 28U);
  EXPECT_EQ(blocks[1].end, 92U);
  EXPECT_EQ(blocks[3].begin, 156U);
  EXPECT_EQ(blocks[3].end, 200U);
  EXPECT_EQ(QueryBlocks(63, 1, 64).size(), 1U);
  EXPECT_EQ(QueryBlocks(5, 7, 1).size(), 7U);
}

TEST(QueryBlocks, ChunksGiveTheBlocksOfTheWhole) {
  const auto whole = QueryBlocks(0, 256, 64);
  size_t at = 0;
  for (const uint32_t first : {0U, 128U}) {
    for (const RowRange& block : QueryBlocks(first, 128, 64)) {
      EXPECT_EQ(first + block.begin, whole[at].begin);
      EXPECT_EQ(first + block.end, whole[at].end);
      ++at;
    }
  }
  EXPECT_EQ(at, whole.size());
}

TEST(QueryBlocks, SampledRowsCountFromTheEnd) {
  EXPECT_EQ(SampleRows(10, 4), (std::vector<uint32_t>{1, 5, 9}));
  EXPECT_EQ(SampleRows(8, 4), (std::vector<uint32_t>{3, 7}));
  EXPECT_EQ(SampleRows(1, 4), (std::vector<uint32_t>{0}));
  EXPECT_EQ(SampleRows(3, 1), (std::vector<uint32_t>{0, 1, 2}));
}

TEST(Refresh, StagesRunWhenTheirIntervalDividesTheStep) {
  const uint32_t intervals[] = {16, 8, 4};
  EXPECT_EQ(RefreshStage(intervals, 0), 0U);
  EXPECT_EQ(RefreshStage(intervals, 4), 2U);
  EXPECT_EQ(RefreshStage(intervals, 8), 1U);
  EXPECT_EQ(RefreshStage(intervals, 15), 3U);
  EXPECT_EQ(RefreshStage(intervals, 32), 0U);
}

TEST(Refresh, LayersTakeTurns) {
  for (const uint32_t interval : {1U, 4U, 5U, 8U}) {
    for (uint64_t step = 1; step < 40; ++step) {
      uint32_t searching = 0;
      for (uint32_t layer = 0; layer < 12; ++layer) {
        searching += TreeRefreshes(interval, layer, step) ? 1 : 0;
        EXPECT_TRUE(TreeRefreshes(interval, layer, 0));
      }
      EXPECT_LE(searching, (12 + interval - 1) / interval);
    }
  }
}

}  // namespace
}  // namespace hipattn::core
