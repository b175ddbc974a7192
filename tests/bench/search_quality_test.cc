// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Q4 of the acceptance list in docs/testing.md: what hipattn-search chooses on heads of known
// structure, at the least counted cost with a recall of 0.9.
#include "head_attention.h"
#include "layer_search.h"
#include "run_program.h"
#include "search_options.h"
#include "synthetic_gguf.h"
#include "tests/support/structured_head.h"
#include "tile_costs.h"

#include <gtest/gtest.h>

#include <cmath>

namespace pattern_search {
namespace {

using hipattn::core::ChooseBy;
using hipattn::core::HeadPattern;
using hipattn::core::PatternType;
using hipattn::testing::HeadPlan;
using hipattn::testing::StructuredHead;

constexpr uint32_t kTokens = 4096;
constexpr HeadPattern kEnds = {PatternType::kAShape, 16, 128};
constexpr HeadPattern kLines = {PatternType::kVerticalSlash, 400, 200};
constexpr HeadPattern kBlocks = {PatternType::kBlockSparse, 12, 0};

class SearchQuality : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string path = folder_.File("tiny.gguf");
    hipattn_run::testing::WriteFile(path, hipattn_run::testing::MakeTinyLlama({}));
    hipattn_run::Result<hipattn_run::GgufFile> file = hipattn_run::GgufFile::Open(path);
    ASSERT_TRUE(file.ok());
    hipattn_run::Result<LlamaModel> model = LlamaModel::Load(file.value());
    ASSERT_TRUE(model.ok());
    // Heads as wide as the structured ones, turned so little that it makes no difference.
    model.value().config.head_dim = StructuredHead::kDim;
    model.value().config.rope_dim = StructuredHead::kDim;
    model.value().rope_inv_freq.assign(StructuredHead::kDim / 2, 1e-30F);
    Result<HeadAttention> attention = HeadAttention::Create(model.value());
    ASSERT_TRUE(attention.ok()) << attention.status().message();
    attention_.emplace(std::move(attention.value()));
    options_.candidates = {kEnds, kLines, kBlocks, kDensePattern};
    options_.objective = ChooseBy::kCost;
    options_.bound = 0.9;
  }

  HeadChoice Search(const HeadPlan& plan) {
    const StructuredHead head(plan);
    HeadInput input = {{head.q().begin(), head.q().end()},
                       {head.k().begin(), head.k().end()},
                       {head.v().begin(), head.v().end()}};
    for (float& x : input.q) {
      x *= std::sqrt(static_cast<float>(StructuredHead::kDim));  // the engine's scale takes it back
    }
    Result<HeadChoice> choice =
        SearchHead(options_, CountCosts(kTokens, StructuredHead::kDim), input, &*attention_);
    EXPECT_TRUE(choice.ok());
    return choice.ok() ? std::move(choice.value()) : HeadChoice();
  }

  static HeadPlan Plan() {
    HeadPlan plan;
    plan.num_tokens = kTokens;
    plan.sink = 10;
    plan.offsets = {0};
    plan.slash = 10;
    return plan;
  }
  static HeadPlan LinesPlan() {
    HeadPlan plan = Plan();
    plan.num_columns = 200;
    plan.column = 10;
    plan.offsets = {0, 1000};
    return plan;
  }

  hipattn_run::testing::TemporaryFolder folder_;
  std::optional<HeadAttention> attention_;
  SearchOptions options_;
};

TEST_F(SearchQuality, Q4_SinksAndWindowAreAnAShape) {
  const HeadChoice choice = Search(Plan());
  EXPECT_EQ(choice.pattern, kEnds);
  EXPECT_GE(choice.trial.score.recall, 0.9);
}

TEST_F(SearchQuality, Q4_LinesAreVerticalSlash) {
  const HeadChoice choice = Search(LinesPlan());
  EXPECT_EQ(choice.pattern, kLines);
  EXPECT_LT(choice.trials[0].score.recall, 0.9) << "the window alone will not do";
}

TEST_F(SearchQuality, Q4_TopicsAreBlocks) {
  HeadPlan plan = Plan();
  plan.sink = 4;
  plan.slash = 4;
  plan.topic = 10;
  const HeadChoice choice = Search(plan);
  EXPECT_EQ(choice.pattern, kBlocks);
  EXPECT_LT(choice.trials[0].score.recall, 0.9);
  EXPECT_LT(choice.trials[1].score.recall, 0.9);
}

// Too few lines for the head: steps are added until the recall is reached, or the whole text is.
TEST_F(SearchQuality, Q4_RefiningReachesTheRecall) {
  const HeadPattern few = {PatternType::kVerticalSlash, 30, 100};
  options_.candidates = {few, kDensePattern};
  options_.objective = ChooseBy::kError;
  options_.bound = 0;  // nothing fits: the cheapest
  const HeadChoice as_it_is = Search(LinesPlan());
  ASSERT_EQ(as_it_is.pattern, few);
  ASSERT_LT(as_it_is.trial.score.recall, 0.9);
  options_.refine = 0.95;
  const HeadChoice refined = Search(LinesPlan());
  EXPECT_GT(refined.refinements, 0U);
  EXPECT_GE(refined.trial.score.recall, 0.95);
}

}  // namespace
}  // namespace pattern_search
