// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// How hipattn-search scores and chooses, beside plain loops over random heads.
#include "head_attention.h"
#include "head_picture.h"
#include "layer_search.h"
#include "run_program.h"
#include "search_options.h"
#include "synthetic_gguf.h"
#include "text_record.h"
#include "tile_costs.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace pattern_search {
namespace {

using hipattn::core::ChooseBy;
using hipattn::core::HeadPattern;
using hipattn::core::PatternType;

constexpr uint32_t kTokens = 700;  // 11 row tiles, the last one not full
constexpr uint32_t kDim = 16;
constexpr uint64_t kDenseTiles = 11 * 12 / 2;

class SearchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string path = folder_.File("tiny.gguf");
    hipattn_run::testing::WriteFile(path, hipattn_run::testing::MakeTinyLlama({}));
    hipattn_run::Result<hipattn_run::GgufFile> file = hipattn_run::GgufFile::Open(path);
    ASSERT_TRUE(file.ok());
    hipattn_run::Result<LlamaModel> model = LlamaModel::Load(file.value());
    ASSERT_TRUE(model.ok());
    model_.emplace(std::move(model.value()));
    ASSERT_EQ(model_->config.head_dim, kDim);
    Result<HeadAttention> attention = HeadAttention::Create(*model_);
    ASSERT_TRUE(attention.ok()) << attention.status().message();
    attention_.emplace(std::move(attention.value()));
    std::mt19937 random(7);
    std::uniform_real_distribution<float> uniform(-1.0F, 1.0F);
    for (std::vector<float>* values : {&input_.q, &input_.k, &input_.v}) {
      values->resize(size_t{kTokens} * kDim);
      std::generate(values->begin(), values->end(), [&] { return uniform(random); });
    }
  }

  Attended Run(const std::optional<HeadPattern>& pattern) {
    Result<Attended> attended = attention_->Run(input_, pattern);
    EXPECT_TRUE(attended.ok()) << attended.status().message();
    return std::move(attended.value());
  }

  // Softmax mass that row `row` has on each key, by loops in double.
  std::vector<double> MassOf(size_t row) const {
    const recall_bench::RopeTable rope(*model_, kTokens);
    std::vector<float> q = input_.q;
    std::vector<float> k = input_.k;
    rope.Rotate(q.data(), kTokens, 1, 0);
    rope.Rotate(k.data(), kTokens, 1, 0);
    std::vector<double> mass(row + 1);
    double sum = 0;
    for (size_t key = 0; key <= row; ++key) {
      double score = 0;
      for (size_t d = 0; d < kDim; ++d) {
        score += double{q[row * kDim + d]} * double{k[key * kDim + d]};
      }
      mass[key] = std::exp(score / std::sqrt(double{kDim}));
      sum += mass[key];
    }
    for (double& value : mass) {
      value /= sum;
    }
    return mass;
  }

  SearchOptions Options(std::vector<HeadPattern> candidates) {
    SearchOptions options;
    options.candidates = std::move(candidates);
    options.candidates.push_back(kDensePattern);
    return options;
  }

  hipattn_run::testing::TemporaryFolder folder_;
  std::optional<LlamaModel> model_;
  std::optional<HeadAttention> attention_;
  HeadInput input_;
};

constexpr HeadPattern kSmallWindow = {PatternType::kAShape, 64, 64};

// Keys are stored in bf16: their scores err by 2^-9 |q| |k| / 4 <= 2^-9 * 16 / 4 = .008, a share of
// mass by a factor of exp(2 * .008) at most: .016.
constexpr double kMassError = 0.016;

TEST_F(SearchTest, RecallIsTheMassThatThePatternAttends) {
  const Attended dense = Run(std::nullopt);
  const Attended sparse = Run(kSmallWindow);
  EXPECT_EQ(dense.dense_tiles, kDenseTiles);
  EXPECT_TRUE(dense.ran_dense());
  EXPECT_EQ(sparse.tiles, 1U + 2U + 9U * 3U);
  EXPECT_FALSE(sparse.ran_dense());
  for (const size_t row : {size_t{0}, size_t{63}, size_t{130}, size_t{333}, size_t{699}}) {
    const std::vector<double> mass = MassOf(row);
    double attended = 0;
    for (size_t key = 0; key <= row; ++key) {
      attended += key < 64 || key + 64 > row ? mass[key] : 0.0;
    }
    EXPECT_NEAR(std::exp(sparse.lse[row] - dense.lse[row]), attended, kMassError) << row;
  }
}

TEST_F(SearchTest, PicturesShowTheMassOfEveryTile) {
  const auto masses = [&](const std::optional<HeadPattern>& pattern) {
    Result<TileMasses> result = MassesOf(input_, kDim, pattern, &*attention_);
    EXPECT_TRUE(result.ok());
    return std::move(result.value());
  };
  const TileMasses dense = masses(std::nullopt);
  const TileMasses sparse = masses(kSmallWindow);
  ASSERT_EQ(dense.size(), 11U);
  for (size_t tile = 0; tile < dense.size(); ++tile) {
    ASSERT_EQ(dense[tile].size(), tile + 1);
    double sums[2] = {0, 0};
    for (size_t key = 0; key <= tile; ++key) {
      sums[0] += dense[tile][key];
      sums[1] += sparse[tile][key];
      EXPECT_GT(dense[tile][key], 0.0F);
      EXPECT_EQ(sparse[tile][key] > 0, key == 0 || key + 1 >= tile) << tile << " " << key;
    }
    // 64 rows' sums of f32 rounded shares, 700 of them at most.
    EXPECT_NEAR(sums[0], 1.0, 1e-4);
    EXPECT_NEAR(sums[1], 1.0, 1e-4);
  }
  double expected = 0;
  for (size_t row = 640; row < kTokens; ++row) {
    const std::vector<double> mass = MassOf(row);
    for (size_t key = 128; key < 192; ++key) {
      expected += mass[key] / 60;
    }
  }
  EXPECT_NEAR(dense[10][2], expected, kMassError * expected);
}

TEST_F(SearchTest, CostsFollowTheTiles) {
  const TileCosts costs = {10, 12, 600, 70};
  const Attended window = Run(kSmallWindow);
  EXPECT_DOUBLE_EQ(costs.ShareOf(kSmallWindow, window), 30.0 * 12 / (66 * 10));
  EXPECT_DOUBLE_EQ(costs.ShareOf(kDensePattern, Run(kDensePattern)), 1.0);
  const HeadPattern lines = {PatternType::kVerticalSlash, 1000, 6096};
  EXPECT_DOUBLE_EQ(costs.ShareOf(lines, Run(lines)), (600.0 + 66 * 10) / (66 * 10));
  const HeadPattern blocks = {PatternType::kBlockSparse, 2, 0};
  EXPECT_DOUBLE_EQ(costs.ShareOf(blocks, Run(blocks)), (70.0 + (1 + 10 * 2) * 12) / (66 * 10));
  const Result<TileCosts> measured = MeasureCosts(&*attention_, kTokens, kDim);
  ASSERT_TRUE(measured.ok()) << measured.status().message();
  TileCosts read;
  EXPECT_TRUE(CostsFromJson(CostsToJson(measured.value()), &read));
  EXPECT_EQ(read.masked_tile, measured.value().masked_tile);
  EXPECT_LT(read.lines, 1e9);  // was measured at all
  EXPECT_FALSE(CostsFromJson({{"dense_tile", 1}}, &read));
}

TEST_F(SearchTest, WhatRanDenseIsNotChosen) {
  SearchOptions options = Options({{PatternType::kAShape, 1024, 4096}, kSmallWindow});
  const TileCosts costs = CountCosts(kTokens, kDim);
  const auto search = [&] {
    Result<HeadChoice> choice = SearchHead(options, costs, input_, &*attention_);
    EXPECT_TRUE(choice.ok());
    return std::move(choice.value());
  };
  options.objective = ChooseBy::kCost;
  options.bound = 0.99;  // a random head has a quarter of its mass in the window
  const HeadChoice exact = search();
  EXPECT_EQ(exact.pattern, kDensePattern);
  EXPECT_EQ(exact.trial.score.recall, 1.0);
  EXPECT_EQ(exact.trial.score.error, 0.0);
  ASSERT_EQ(exact.trials.size(), 3U);
  EXPECT_TRUE(exact.trials[0].ran_dense);
  EXPECT_EQ(exact.trials[0].score.recall, 1.0);
  EXPECT_FALSE(exact.trials[1].ran_dense);
  options.bound = 0.1;
  const HeadChoice cheap = search();
  EXPECT_EQ(cheap.pattern, kSmallWindow);
  EXPECT_DOUBLE_EQ(cheap.trial.density, 30.0 / 66);
  options.objective = ChooseBy::kError;
  options.bound = 0.5;
  EXPECT_EQ(search().pattern, kSmallWindow);
  options.bound = 1.0;
  EXPECT_EQ(search().pattern, kDensePattern);
}

TEST_F(SearchTest, RefiningAddsLinesUntilTheRecall) {
  const HeadPattern lines = {PatternType::kVerticalSlash, 30, 100};
  SearchOptions options = Options({lines});
  options.objective = ChooseBy::kError;
  options.bound = 0;  // nothing fits: the cheapest
  const TileCosts costs = CountCosts(kTokens, kDim);
  const Result<HeadChoice> as_it_is = SearchHead(options, costs, input_, &*attention_);
  ASSERT_TRUE(as_it_is.ok());
  ASSERT_EQ(as_it_is.value().pattern, lines);
  const double recall = as_it_is.value().trial.score.recall;
  ASSERT_LT(recall, 0.9);
  options.refine = recall;  // enough already
  EXPECT_EQ(SearchHead(options, costs, input_, &*attention_).value().pattern, lines);
  options.refine = 0.9;  // every step covers so short a text
  const Result<HeadChoice> refined = SearchHead(options, costs, input_, &*attention_);
  EXPECT_EQ(refined.value().refinements, 1U);
  EXPECT_EQ(refined.value().pattern, kDensePattern);
  EXPECT_EQ(refined.value().trial.score.recall, 1.0);
  EXPECT_EQ(refined.value().trials[0].score.recall, recall);
}

}  // namespace
}  // namespace pattern_search
