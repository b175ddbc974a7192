// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The steps of a search on one head: costs, recall, error, the choice, nudging and refining.
#include "core/pattern/candidate_score.h"
#include "core/pattern/candidates.h"
#include "core/pattern/nudge.h"
#include "core/pattern/pattern_cost.h"
#include "core/pattern/refine.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>
#include <tuple>
#include <vector>

namespace hipattn::core {
namespace {

TEST(Candidates, AreThoseOfThePaperAndOfThePublishedFiles) {
  std::set<std::tuple<PatternType, uint32_t, uint32_t>> different;
  for (const HeadPattern& pattern : kCandidates) {
    different.insert({pattern.type, pattern.a, pattern.b});
  }
  EXPECT_EQ(different.size(), kCandidates.size());
  EXPECT_EQ(kCandidates.front(), (HeadPattern{PatternType::kAShape, 1024, 4096}));
  EXPECT_EQ(kCandidates.back(), (HeadPattern{PatternType::kBlockSparse, 100, 0}));
}

TEST(PatternCost, CountsFlops) {
  EXPECT_EQ(KernelFlops(3, 64), 3.0 * 4 * 64 * 4096);
  const PrefillShape shape = {150, 420};
  EXPECT_EQ(EstimateFlops({PatternType::kAShape, 1, 1}, shape, 64), 0.0);
  EXPECT_EQ(EstimateFlops({PatternType::kVerticalSlash, 1, 1}, shape, 64), 2.0 * 64 * 420 * 64);
  EXPECT_EQ(EstimateFlops({PatternType::kVerticalSlash, 1, 1}, shape, 64, 512),
            2.0 * 150 * 420 * 64);
  EXPECT_EQ(EstimateFlops({PatternType::kBlockSparse, 1, 0}, shape, 64),
            2.0 * 64 * 3 * 7 + 64 * 570.0);
}

TEST(CandidateScore, RecallIsTheMeanShareOfTheRowsThatCount) {
  const float none = -std::numeric_limits<float>::infinity();
  const std::vector<float> dense = {0.0F, 1.0F, 2.0F, 3.0F};
  const std::vector<float> sparse = {none, 1.0F, 2.0F + std::log(0.5F), 3.0F};
  const PrefillShape shape = {4, 10};  // positions 6 to 9
  // Each share is off by the rounding of one float lse, 2^-23 relative at most.
  EXPECT_NEAR(LseRecall(shape, sparse, dense), 2.5 / 4, 1e-6);
  EXPECT_NEAR(LseRecall(shape, sparse, dense, 7), 2.5 / 3, 1e-6);
  EXPECT_EQ(LseRecall(shape, sparse, dense, 9), 1.0);
  EXPECT_NEAR(LseRecall(shape, sparse, dense, 10), 2.5 / 4, 1e-6) << "no row is left: all count";
}

TEST(CandidateScore, ErrorIsRelativeUnlessThereIsNothing) {
  EXPECT_DOUBLE_EQ(OutputError(std::vector<float>{3, 4}, std::vector<float>{3, 8}),
                   4 / std::sqrt(73.0));
  EXPECT_EQ(OutputError(std::vector<float>{0, 0}, std::vector<float>{0, 0}), 0.0);
  EXPECT_EQ(OutputError(std::vector<float>{3, 4}, std::vector<float>{0, 0}), 5.0);
}

TEST(CandidateScore, TheChoiceOfEachMode) {
  const std::vector<CandidateScore> scores = {
      {10, 0.5, 0.4}, {20, 0.9, 0.1}, {20, 0.9, 0.1}, {30, 0.95, 0.05}, {5, 0.2, 0.4}};
  EXPECT_EQ(ChooseCandidate(scores, ChooseBy::kError, 100), 3U);
  EXPECT_EQ(ChooseCandidate(scores, ChooseBy::kError, 29), 1U) << "the earlier of equals";
  EXPECT_EQ(ChooseCandidate(scores, ChooseBy::kError, 10), 4U) << "of equal errors the cheaper";
  EXPECT_EQ(ChooseCandidate(scores, ChooseBy::kError, 4), 4U) << "nothing fits: least cost";
  EXPECT_EQ(ChooseCandidate(scores, ChooseBy::kRecall, 10), 0U);
  EXPECT_EQ(ChooseCandidate(scores, ChooseBy::kRecall, 4), 4U);
  EXPECT_EQ(ChooseCandidate(scores, ChooseBy::kCost, 0.5), 0U);
  EXPECT_EQ(ChooseCandidate(scores, ChooseBy::kCost, 0.9), 1U);
  EXPECT_EQ(ChooseCandidate(scores, ChooseBy::kCost, 0.99), 3U) << "nothing fits: greatest recall";
}

// One FLOP per unit of size.
Result<double> Sum(const HeadPattern& pattern) {
  return static_cast<double>(pattern.a) + pattern.b;
}

TEST(Nudge, WalksOneWayUntilItCrosses) {
  const HeadPattern start = {PatternType::kAShape, 100, 100};
  const auto b_after = [&](double goal, double tolerance) {
    return Nudge(start, {goal, tolerance, 1000}, Sum).value().b;
  };
  EXPECT_EQ(b_after(200, 0), 100U) << "there already";
  EXPECT_EQ(b_after(320, 0), 200U) << "300 is nearer than 350";
  EXPECT_EQ(b_after(330, 0), 250U);
  EXPECT_EQ(b_after(325, 0), 200U) << "the earlier of equals";
  EXPECT_EQ(b_after(320, 70), 150U) << "near enough";
  EXPECT_EQ(b_after(130, 0), 50U) << "down, and the earlier 150 is nearer than 100";
  EXPECT_EQ(b_after(0, 0), 0U);
  EXPECT_EQ(b_after(1e9, 0), 1000U) << "no more than the text";
}

TEST(Nudge, MovesTheLargerNumberOfLinesAndNoBlocks) {
  const NudgeGoal goal = {1000, 0, 2000};
  EXPECT_EQ(Nudge({PatternType::kVerticalSlash, 200, 100}, goal, Sum).value(),
            (HeadPattern{PatternType::kVerticalSlash, 900, 100}));
  EXPECT_EQ(Nudge({PatternType::kVerticalSlash, 100, 100}, goal, Sum).value(),
            (HeadPattern{PatternType::kVerticalSlash, 100, 900}));
  EXPECT_EQ(Nudge({PatternType::kBlockSparse, 100, 0}, goal, Sum).value(),
            (HeadPattern{PatternType::kBlockSparse, 100, 0}));
  const FlopsOf fails = [](const HeadPattern&) -> Result<double> { return Unsupported("no"); };
  EXPECT_EQ(Nudge({PatternType::kAShape, 1, 1}, goal, fails).status().code(),
            StatusCode::kUnsupported);
}

TEST(Refine, StepsByBandsOfRecall) {
  EXPECT_EQ(RefineStep(1.0005), 0U);
  EXPECT_EQ(RefineStep(0.9), 0U);
  EXPECT_EQ(RefineStep(0.8999), 2048U);
  EXPECT_EQ(RefineStep(0.7), 4096U);
  EXPECT_EQ(RefineStep(0.6), 8192U);
  EXPECT_EQ(RefineStep(0.5999), 12244U);
}

}  // namespace
}  // namespace hipattn::core
