// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/search/recall.h"

#include "core/search/plain_recall.h"
#include "core/search/quantize.h"
#include "tests/core/walk_support.h"

#include <gtest/gtest.h>

#include <limits>

namespace hipattn::core {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

float NodeScore(uint32_t level, int64_t node) {
  return static_cast<float>((node * 7919 + level * 31) % 101);
}

TEST(RecallPlan, CountsEveryUnselectedTokenOfTheRowOnce) {
  Random random(1);
  RecallPlan plan;
  TreeWalk walk;
  for (int trial = 0; trial < 300; ++trial) {
    const uint32_t blocks = 1 + random.Below(9);
    const TreeConfig config{16, blocks * 16, 0, trial % 4 == 0};
    const int64_t last_pos = 15 + random.Below(9000);
    const int64_t hi = std::max<int64_t>(0, last_pos - 40);
    const int64_t lo = std::min<int64_t>(random.Below(50), hi);
    walk.Begin(config, {lo, hi, last_pos + 1 - random.Below(16)});
    RunTree(NodeScore, &walk);
    const int64_t row_hi = std::max(lo, hi - random.Below(20));
    // All that the tree kept, or what a second cut left of it.
    std::vector<int32_t> attended;
    for (const int32_t block : walk.blocks()) {
      if (trial % 2 == 0 || random.Below(3) == 0) {
        attended.push_back(block);
      }
    }
    plan.Build(walk, attended, 16, lo, row_hi);
    double pruned = 0;
    for (uint32_t level = 0; level < plan.num_levels(); ++level) {
      ASSERT_EQ(plan.tokens(level).size(), plan.groups(level).size() * kFanOut);
      for (size_t g = 0; g < plan.groups(level).size(); ++g) {
        ASSERT_NE(plan.groups(level)[g].mask, 0U);
        for (uint32_t i = 0; i < kFanOut; ++i) {
          const float tokens = plan.tokens(level)[g * kFanOut + i];
          ASSERT_EQ(tokens > 0, (plan.groups(level)[g].mask >> i & 1) != 0);
          pruned += tokens;
        }
      }
    }
    double selected = 0;
    for (const int64_t block : attended) {
      selected += static_cast<double>(
          std::max<int64_t>(0, std::min(block * 16 + 16, row_hi) - std::max(block * 16, lo)));
    }
    // Tokens of incomplete blocks, which lie in the window in real use, are in no node.
    if (hi <= last_pos + 1 - 16 - 15) {
      ASSERT_EQ(pruned + selected, static_cast<double>(row_hi - lo)) << "trial " << trial;
    }
  }
}

TEST(RecallShare, ByHand) {
  EXPECT_EQ(RecallShare(3.0, {}), 1.0);
  EXPECT_EQ(RecallShare(3.0, std::vector<float>{-kInfinity, -kInfinity}), 1.0);
  EXPECT_NEAR(RecallShare(0.0, std::vector<float>{0.0F}), 0.5, 1e-12);
  EXPECT_NEAR(RecallShare(0.0, std::vector<float>{0.0F, 0.0F, -kInfinity}), 1.0 / 3, 1e-12);
  EXPECT_EQ(RecallShare(-kInfinity, std::vector<float>{1.0F}), 0.0);
  EXPECT_EQ(RecallShare(-kInfinity, {}), 1.0);
  EXPECT_NEAR(RecallShare(800.0, std::vector<float>{800.0F}), 0.5, 1e-9) << "no overflow";
}

// Keys that are all alike have no spread: the estimate is exact.
TEST(PlainRecall, IsExactForConstantKeys) {
  constexpr uint32_t kDim = 8;
  BlockTree tree(16, kDim);
  tree.Append(std::vector<float>(size_t{4096} * kDim, 0.5F));
  TreeWalk walk;
  walk.Begin({16, 256, 0, false}, {0, 4000, 4096});
  RunTree(NodeScore, &walk);
  RecallPlan plan;
  plan.Build(walk, walk.blocks(), 16, 0, 4000);
  const std::vector<float> q(kDim, 1.0F);
  const double scale = 0.3;
  const double attended = std::log(256.0) + scale * 4;  // the selected blocks alone
  for (const SummaryForm form : {SummaryForm::kFloat32, SummaryForm::kInt8}) {
    EXPECT_NEAR(PlainRecall(plan, tree, form, {q, attended, scale, 0.0}), 256.0 / 4000, 1e-6);
  }
  // A softcap bends attended and pruned keys alike.
  const double capped = std::log(256.0) + 2 * std::tanh(scale * 4 / 2);
  EXPECT_NEAR(
      PlainRecall(plan, tree, SummaryForm::kFloat32, {q, capped, scale, 2.0}), 256.0 / 4000, 1e-6);
}

// D36: mean absolute error .061 over the kinds it was measured on, iid among them.
TEST(PlainRecall, ErrsLittleOnIndependentKeys) {
  constexpr uint32_t kDim = 64;
  constexpr size_t kTokens = 8192;
  Random random(2);
  double error = 0;
  const int trials = 6;
  for (int trial = 0; trial < trials; ++trial) {
    const std::vector<float> keys = random.Normals(kTokens * kDim);
    const std::vector<float> q = random.Normals(kDim);
    BlockTree tree(16, kDim);
    tree.Append(keys);
    const double scale = 0.125;
    TreeWalk walk;
    walk.Begin({16, 1024, 0, false}, {0, kTokens, kTokens});
    RunTree(
        [&](uint32_t level, int64_t node) {
          return CuboidMeanScorer().Score(tree.node(level, node), {q, 0, kTokens});
        },
        &walk);
    RecallPlan plan;
    plan.Build(walk, walk.blocks(), 16, 0, kTokens);
    double attended = 0;
    double all = 0;
    for (size_t t = 0; t < kTokens; ++t) {
      double score = 0;
      for (size_t d = 0; d < kDim; ++d) {
        score += double{q[d]} * keys[t * kDim + d];
      }
      all += std::exp(scale * score);
      const auto block = static_cast<int32_t>(t / 16);
      attended += std::binary_search(walk.blocks().begin(), walk.blocks().end(), block)
                      ? std::exp(scale * score)
                      : 0;
    }
    const double got =
        PlainRecall(plan, tree, SummaryForm::kFloat32, {q, std::log(attended), scale, 0.0});
    error += std::abs(got - attended / all) / trials;
  }
  EXPECT_LT(error, 0.08);
}

}  // namespace
}  // namespace hipattn::core
