// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/search/staged_walk.h"

#include "core/counts.h"
#include "tests/core/walk_support.h"

#include <gtest/gtest.h>

#include <set>

namespace hipattn::core {
namespace {

StagedConfig SmallStages() {
  StagedConfig config;
  config.stages = {{1, 1, 64, 512}, {1, 1, 16, 256}, {1, 1, 8, 128}};
  config.sink_tokens = 10;
  config.window_tokens = 64;
  return config;
}

ProbeBlock Range(int64_t lo, int64_t hi) {
  return {lo, hi, hi, 1};
}

TEST(StagedWalk, BudgetOverTheRangeTakesEveryChunkAndScoresNothing) {
  StagedWalk walk;
  walk.Begin(SmallStages(), {}, Range(5, 133));
  EXPECT_TRUE(walk.done());
  EXPECT_EQ(walk.keys_scored(), 0U);
  EXPECT_EQ(walk.leaves().size(), 17U);
  walk.Begin(SmallStages(), {}, Range(7, 7));
  EXPECT_TRUE(walk.done());
  EXPECT_TRUE(walk.leaves().empty());
}

TEST(StagedWalk, KeepsWhatItsBudgetsSayInsideTheRange) {
  Random random(1);
  StagedWalk walk;
  for (int trial = 0; trial < 300; ++trial) {
    const int64_t lo = random.Below(100);
    const int64_t hi = lo + random.Below(3000);
    const std::vector<float> scores = Whole(&random, 4000, 6);
    const StagedConfig config = SmallStages();
    walk.Begin(config, {}, Range(lo, hi));
    RunProbes(scores, &walk);
    ASSERT_LE(walk.keys_scored(), CountStaged(config.stages, lo, hi).keys_scored);
    for (size_t s = 0; s < config.stages.size(); ++s) {
      const std::vector<int32_t>& kept = walk.lists().kept[s];
      const int64_t size = config.stages[s].chunk_tokens;
      ASSERT_TRUE(std::is_sorted(kept.begin(), kept.end()));
      for (const int32_t chunk : kept) {
        ASSERT_LT(std::max(chunk * size, lo), std::min((chunk + 1) * size, hi));
      }
      if (hi - lo > config.stages[s].keep_tokens) {
        ASSERT_EQ(kept.size(), config.stages[s].keep_tokens / config.stages[s].chunk_tokens);
      }
    }
  }
}

TEST(StagedWalk, ATieGoesRight) {
  StagedConfig config;
  config.stages = {{1, 1, 8, 8}};
  StagedWalk walk;
  walk.Begin(config, {}, Range(0, 16));
  EXPECT_EQ(walk.pending().tokens, (std::vector<uint32_t>{2, 6, 10, 14}));
  walk.Accept(std::vector<float>{1, 1, 2, 1});
  EXPECT_EQ(walk.pending().tokens, (std::vector<uint32_t>{5, 7, 9, 11}));
  walk.Accept(std::vector<float>{0, 0, 0, 0});
  walk.Accept(std::vector<float>{0, 0, 0, 0});
  ASSERT_TRUE(walk.done());
  EXPECT_EQ(Copy(walk.leaves()), (std::vector<int32_t>{1})) << "the best score met on the way";
}

TEST(StagedWalk, ResumingAtAnyStageRepeatsTheSelection) {
  Random random(2);
  for (int trial = 0; trial < 20; ++trial) {
    const std::vector<float> scores = Whole(&random, 2000, 9);
    StagedWalk full;
    full.Begin(SmallStages(), {}, Range(10, 1900));
    RunProbes(scores, &full);
    for (uint32_t stage = 1; stage <= 3; ++stage) {
      StagedWalk again;
      again.Resume(stage, full.lists(), SmallStages(), {}, Range(10, 1900));
      RunProbes(scores, &again);
      EXPECT_EQ(Copy(again.leaves()), Copy(full.leaves())) << "stage " << stage;
      EXPECT_EQ(again.lists().candidates, full.lists().candidates);
    }
    StagedWalk own;
    own.Begin(SmallStages(), {}, Range(10, 1900));
    RunProbes(scores, &own);
    own.Resume(2, own.lists(), SmallStages(), {}, Range(10, 1900));
    RunProbes(scores, &own);
    EXPECT_EQ(Copy(own.leaves()), Copy(full.leaves())) << "from its own lists";
  }
}

TEST(StagedWalk, DistinctKeysStayBelowTheFormula) {
  Random random(3);
  for (const uint32_t size : {1U, 2U, 4U, 8U, 32U, 256U}) {
    StagedConfig config;
    config.stages = {{1, 1, size, size}};
    const std::vector<float> scores = Whole(&random, 2048, 3);
    StagedWalk walk;
    walk.Begin(config, {}, Range(0, 2048));
    std::set<uint32_t> seen;
    while (!walk.done()) {
      std::vector<float> batch;
      for (const uint32_t token : walk.pending().tokens) {
        seen.insert(token);
        batch.push_back(scores[token]);
      }
      walk.Accept(batch);
    }
    EXPECT_LE(seen.size(), CountStaged(config.stages, 0, 2048).distinct_keys) << size;
    EXPECT_EQ(walk.keys_scored(), CountStaged(config.stages, 0, 2048).keys_scored) << size;
  }
}

TEST(StagedWalk, SampledRowsSitAtTheirPositions) {
  StagedConfig config = SmallStages();
  for (Stage& stage : config.stages) {
    stage.block_q = 64;
    stage.query_stride = 4;
  }
  StagedWalk walk;
  walk.Begin(config, {}, {0, 1000, 1100, 10});
  EXPECT_EQ(walk.pending().rows, (std::vector<uint32_t>{1, 5, 9}));
  EXPECT_EQ(walk.pending().row_pos, (std::vector<uint32_t>{1092, 1096, 1100}));
}

}  // namespace
}  // namespace hipattn::core
