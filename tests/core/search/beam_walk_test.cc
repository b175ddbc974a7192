// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/search/beam_walk.h"

#include "core/counts.h"
#include "tests/core/walk_support.h"

#include <gtest/gtest.h>

#include <set>

namespace hipattn::core {
namespace {

BeamConfig Config(uint32_t block, uint32_t budget, uint32_t leaf) {
  BeamConfig config;
  config.block_tokens = block;
  config.budget_tokens = budget;
  config.leaf_tokens = leaf;
  return config;
}

ProbeBlock Range(int64_t lo, int64_t hi) {
  return {lo, hi, hi, 1};
}

TEST(BeamWalk, BudgetOverTheRangeTakesEveryLeafAndScoresNothing) {
  BeamWalk walk;
  walk.Begin(Config(2, 512, 16), {}, Range(5, 517));
  EXPECT_TRUE(walk.done());
  EXPECT_EQ(walk.keys_scored(), 0U);
  EXPECT_EQ(walk.leaves().size(), 33U);
  EXPECT_EQ(walk.leaves().front(), 0);
  walk.Begin(Config(2, 512, 16), {}, Range(7, 7));
  EXPECT_TRUE(walk.done());
  EXPECT_TRUE(walk.leaves().empty());
}

TEST(BeamWalk, ProbesStayInsideTheRangeAndLeavesAreDistinct) {
  Random random(1);
  BeamWalk walk;
  for (int trial = 0; trial < 400; ++trial) {
    BeamConfig config = Config(1U << random.Below(4), 0, 0);
    config.leaf_tokens = config.block_tokens << random.Below(4);
    config.budget_tokens = config.leaf_tokens * (1 + random.Below(6));
    config.key_stride = 1 + random.Below(config.block_tokens);
    config.representative = static_cast<Representative>(1 + random.Below(3));
    const int64_t lo = random.Below(100);
    const int64_t hi = lo + random.Below(3000);
    const std::vector<float> scores = Whole(&random, 4000, 6);
    walk.Begin(config, {}, Range(lo, hi));
    while (!walk.done()) {
      std::vector<float> batch;
      for (const uint32_t token : walk.pending().tokens) {
        ASSERT_TRUE(token >= lo && token < hi) << "trial " << trial;
        batch.push_back(scores[token]);
      }
      EXPECT_EQ(walk.pending().key_pos, walk.pending().tokens) << "true positions";
      walk.Accept(batch);
    }
    const BeamCount count = CountBeam(config, lo, hi);
    ASSERT_EQ(count.levels, hi - lo <= config.budget_tokens ? 0 : walk.levels());
    ASSERT_LE(walk.keys_scored(), count.keys_scored);
    const std::set<int32_t> distinct(walk.leaves().begin(), walk.leaves().end());
    ASSERT_EQ(distinct.size(), walk.leaves().size());
    ASSERT_TRUE(std::is_sorted(walk.leaves().begin(), walk.leaves().end()));
    for (const int32_t leaf : walk.leaves()) {
      ASSERT_LT(std::max<int64_t>(leaf * config.leaf_tokens, lo),
                std::min<int64_t>((leaf + 1) * config.leaf_tokens, hi));
    }
    if (hi - lo > config.budget_tokens) {
      ASSERT_EQ(walk.leaves().size(), config.budget_tokens / config.leaf_tokens);
    }
  }
}

TEST(BeamWalk, StartsLieOnACommonGrid) {
  const std::vector<int64_t> starts = BeamStarts(1000, 24);
  EXPECT_EQ(starts.size(), 25U);
  for (size_t j = 0; j + 1 < starts.size(); ++j) {
    EXPECT_EQ(starts[j] % 22, 0) << "ceil(512 / 24)";
  }
  EXPECT_EQ(starts.back(), 1000);
  EXPECT_EQ(BeamLevels(std::vector<int64_t>{0, 1, 2}), 1U);
  EXPECT_EQ(BeamLevels(std::vector<int64_t>{0, 8, 17}), 4U);
}

// D14: with 16-token leaves, a beam of budget / 2 nodes finds far more than one of budget / 16.
TEST(BeamWalk, WideBeamBeatsNarrowForPages) {
  Random random(2);
  const std::vector<float> scores = Ar1(&random, 131072, 16);
  BeamWalk wide;
  wide.Begin(Config(2, 2048, 16), {}, Range(0, 131072));
  RunProbes(scores, &wide);
  BeamWalk narrow;
  narrow.Begin(Config(16, 2048, 16), {}, Range(0, 131072));
  RunProbes(scores, &narrow);
  EXPECT_GT(RecallOf(scores, wide.leaves(), 16, 2048),
            1.7 * RecallOf(scores, narrow.leaves(), 16, 2048));
}

}  // namespace
}  // namespace hipattn::core
