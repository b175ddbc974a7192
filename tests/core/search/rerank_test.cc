// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/search/rerank.h"

#include "tests/core/walk_support.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

namespace hipattn::core {
namespace {

// Whole numbers, so ties are frequent; what a node and what a sketch says have nothing in common.
float NodeScore(uint64_t seed, uint32_t level, int64_t node) {
  Random random(seed * 1000003 + level * 77777 + static_cast<uint64_t>(node));
  return static_cast<float>(random.Below(50));
}
float SketchScore(uint64_t seed, int32_t block) {
  Random random(seed * 7919 + 13 * static_cast<uint64_t>(block));
  return static_cast<float>(random.Below(20)) - 10;
}

void RunBoth(uint64_t seed, RerankWalk* walk) {
  RunTree([&](uint32_t level, int64_t node) { return NodeScore(seed, level, node); },
          &walk->tree());
  if (!walk->Rerank()) {
    std::vector<float> scores;
    for (const int32_t block : walk->pending()) {
      scores.push_back(SketchScore(seed, block));
    }
    walk->Accept(scores.data());
  }
}

std::vector<int32_t> TreeAlone(const TreeConfig& config, const SearchRange& range, uint64_t seed) {
  TreeWalk walk;
  walk.Begin(config, range);
  RunTree([&](uint32_t level, int64_t node) { return NodeScore(seed, level, node); }, &walk);
  return Copy(walk.blocks());
}

struct RandomCase {
  TreeConfig config;
  uint32_t candidate_tokens;
  SearchRange range;
};

RandomCase MakeCase(Random* random) {
  RandomCase made;
  made.config.block_tokens = 16U << random->Below(3);
  const uint32_t blocks = 1 + random->Below(12);
  made.config.budget_tokens = blocks * made.config.block_tokens;
  made.config.flat = random->Below(4) == 0;
  made.candidate_tokens = (blocks + random->Below(4 * blocks)) * made.config.block_tokens;
  const int64_t window = made.config.block_tokens + random->Below(40);
  const int64_t last_pos = random->Below(random->Below(3) == 0 ? 1500 : 20000);
  made.range.hi = std::max<int64_t>(last_pos - window + 1, 0);
  made.range.lo = std::min<int64_t>(random->Below(70), made.range.hi);
  made.range.complete = last_pos + 1;
  return made;
}

// docs/search.md word by word.
TEST(RerankWalk, EqualsTheDefinitionOnRandomCases) {
  Random random(1);
  RerankWalk walk;
  int reranked = 0;
  for (uint64_t trial = 0; trial < 1500; ++trial) {
    const RandomCase made = MakeCase(&random);
    walk.Begin(made.config, made.candidate_tokens, made.range);
    RunBoth(trial, &walk);
    const bool covered = made.range.hi - made.range.lo <= made.config.budget_tokens;
    TreeConfig wide = made.config;
    wide.budget_tokens = covered ? made.config.budget_tokens : made.candidate_tokens;
    std::vector<int32_t> want = TreeAlone(wide, made.range, trial);
    const size_t keep = made.config.budget_tokens / made.config.block_tokens;
    uint64_t scored = 0;
    if (!covered && made.candidate_tokens > made.config.budget_tokens && want.size() > keep) {
      scored = want.size();
      std::stable_sort(want.begin(), want.end(), [&](int32_t a, int32_t b) {
        return SketchScore(trial, a) > SketchScore(trial, b);
      });
      want.resize(keep);
      std::sort(want.begin(), want.end());
      ++reranked;
    }
    ASSERT_EQ(Copy(walk.blocks()), want) << "trial " << trial;
    ASSERT_EQ(walk.blocks_scored(), scored) << "trial " << trial;
  }
  EXPECT_GT(reranked, 500);
}

TEST(RerankWalk, WithoutCandidatesBeyondTheBudgetTheTreeDecides) {
  Random random(2);
  RerankWalk walk;
  for (uint64_t trial = 0; trial < 300; ++trial) {
    const RandomCase made = MakeCase(&random);
    for (const uint32_t candidates : {0U, made.config.budget_tokens}) {
      walk.Begin(made.config, candidates, made.range);
      RunBoth(trial, &walk);
      ASSERT_EQ(Copy(walk.blocks()), TreeAlone(made.config, made.range, trial));
      ASSERT_EQ(walk.blocks_scored(), 0U);
    }
  }
}

TEST(RerankWalk, ABudgetThatCoversTheRangeScoresNothing) {
  RerankWalk walk;
  const TreeConfig config{16, 512, 0, false};
  walk.Begin(config, 2048, {100, 612, 2000});
  EXPECT_TRUE(walk.tree().done());
  EXPECT_TRUE(walk.Rerank());
  EXPECT_EQ(walk.tree().summaries_scored(), 0U);
  EXPECT_EQ(walk.blocks().size(), 33U) << "both end blocks are cut (SPEC D6)";
}

TEST(RerankWalk, CandidatesThatCoverTheRangeAreAllScoredByTheirSketches) {
  RerankWalk walk;
  const TreeConfig config{16, 64, 0, false};
  walk.Begin(config, 2048, {16, 2064, 3000});
  EXPECT_TRUE(walk.tree().done());
  EXPECT_EQ(walk.tree().start_level(), -1);
  ASSERT_FALSE(walk.Rerank());
  ASSERT_EQ(walk.pending().size(), 128U);
  std::vector<float> scores(128, 1.0F);
  scores[70] = 2.0F;
  walk.Accept(scores.data());
  EXPECT_EQ(Copy(walk.blocks()), (std::vector<int32_t>{1, 2, 3, 71})) << "lower blocks win ties";
}

TEST(RerankWalk, KeepChoosesAgainByTheSameScores) {
  Random random(5);
  RerankWalk walk;
  int compared = 0;
  for (uint64_t trial = 0; trial < 300; ++trial) {
    const RandomCase made = MakeCase(&random);
    walk.Begin(made.config, made.candidate_tokens, made.range);
    RunBoth(trial, &walk);
    if (walk.blocks_scored() == 0) {
      continue;
    }
    const auto kept = static_cast<uint32_t>(walk.pending().size());
    const uint32_t blocks = 1 + random.Below(kept);
    walk.Keep(blocks);
    ASSERT_EQ(walk.blocks().size(), blocks);
    std::vector<int32_t> best(walk.pending().begin(), walk.pending().end());
    std::stable_sort(best.begin(), best.end(), [&](int32_t a, int32_t b) {
      return SketchScore(trial, a) > SketchScore(trial, b);
    });
    best.resize(blocks);
    std::sort(best.begin(), best.end());
    ASSERT_EQ(Copy(walk.blocks()), best);
    ++compared;
  }
  EXPECT_GT(compared, 50);
}

}  // namespace
}  // namespace hipattn::core
