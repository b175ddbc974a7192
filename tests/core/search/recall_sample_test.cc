// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/search/recall_sample.h"

#include "tests/core/walk_support.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>
#include <set>

namespace hipattn::core {
namespace {

constexpr uint32_t kHeads = 3;

// Blocks [first, first + count), some of them kept, some of those attended; what sketches and keys
// say of each.
struct Text {
  NodeRange blocks;
  std::vector<int32_t> kept, attended;
  std::vector<std::vector<double>> sketches;  // log2, by block from blocks.first on
  std::vector<std::vector<double>> truths;    // natural log
  std::vector<float> lse;                     // natural
};

Text MakeText(Random* random, int32_t first, int32_t count, uint32_t kept_in, uint32_t noise) {
  Text text;
  text.blocks = {first, first + count};
  for (int32_t b = first; b < first + count; ++b) {
    if (random->Below(kept_in) == 0) {
      text.kept.push_back(b);
      if (random->Below(3) == 0) {
        text.attended.push_back(b);
      }
    }
  }
  text.sketches.resize(kHeads);
  text.truths.resize(kHeads);
  for (uint32_t g = 0; g < kHeads; ++g) {
    for (int32_t b = 0; b < count; ++b) {
      // As floats, which is how scores arrive.
      const auto score = static_cast<float>(2 * random->Normal());
      text.sketches[g].push_back(static_cast<double>(score));
      text.truths[g].push_back(static_cast<double>(score) / std::numbers::log2e + 0.25 +
                               0.3 * noise * static_cast<double>(random->Normal()));
    }
    text.lse.push_back(2.0F + static_cast<float>(random->Below(5)));
  }
  return text;
}

// Asks for what the sample wants to see and gives it.
void Answer(const Text& text, RecallSample* sample) {
  sample->List(text.blocks, text.kept, text.attended);
  std::vector<float> scores;
  for (const auto& row : text.sketches) {
    for (const int32_t b : sample->blocks()) {
      scores.push_back(static_cast<float>(row[static_cast<size_t>(b - text.blocks.first)]));
    }
  }
  sample->Draw(scores, text.lse);
  std::vector<double> masses;
  for (const auto& row : text.truths) {
    for (const int32_t b : sample->drawn()) {
      masses.push_back(row[static_cast<size_t>(b - text.blocks.first)]);
    }
  }
  sample->Accept(masses);
}

bool Has(const std::vector<int32_t>& list, int32_t block) {
  return std::binary_search(list.begin(), list.end(), block);
}

// exp of what `left` holds of a head, beside exp(lse).
double TrueShare(const Text& text, uint32_t g, const std::vector<int32_t>& attended_too = {}) {
  double attended = std::exp(static_cast<double>(text.lse[g]));
  double rest = 0;
  for (int64_t b = text.blocks.first; b < text.blocks.end; ++b) {
    const auto block = static_cast<int32_t>(b);
    const double mass = std::exp(text.truths[g][static_cast<size_t>(b - text.blocks.first)]);
    if (Has(attended_too, block)) {
      attended += mass;
    } else if (!Has(text.attended, block)) {
      rest += mass;
    }
  }
  return attended / (attended + rest);
}

TEST(RecallSample, ListsWhatWasKeptAndASampleOfTheRest) {
  Random random(1);
  RecallSample sample;
  for (int trial = 0; trial < 200; ++trial) {
    const auto first = static_cast<int32_t>(random.Below(9));
    const Text text = MakeText(
        &random, first, 1 + static_cast<int32_t>(random.Below(900)), 1 + random.Below(8), 0);
    sample.List(text.blocks, text.kept, text.attended);
    ASSERT_TRUE(std::is_sorted(sample.blocks().begin(), sample.blocks().end()));
    const std::set<int32_t> listed(sample.blocks().begin(), sample.blocks().end());
    ASSERT_EQ(listed.size(), sample.blocks().size());
    size_t discarded = 0;
    size_t sampled = 0;
    for (int64_t b = text.blocks.first; b < text.blocks.end; ++b) {
      const auto block = static_cast<int32_t>(b);
      const bool is_listed = listed.count(block) != 0;
      if (Has(text.kept, block)) {
        ASSERT_EQ(is_listed, !Has(text.attended, block));
      } else {
        ++discarded;
        sampled += is_listed ? 1 : 0;
      }
    }
    ASSERT_EQ(sampled, std::min<size_t>(discarded, kDiscardedSampled));
    ASSERT_EQ(listed.empty() || *listed.begin() >= text.blocks.first, true);
    ASSERT_EQ(listed.empty() || *listed.rbegin() < text.blocks.end, true);
  }
}

TEST(RecallSample, WhatWasAttendedAsAWholeIsOne) {
  Random random(2);
  Text text = MakeText(&random, 3, 100, 1, 0);
  text.attended = text.kept;
  RecallSample sample;
  Answer(text, &sample);
  EXPECT_TRUE(sample.blocks().empty());
  EXPECT_TRUE(sample.drawn().empty());
  EXPECT_EQ(sample.share(0), 1.0);
  EXPECT_EQ(sample.least_share(kHeads - 1), 1.0);
}

// Sketches that are wrong by one factor are put right exactly, however wrong; then nothing is left
// to chance but the sample of what the tree discarded, of which there is none here.
TEST(RecallSample, AConstantFactorIsCorrected) {
  Random random(3);
  RecallSample sample;
  for (int trial = 0; trial < 50; ++trial) {
    const Text text = MakeText(&random, 1, 400, 1, 0);
    Answer(text, &sample);
    EXPECT_LE(sample.drawn().size(), kRecallDraws);
    for (uint32_t g = 0; g < kHeads; ++g) {
      // 400 products of doubles and exp2 of numbers below 32: some 1e-13.
      EXPECT_NEAR(sample.share(g), TrueShare(text, g), 1e-11);
      EXPECT_NEAR(sample.least_share(g), sample.share(g), 1e-9);
    }
  }
}

// Noise per block of .3 in the logarithm: 32 draws leave .3 / sqrt(32) = .05 of the rest, which
// with shares around a half is at most .015 of the whole. Errors are about normal, so the truth is
// above the least share at least as often as a normal variable is above minus one deviation, 84 %,
// less what 32 draws do not know of the deviation and of skewed masses.
TEST(RecallSample, ErrsAsItSays) {
  Random random(4);
  RecallSample sample;
  double error = 0;
  double bias = 0;
  int below = 0;
  constexpr int kTrials = 200;
  for (int trial = 0; trial < kTrials; ++trial) {
    const Text text = MakeText(&random, 1, 400, 1, 1);
    Answer(text, &sample);
    for (uint32_t g = 0; g < kHeads; ++g) {
      const double truth = TrueShare(text, g);
      error += std::abs(sample.share(g) - truth) / (kTrials * kHeads);
      bias += (sample.share(g) - truth) / (kTrials * kHeads);
      below += sample.least_share(g) <= truth ? 1 : 0;
    }
  }
  EXPECT_LT(error, 0.02);
  EXPECT_LT(std::abs(bias), 0.005);
  EXPECT_GT(below, 0.75 * kTrials * kHeads);
}

// Beside what the first head attended, the blocks' masses are 0 in f64. The second one's are drawn.
TEST(RecallSample, WhereNothingDrawnCanBeSeenAllIsAttended) {
  const std::vector<double> sketches = {0, 1, 2};  // log2
  const std::vector<double> truths = {0, 0.7, 1.4};
  const Text text = {
      {0, 3}, {0, 1, 2}, {}, {sketches, sketches}, {truths, truths}, {1000.0F, 1.0F}};
  RecallSample sample;
  Answer(text, &sample);
  EXPECT_FALSE(sample.drawn().empty());
  EXPECT_EQ(sample.share(0), 1.0);
  EXPECT_EQ(sample.least_share(0), 1.0);
  EXPECT_LT(sample.share(1), 0.5);
}

// The definition (docs/search.md, "Recall") for one head and blocks that were all kept. The first
// block is drawn many times: the error counts it as often.
TEST(RecallSample, IsThePlainComputation) {
  const std::vector<double> sketches = {5, 3, 2.5, 1, 0};  // log2
  const std::vector<double> truths = {3.0, 2.9, 1.2, 0.1, 0.4};
  const Text text = {{0, 5}, {0, 1, 2, 3, 4}, {}, {sketches}, {truths}, {3.0F}};
  RecallSample sample;
  Answer(text, &sample);

  double all = 0;
  for (const double score : sketches) {
    all += std::exp2(score);
  }
  std::vector<double> draws(sketches.size());
  for (uint32_t i = 0; i < kRecallDraws; ++i) {
    size_t place = 0;
    double passed = std::exp2(sketches[0]);
    while (passed < (i + 0.5) * all / kRecallDraws) {
      passed += std::exp2(sketches[++place]);
    }
    ++draws[place];
  }
  ASSERT_GT(draws[0], 10);
  double seen = 0;
  double sketched = 0;
  for (size_t b = 0; b < draws.size(); ++b) {
    const double chance = std::exp2(sketches[b]) / all;
    seen += draws[b] * std::exp(truths[b]) / chance;
    sketched += draws[b] * std::exp2(sketches[b]) / chance;
  }
  const double ratio = seen / sketched;
  double squares = 0;
  for (size_t b = 0; b < draws.size(); ++b) {
    const double chance = std::exp2(sketches[b]) / all;
    const double off = (std::exp(truths[b]) - ratio * std::exp2(sketches[b])) / chance;
    squares += draws[b] * off * off;
  }
  const double error = std::sqrt(squares / (kRecallDraws * (kRecallDraws - 1.0)));
  const double attended = std::exp(3.0);
  EXPECT_NEAR(sample.share(0), attended / (attended + ratio * all), 1e-9);
  EXPECT_NEAR(sample.least_share(0), attended / (attended + ratio * all + error), 1e-9);
  // As if all that may be left were left, spread as the sketches say.
  const double most = ratio * all + error;
  double reached = attended;
  for (uint32_t n = 0; n < sketches.size(); ++n) {
    reached += std::exp2(sketches[n]) / all * most;
    const double share = reached / (attended + most);
    EXPECT_EQ(sample.BlocksFor(0.9999 * share), n + 1);
    EXPECT_EQ(sample.BlocksFor(1.0001 * share), n + 1 < sketches.size() ? n + 2 : 0);
  }
}

TEST(RecallSample, DiscardedBlocksCountInProportion) {
  Random random(5);
  RecallSample sample;
  double error = 0;
  constexpr int kTrials = 100;
  for (int trial = 0; trial < kTrials; ++trial) {
    const Text text = MakeText(&random, 1, 1000, 8, 0);
    Answer(text, &sample);
    for (uint32_t g = 0; g < kHeads; ++g) {
      error += std::abs(sample.share(g) - TrueShare(text, g)) / (kTrials * kHeads);
    }
  }
  EXPECT_LT(error, 0.05);
}

// With sketches that are right up to a factor, so many blocks do and one less does not.
TEST(RecallSample, BlocksForIsTheLeastThatDoes) {
  Random random(6);
  RecallSample sample;
  int found = 0;
  for (int trial = 0; trial < 60; ++trial) {
    const Text text = MakeText(&random, 1, 300, 1, 0);
    Answer(text, &sample);
    std::vector<int32_t> order(sample.blocks().begin(), sample.blocks().end());
    const auto best = [&](int32_t block) {
      const auto at = static_cast<size_t>(block - text.blocks.first);
      return std::max({text.sketches[0][at], text.sketches[1][at], text.sketches[2][at]});
    };
    std::stable_sort(
        order.begin(), order.end(), [&](int32_t a, int32_t b) { return best(a) > best(b); });
    const auto least = [&](size_t count) {
      std::vector<int32_t> more(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count));
      std::sort(more.begin(), more.end());
      return std::min(
          {TrueShare(text, 0, more), TrueShare(text, 1, more), TrueShare(text, 2, more)});
    };
    const double target = 0.9;
    const uint32_t count = sample.BlocksFor(target);
    if (least(0) >= target) {
      continue;
    }
    ASSERT_GT(count, text.attended.size());
    const size_t more = count - text.attended.size();
    EXPECT_GE(least(more), target - 1e-6);
    EXPECT_LT(least(more - 1), target + 1e-6);
    ++found;
  }
  EXPECT_GT(found, 30);
}

TEST(RecallSample, BlocksForIsZeroWhereTheKeptDoNot) {
  Random random(7);
  RecallSample sample;
  Text text = MakeText(&random, 1, 600, 60, 0);
  text.lse.assign(kHeads, -5.0F);
  Answer(text, &sample);
  EXPECT_EQ(sample.BlocksFor(0.9), 0U);
}

// Bad numbers give some answer, without a way out of the lists.
TEST(RecallSample, BadNumbersStayInside) {
  Random random(8);
  RecallSample sample;
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(),
                           std::numeric_limits<double>::infinity(),
                           -std::numeric_limits<double>::infinity()}) {
    Text text = MakeText(&random, 1, 300, 2, 1);
    text.sketches[1][7] = bad;
    text.truths[1].assign(300, bad);
    Answer(text, &sample);
    EXPECT_LE(sample.drawn().size(), kRecallDraws);
    EXPECT_LE(sample.BlocksFor(0.9), 300U);
    text.lse.assign(kHeads, static_cast<float>(bad));
    Answer(text, &sample);
    EXPECT_LE(sample.BlocksFor(0.9), 300U);
  }
}

}  // namespace
}  // namespace hipattn::core
