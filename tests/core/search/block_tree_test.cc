// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/search/block_tree.h"

#include "core/search/quantize.h"
#include "tests/core/walk_support.h"
#include "tests/support/compare.h"

#include <gtest/gtest.h>

namespace hipattn::core {
namespace {

constexpr uint32_t kDim = 8;

std::vector<float> AllVectors(const BlockTree& tree) {
  std::vector<float> all;
  for (uint32_t level = 0; level < kMaxLevels; ++level) {
    for (int64_t node = 0; node < tree.num_nodes(level); ++node) {
      const NodeView view = tree.node(level, node);
      for (const auto part : {view.low, view.high, view.mean}) {
        all.insert(all.end(), part.begin(), part.end());
      }
    }
  }
  return all;
}

TEST(BlockTree, AppendAndTruncateGiveTheBitsOfAFreshBuild) {
  Random random(1);
  for (const uint32_t block : {16U, 32U, 64U}) {
    const std::vector<float> keys = random.Normals(size_t{5000} * kDim);
    BlockTree tree(block, kDim);
    int64_t length = 0;
    for (int step = 0; step < 60; ++step) {
      if (random.Below(3) == 0) {
        length = random.Below(static_cast<uint32_t>(length) + 1);
        tree.Truncate(length);
      } else {
        const int64_t added = std::min<int64_t>(random.Below(700), 5000 - length);
        tree.Append(std::span(keys).subspan(static_cast<size_t>(length) * kDim,
                                            static_cast<size_t>(added) * kDim));
        length += added;
      }
      BlockTree fresh(block, kDim);
      fresh.Append(std::span(keys).first(static_cast<size_t>(length) * kDim));
      ASSERT_TRUE(testing::SameBits(AllVectors(tree), AllVectors(fresh))) << "step " << step;
    }
  }
}

TEST(BlockTree, NodesHoldTheirTokens) {
  Random random(2);
  const std::vector<float> keys = random.Normals(size_t{2100} * kDim);
  BlockTree tree(16, kDim);
  tree.Append(keys);
  EXPECT_EQ(tree.num_nodes(0), 131);
  EXPECT_EQ(tree.num_nodes(1), 16);
  EXPECT_EQ(tree.num_nodes(2), 2);
  EXPECT_EQ(tree.num_nodes(3), 0);
  for (uint32_t level = 0; level < 3; ++level) {
    const NodeView node = tree.node(level, tree.num_nodes(level) - 1);
    const size_t tokens = node.keys.size() / kDim;
    EXPECT_EQ(static_cast<int64_t>(tokens), NodeTokens(16, level));
    for (size_t d = 0; d < kDim; ++d) {
      float low = node.keys[d];
      float high = node.keys[d];
      double sum = 0;
      for (size_t t = 0; t < tokens; ++t) {
        low = std::min(low, node.keys[t * kDim + d]);
        high = std::max(high, node.keys[t * kDim + d]);
        sum += node.keys[t * kDim + d];
      }
      EXPECT_EQ(node.low[d], low);
      EXPECT_EQ(node.high[d], high);
      // Three levels of sums of at most 16 numbers below 5 in magnitude.
      EXPECT_NEAR(node.mean[d], sum / static_cast<double>(tokens), 3 * 16 * 5 * 0x1p-24);
    }
  }
}

TEST(Scorer, VectorsByHand) {
  const std::vector<float> keys = {0, 4, 2, -4, 4, 0, 10, 2};  // 4 tokens, 2 dimensions
  const std::vector<float> low = {0, -4};
  const std::vector<float> high = {10, 4};
  const std::vector<float> mean = {4, 0.5F};
  const NodeView node{low, high, mean, keys, 0};
  using Vector = std::vector<float>;
  EXPECT_EQ(CuboidMeanScorer().Vectors(node).m, (Vector{4.5F, 0.25F}));
  EXPECT_EQ(CuboidMeanScorer().Vectors(node).w, (Vector{2.5F, 2}));
  EXPECT_EQ(BoundsScorer().Vectors(node).m, (Vector{5, 0}));
  EXPECT_EQ(BoundsScorer().Vectors(node).w, (Vector{5, 4}));
  EXPECT_EQ(MeanScorer().Vectors(node).m, mean);
  EXPECT_EQ(RepresentativeScorer().Vectors(node).m, (Vector{4, 0})) << "token 2 of 4";
  EXPECT_EQ(FirstScorer().Vectors(node).m, (Vector{0, 4}));
  EXPECT_EQ(LastScorer().Vectors(node).m, (Vector{10, 2}));
  EXPECT_TRUE(MeanScorer().Vectors(node).w.empty());
  const std::vector<float> rows = {1, -1, 0, 2};
  EXPECT_EQ(BoundsScorer().Score(node, {rows, 0, 4}), 5 + 5 + 4);
  EXPECT_EQ(ExactScorer().Score(node, {rows, 0, 4}), 8);
  EXPECT_EQ(ExactScorer().Score(node, {rows, 1, 3}), 6) << "only tokens 1 and 2";
  for (const Scorer scorer : {Scorer::kRepresentative,
                              Scorer::kMean,
                              Scorer::kBounds,
                              Scorer::kCuboidMean,
                              Scorer::kFirst,
                              Scorer::kLast}) {
    EXPECT_EQ(SummaryScorerOf(scorer)->Vectors(node).w.empty(), !ScorerHasSpread(scorer));
  }
  EXPECT_EQ(SummaryScorerOf(Scorer::kExact), nullptr);
}

TEST(Quantize, RoundsHalfToEvenAndKeepsZero) {
  const QuantizedVector zero = Quantize(std::vector<float>{0, -0.0F});
  EXPECT_EQ(zero.scale, 0.0F);
  EXPECT_EQ(zero.steps, (std::vector<int8_t>{0, 0}));
  const QuantizedVector steps = Quantize(std::vector<float>{127, 0.5F, 1.5F, -2.5F, -127});
  EXPECT_EQ(steps.scale, 1.0F);
  EXPECT_EQ(steps.steps, (std::vector<int8_t>{127, 0, 2, -2, -127}));
}

TEST(Quantize, ScoreIsTheDotProductWithWhatTheStepsStandFor) {
  Random random(3);
  for (int trial = 0; trial < 100; ++trial) {
    const NodeVectors vectors{random.Normals(64), random.Normals(64)};
    const std::vector<float> rows = random.Normals(3 * 64);
    const float want = ScoreVectors(ThroughInt8(vectors), rows);
    const float got = ScoreQuantized(Quantize(vectors.m), Quantize(vectors.w), rows);
    EXPECT_NEAR(got, want, 128 * 32 * 0x1p-24) << "128 products below 16, summed in f32";
  }
}

}  // namespace
}  // namespace hipattn::core
