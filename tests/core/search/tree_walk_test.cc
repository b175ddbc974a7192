// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/search/tree_walk.h"

#include "core/counts.h"
#include "tests/core/walk_support.h"

#include <gtest/gtest.h>

#include <set>

namespace hipattn::core {
namespace {

// The definitions of D26-D33 word by word, on sets of node numbers.
struct SlowResult {
  std::vector<std::vector<int32_t>> candidates;
  std::vector<std::vector<int32_t>> kept;
  uint64_t scored = 0;
};

std::vector<int32_t> CompleteNodes(const SearchRange& range, int64_t size) {
  std::vector<int32_t> nodes;
  for (int64_t node = 0; (node + 1) * size <= range.complete; ++node) {
    if (node * size < range.hi && (node + 1) * size > range.lo && range.lo < range.hi) {
      nodes.push_back(static_cast<int32_t>(node));
    }
  }
  return nodes;
}

template <typename ScoreNode>
SlowResult SlowSearch(const TreeConfig& config,
                      const SearchRange& range,
                      const ScoreNode& score_node) {
  const uint32_t blocks = config.budget_tokens / config.block_tokens;
  const uint32_t beam = config.beam == 0 ? blocks : config.beam;
  uint32_t top = 0;
  while (!config.flat &&
         CompleteNodes(range, NodeTokens(config.block_tokens, top)).size() > 8 * beam) {
    ++top;
  }
  SlowResult result;
  result.candidates.resize(top + 1);
  result.kept.resize(top + 1);
  for (uint32_t level = top + 1; level-- > 0;) {
    const int64_t size = NodeTokens(config.block_tokens, level);
    std::vector<int32_t>& candidates = result.candidates[level];
    for (const int32_t node : CompleteNodes(range, size)) {
      const bool parent_is_complete = (node / 8 + 1) * size * 8 <= range.complete;
      const bool parent_kept =
          level < top &&
          std::count(result.kept[level + 1].begin(), result.kept[level + 1].end(), node / 8) > 0;
      if (level == top || parent_kept || !parent_is_complete) {
        candidates.push_back(node);
      }
    }
    const size_t keep = level == 0 ? blocks : beam;
    std::vector<int32_t> kept = candidates;
    if (candidates.size() > keep) {
      result.scored += candidates.size();
      std::stable_sort(kept.begin(), kept.end(), [&](int32_t a, int32_t b) {
        return score_node(level, a) > score_node(level, b);
      });
      kept.resize(keep);
      std::sort(kept.begin(), kept.end());
    }
    result.kept[level] = kept;
  }
  return result;
}

// A score for every node of every level: whole numbers, so ties are frequent.
class NodeScores {
 public:
  NodeScores(uint64_t seed, uint32_t bound) : seed_(seed), bound_(bound) {}
  float operator()(uint32_t level, int64_t node) const {
    Random random(seed_ * 1000003 + level * 77777 + static_cast<uint64_t>(node));
    return static_cast<float>(random.Below(bound_));
  }

 private:
  uint64_t seed_;
  uint32_t bound_;
};

struct RandomCase {
  TreeConfig config;
  SearchRange range;
};

RandomCase MakeCase(Random* random, bool flat) {
  RandomCase made;
  made.config.block_tokens = 16U << random->Below(3);
  const uint32_t blocks = 1 + random->Below(12);
  made.config.budget_tokens = blocks * made.config.block_tokens;
  made.config.beam = random->Below(2) == 0 ? 0 : 1 + blocks / 8 + random->Below(5);
  made.config.flat = flat;
  const int64_t rows = 1 + random->Below(20);
  const int64_t window = made.config.block_tokens + rows - 1 + random->Below(40);
  const int64_t last_pos = rows - 1 + random->Below(20000);
  const int64_t sinks = random->Below(70);
  made.range.hi = std::max<int64_t>(last_pos - window + 1, 0);
  made.range.lo = std::min(sinks, made.range.hi);
  made.range.complete = last_pos - rows + 2;
  return made;
}

TEST(TreeWalk, EqualsTheDefinitionsOnRandomCases) {
  Random random(1);
  TreeWalk walk;
  for (int trial = 0; trial < 1500; ++trial) {
    const RandomCase made = MakeCase(&random, trial % 5 == 0);
    const NodeScores scores(static_cast<uint64_t>(trial), 2 + random.Below(50));
    walk.Begin(made.config, made.range);
    RunTree(scores, &walk);
    if (made.range.hi - made.range.lo <= made.config.budget_tokens) {
      ASSERT_EQ(walk.start_level(), -1);
      ASSERT_EQ(Copy(walk.blocks()), CompleteNodes(made.range, made.config.block_tokens));
      ASSERT_EQ(walk.summaries_scored(), 0U);
      continue;
    }
    const SlowResult want = SlowSearch(made.config, made.range, scores);
    ASSERT_EQ(walk.start_level() + 1, static_cast<int>(want.kept.size())) << "trial " << trial;
    for (uint32_t level = 0; level < want.kept.size(); ++level) {
      ASSERT_EQ(Copy(walk.candidates(level)), want.candidates[level]) << "trial " << trial;
      ASSERT_EQ(Copy(walk.kept(level)), want.kept[level]) << "trial " << trial;
    }
    ASSERT_EQ(Copy(walk.blocks()), want.kept[0]);
    ASSERT_EQ(walk.summaries_scored(), want.scored);
  }
}

TEST(TreeWalk, SelectedBlocksAndPrunedNodesTileTheRange) {
  Random random(2);
  TreeWalk walk;
  for (int trial = 0; trial < 500; ++trial) {
    const RandomCase made = MakeCase(&random, false);
    walk.Begin(made.config, made.range);
    RunTree(NodeScores(static_cast<uint64_t>(trial), 9), &walk);
    std::multiset<int64_t> covered(walk.blocks().begin(), walk.blocks().end());
    for (int at = 0; at <= walk.start_level(); ++at) {
      const auto level = static_cast<uint32_t>(at);
      std::vector<int32_t> pruned;
      std::set_difference(walk.candidates(level).begin(),
                          walk.candidates(level).end(),
                          walk.kept(level).begin(),
                          walk.kept(level).end(),
                          std::back_inserter(pruned));
      for (const int64_t node : pruned) {
        for (int64_t block = node << (3 * level); block < (node + 1) << (3 * level); ++block) {
          covered.insert(block);
        }
      }
    }
    for (const int32_t block : CompleteNodes(made.range, made.config.block_tokens)) {
      ASSERT_EQ(covered.count(block), 1U) << "block " << block << ", trial " << trial;
    }
  }
}

TEST(TreeWalk, ScoresNoMoreThanTheFormula) {
  Random random(3);
  TreeWalk walk;
  for (int trial = 0; trial < 500; ++trial) {
    RandomCase made = MakeCase(&random, false);
    const bool aligned = trial % 2 == 0;
    if (aligned) {  // no kept node is cut by lo or hi: the formula is exact
      const int64_t size = NodeTokens(made.config.block_tokens, 3);
      made.range = {0, size * (1 + random.Below(6)), 0};
      made.range.complete = made.range.hi;
    }
    walk.Begin(made.config, made.range);
    RunTree(NodeScores(static_cast<uint64_t>(trial), 1000), &walk);
    const TreeCount count = CountTree(made.config, made.range);
    ASSERT_EQ(count.start_level, walk.start_level());
    if (aligned) {
      ASSERT_EQ(walk.summaries_scored(), count.summaries_at_most) << "trial " << trial;
    } else {
      ASSERT_LE(walk.summaries_scored(), count.summaries_at_most) << "trial " << trial;
    }
  }
}

TEST(TreeWalk, WorkGrowsWithTheLogarithm) {
  const TreeConfig config;
  const auto most = [&](int64_t tokens) {
    return CountTree(config, {0, tokens, tokens}).summaries_at_most;
  };
  EXPECT_EQ(most(128 << 10), 2048U);
  EXPECT_EQ(most(1 << 20), 3072U);
  EXPECT_EQ(most(8 << 20), 4096U);
}

TEST(TreeWalk, FlatScoresEveryBlockAndTakesTheBest) {
  Random random(4);
  const std::vector<float> scores = random.Normals(100000 / 16);
  TreeWalk walk;
  TreeConfig config;
  config.flat = true;
  walk.Begin(config, {0, 100000, 100000});
  RunTree([&](uint32_t, int64_t node) { return scores[static_cast<size_t>(node)]; }, &walk);
  EXPECT_EQ(walk.start_level(), 0);
  EXPECT_EQ(walk.summaries_scored(), scores.size());
  std::vector<float> sorted = scores;
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  ASSERT_EQ(walk.blocks().size(), 128U);
  for (const int32_t block : walk.blocks()) {
    EXPECT_GE(scores[static_cast<size_t>(block)], sorted[127]);
  }
}

TEST(TreeWalk, LowerNodeWinsTies) {
  TreeWalk walk;
  const TreeConfig config{16, 160, 3, false};
  walk.Begin(config, {0, 16384, 16384});
  RunTree([](uint32_t, int64_t) { return 1.0F; }, &walk);
  EXPECT_EQ(Copy(walk.blocks()), (std::vector<int32_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
}

TEST(TreeWalk, ShortAndEmptyRangesNeedNoScores) {
  TreeWalk walk;
  const SearchRange ranges[] = {{0, 0, 1}, {4, 4, 5}, {0, 2048, 3073}, {100, 2148, 3173}};
  for (const SearchRange& range : ranges) {
    walk.Begin(TreeConfig(), range);
    EXPECT_TRUE(walk.done());
    EXPECT_EQ(walk.start_level(), -1);
  }
  EXPECT_EQ(walk.blocks().size(), 129U) << "both end blocks are cut (D6)";
  EXPECT_EQ(walk.blocks().front(), 6);
}

TEST(TreeWalk, ALongerTextIsWalkedAfterAShorterOneAndBack) {
  TreeWalk walk;
  const auto score = [](uint32_t, int64_t node) { return static_cast<float>(node % 97); };
  const SearchRange shorter{16, 9000, 9100};
  walk.Begin(TreeConfig{16, 64, 0, false}, shorter);
  RunTree(score, &walk);
  const std::vector<int32_t> first = Copy(walk.blocks());
  walk.Begin(TreeConfig{16, 64, 0, false}, {16, 900000, 900100});
  RunTree(score, &walk);
  EXPECT_EQ(walk.blocks().size(), 4U);
  walk.Begin(TreeConfig{16, 64, 0, false}, shorter);
  RunTree(score, &walk);
  EXPECT_EQ(Copy(walk.blocks()), first);
}

}  // namespace
}  // namespace hipattn::core
