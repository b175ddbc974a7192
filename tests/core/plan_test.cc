// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/plan.h"

#include "tests/core/walk_support.h"

#include <gtest/gtest.h>

namespace hipattn::core {
namespace {

using Ranges = std::vector<TokenRange>;

Ranges Plan(const Partition& part, std::vector<int32_t> leaves, uint32_t leaf_tokens) {
  Ranges ranges;
  PlanRow(part, {leaves, leaf_tokens}, 16, &ranges);
  return ranges;
}

TEST(Plan, ByHand) {
  EXPECT_EQ(Plan({4, 84, 100}, {1, 3}, 16),
            (Ranges{{0, 4}, {16, 32}, {48, 64}, {84, 96}, {96, 100}}));
  EXPECT_EQ(Plan({4, 84, 100}, {0, 5}, 16), (Ranges{{0, 16}, {80, 96}, {96, 100}}))
      << "leaves that sinks and window cut are joined with them";
  EXPECT_EQ(Plan({0, 0, 5}, {}, 16), (Ranges{{0, 5}}));
  EXPECT_EQ(Plan({0, 0, 0}, {}, 16), Ranges());
}

TEST(Plan, SmallLeavesBecomeRunsInsideBlocks) {
  EXPECT_EQ(Plan({0, 64, 64}, {0, 1, 2, 5, 7, 8, 9}, 2),
            (Ranges{{0, 6}, {10, 12}, {14, 16}, {16, 20}}));
  EXPECT_EQ(Plan({2, 64, 64}, {1, 3}, 8), (Ranges{{0, 2}, {8, 16}, {24, 32}}));
}

TEST(Plan, LargeLeavesAreCutAtBlocks) {
  EXPECT_EQ(Plan({0, 90, 90}, {1}, 64), (Ranges{{64, 80}, {80, 90}}));
}

struct RandomPlan {
  Partition part;
  std::vector<int32_t> leaves;
  uint32_t leaf_tokens;
};

RandomPlan MakePlan(Random* random) {
  RandomPlan made;
  const int64_t pos = random->Below(600);
  made.part = SplitPartition(pos,
                             random->Below(4) == 0 ? random->Below(600) : pos + 1,
                             {random->Below(60), random->Below(80)});
  made.leaf_tokens = 1U << random->Below(8);
  for (uint32_t i = random->Below(30); i > 0; --i) {
    made.leaves.push_back(static_cast<int32_t>(random->Below(640 / made.leaf_tokens + 1)));
  }
  return made;
}

TEST(Plan, AttendsToExactlyTheKeysOfTheirClasses) {
  Random random(1);
  for (int trial = 0; trial < 3000; ++trial) {
    const RandomPlan made = MakePlan(&random);
    std::vector<int> times(700);
    int64_t before = 0;
    for (const TokenRange& range : Plan(made.part, made.leaves, made.leaf_tokens)) {
      ASSERT_LT(range.begin, range.end);
      ASSERT_LE(before, range.begin) << "ascending and disjoint";
      ASSERT_TRUE(before != range.begin || range.begin % 16 == 0) << "neighbours touch at blocks";
      ASSERT_EQ(range.begin / 16, (range.end - 1) / 16) << "inside one block";
      before = range.end;
      for (int64_t t = range.begin; t < range.end; ++t) {
        ++times[static_cast<size_t>(t)];
      }
    }
    for (int64_t t = 0; t < 700; ++t) {
      const bool in_list = std::count(made.leaves.begin(),
                                      made.leaves.end(),
                                      static_cast<int32_t>(t / made.leaf_tokens)) > 0;
      const bool sink = t < made.part.sink_end;
      const bool window = t >= made.part.window_begin && t < made.part.end;
      const bool selected = t >= made.part.sink_end && t < made.part.window_begin && in_list;
      ASSERT_EQ(times[static_cast<size_t>(t)], sink || window || selected ? 1 : 0)
          << "token " << t << ", trial " << trial;
    }
  }
}

TEST(Plan, OrderAndRepeatsOfLeavesDoNotMatter) {
  Random random(2);
  for (int trial = 0; trial < 300; ++trial) {
    RandomPlan made = MakePlan(&random);
    std::vector<int32_t> sorted = made.leaves;
    std::sort(sorted.begin(), sorted.end());
    sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
    ASSERT_EQ(Plan(made.part, made.leaves, made.leaf_tokens),
              Plan(made.part, sorted, made.leaf_tokens));
  }
}

TEST(Plan, ExtendedPositionsNumberTheListOfTheLastRow) {
  Random random(3);
  for (int trial = 0; trial < 500; ++trial) {
    const PartitionSizes sizes{random.Below(20), 20 + random.Below(60)};
    const int64_t first = 300 + random.Below(200);
    const int64_t rows = 1 + random.Below(16);
    const uint32_t leaf_tokens = 2U << random.Below(4);
    std::vector<int32_t> leaves;
    for (uint32_t i = 0; i < 12; ++i) {
      leaves.push_back(static_cast<int32_t>(random.Below(500 / leaf_tokens)));
    }
    const Partition last = SplitPartition(first + rows - 1, first + rows, sizes);
    const int64_t f = first - sizes.window_tokens + 1;
    // D24 word by word.
    std::vector<int64_t> far;
    for (int64_t t = 0; t < last.window_begin; ++t) {
      const bool listed =
          std::count(leaves.begin(), leaves.end(), static_cast<int32_t>(t / leaf_tokens)) > 0;
      if (t < sizes.sink_tokens || listed) {
        far.push_back(t);
      }
    }
    const std::vector<int64_t> want =
        AttendPositions(sizes.sink_tokens, static_cast<int64_t>(far.size()) - sizes.sink_tokens, f);
    for (int64_t row = 0; row < rows; ++row) {
      const Partition part = SplitPartition(first + row, first + rows, sizes);
      Ranges ranges;
      std::vector<int64_t> positions;
      PlanExtendedRow(
          {part, last, sizes.sink_tokens, f}, {leaves, leaf_tokens}, 16, &ranges, &positions);
      ASSERT_EQ(ranges.size(), positions.size());
      int64_t tokens = 0;
      for (size_t i = 0; i < ranges.size(); ++i) {
        for (int64_t t = ranges[i].begin; t < ranges[i].end; ++t, ++tokens) {
          const int64_t position = std::max<int64_t>(0, positions[i] + t - ranges[i].begin);
          if (t >= part.window_begin) {
            ASSERT_EQ(position, t);
          } else {
            const auto slot = std::find(far.begin(), far.end(), t) - far.begin();
            ASSERT_EQ(position, want[static_cast<size_t>(slot)]) << "token " << t;
          }
        }
      }
      Ranges plain;
      PlanRow(part, {leaves, leaf_tokens}, 16, &plain);
      for (const TokenRange& range : plain) {
        tokens -= range.end - range.begin;
      }
      ASSERT_EQ(tokens, 0) << "the same keys as without extension";
    }
  }
}

}  // namespace
}  // namespace hipattn::core
