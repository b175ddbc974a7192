// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Audits: the loss against a plain computation, modes from losses, who is scanned when not all may
// be, and when a head's turn comes.
#include "core/search/audit.h"

#include "tests/support/kv_fixture.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

namespace hipattn::core {
namespace {

struct Audited {
  std::vector<float> scores;   // [group][num_blocks]
  std::vector<float> outside;  // [group]
  std::vector<int32_t> kept;
  uint32_t group;
  uint32_t num_blocks;
  uint32_t best;

  AuditScores view() const {
    return {scores.data(), outside.data(), kept, group, num_blocks, best};
  }
  float score(uint32_t g, int32_t block) const {
    return scores[size_t{g} * num_blocks + static_cast<size_t>(block)];
  }
};

// The `best` of `places` by the largest score of any head, sorted; of equal ones the first.
std::vector<int32_t> PlainBest(const Audited& audited, std::vector<int32_t> places) {
  const auto top = [&](int32_t block) {
    float largest = -std::numeric_limits<float>::infinity();
    for (uint32_t g = 0; g < audited.group; ++g) {
      largest = std::max(largest, audited.score(g, block));
    }
    return largest;
  };
  std::stable_sort(
      places.begin(), places.end(), [&](int32_t a, int32_t b) { return top(a) > top(b); });
  places.resize(std::min<size_t>(places.size(), audited.best));
  return places;
}

// Softmax over all blocks and what is outside, in the order of the definition.
double PlainLoss(const Audited& audited) {
  std::vector<int32_t> all(audited.num_blocks);
  std::iota(all.begin(), all.end(), 0);
  double worst = 0.0;
  for (uint32_t g = 0; g < audited.group; ++g) {
    const auto mass = [&](const std::vector<int32_t>& blocks) {
      double sum = 0.0;
      for (const int32_t block : blocks) {
        sum += std::exp2(double{audited.score(g, block)});
      }
      return sum;
    };
    const double total = mass(all) + std::exp2(double{audited.outside[g]});
    worst = std::max(
        worst, (mass(PlainBest(audited, all)) - mass(PlainBest(audited, audited.kept))) / total);
  }
  return worst;
}

TEST(AuditLoss, IsThePlainComputation) {
  testing::Random random(3);
  AuditLoss loss;
  uint32_t positive = 0;
  for (uint32_t round = 0; round < 200; ++round) {
    Audited audited;
    audited.group = 1 + random.Below(5);
    audited.num_blocks = 2 + random.Below(300);
    const uint32_t num_kept = 1 + random.Below(audited.num_blocks - 1);
    audited.best = 1 + random.Below(std::min(num_kept, 20U));
    std::vector<int32_t> blocks(audited.num_blocks);
    std::iota(blocks.begin(), blocks.end(), 0);
    random.Shuffle(&blocks);
    audited.kept.assign(blocks.begin(), blocks.begin() + num_kept);
    std::sort(audited.kept.begin(), audited.kept.end());
    for (uint32_t i = 0; i < audited.group * audited.num_blocks; ++i) {
      // Whole numbers now and then, so that scores are equal.
      const float score = 4 * random.Normal();
      audited.scores.push_back(round % 2 == 0 ? score : std::round(score));
    }
    for (uint32_t g = 0; g < audited.group; ++g) {
      audited.outside.push_back(4 + 3 * random.Normal());
    }
    // Doubles summed in another order: at most 300 terms, each rounded by 2^-53 of at most 1.
    const double got = loss.Of(audited.view());
    EXPECT_NEAR(got, PlainLoss(audited), 1e-12);
    positive += got > 0.01 ? 1 : 0;
  }
  EXPECT_GT(positive, 50U);
}

TEST(AuditLoss, ALoneStrongBlockOutsideTheTreeIsAllLoss) {
  Audited audited = {std::vector<float>(100, -20.0F), {-10.0F}, {0, 1, 2, 3}, 1, 100, 2};
  audited.scores[50] = 3000.0F;  // beyond what exp2 can hold: only differences count
  AuditLoss loss;
  EXPECT_DOUBLE_EQ(loss.Of(audited.view()), 1.0);
  audited.kept[3] = 50;
  EXPECT_DOUBLE_EQ(loss.Of(audited.view()), 0.0);
  audited.kept[3] = 3;
  audited.outside[0] = 3000.0F;
  EXPECT_NEAR(loss.Of(audited.view()), 0.5, 1e-12);
}

TEST(AuditLoss, ScoresThatAreNoNumbersLoseNothing) {
  Audited audited = {std::vector<float>(100, std::numeric_limits<float>::quiet_NaN()),
                     {0.0F},
                     {0, 1, 2, 3},
                     1,
                     100,
                     2};
  EXPECT_EQ(AuditLoss().Of(audited.view()), 0.0);
}

// `count` samples of the same loss for one head.
void AddSamples(AuditTable* table, uint32_t layer, uint32_t head, double loss, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) {
    table->AddSample(layer, head, loss);
  }
}

std::vector<size_t> Scanned(const AuditTable& table) {
  std::vector<size_t> scanned;
  for (size_t i = 0; i < table.heads().size(); ++i) {
    if (table.heads()[i].scanned) {
      scanned.push_back(i);
    }
  }
  return scanned;
}

TEST(AuditTable, LossIsTheMeanOfTheSamplesAndForgetsOldOnes) {
  AuditTable table(1, 1);
  double sum = 0.0;
  testing::Random random(1);
  for (uint32_t i = 0; i < kMeanSamples; ++i) {
    const double loss = random.Uniform();
    sum += loss;
    table.AddSample(0, 0, loss);
    EXPECT_NEAR(table.at(0, 0).loss, sum / (i + 1), 1e-12);
  }
  AddSamples(&table, 0, 0, 0.0, 4 * kMeanSamples);
  EXPECT_LT(table.at(0, 0).loss, 0.02);  // e^-4
  EXPECT_EQ(table.at(0, 0).samples, kMeanSamples);
}

TEST(AuditTable, AHeadIsScannedAboveOneThresholdAndLeftBelowAnother) {
  AuditTable table(1, 1);
  AddSamples(&table, 0, 0, kEnterLoss, kLeastSamples - 1);
  table.DecideAll(1);
  EXPECT_FALSE(table.at(0, 0).scanned) << "too few samples";
  table.AddSample(0, 0, kEnterLoss * 0.5);
  table.DecideAll(1);
  EXPECT_FALSE(table.at(0, 0).scanned) << "below";
  AddSamples(&table, 0, 0, 2 * kEnterLoss, kLeastSamples);
  EXPECT_FALSE(table.at(0, 0).scanned) << "samples alone change no mode";
  table.DecideAll(1);
  EXPECT_TRUE(table.at(0, 0).scanned);
  while (table.at(0, 0).loss >= kLeaveLoss) {
    table.DecideAll(1);
    EXPECT_TRUE(table.at(0, 0).scanned) << table.at(0, 0).loss;
    table.AddSample(0, 0, 0.0);
  }
  table.DecideAll(1);
  EXPECT_FALSE(table.at(0, 0).scanned);
  while (table.at(0, 0).loss < kEnterLoss) {
    table.DecideAll(1);
    EXPECT_FALSE(table.at(0, 0).scanned) << table.at(0, 0).loss;
    table.AddSample(0, 0, 1.05 * kEnterLoss);
  }
  table.DecideAll(1);
  EXPECT_TRUE(table.at(0, 0).scanned);
}

TEST(AuditTable, TheWorstHeadsAreScannedAndTheOthersWait) {
  AuditTable table(3, 2);
  const double losses[] = {0.03, 0.0, 0.05, 0.03, 0.03, 0.04};
  for (uint32_t i = 0; i < 6; ++i) {
    AddSamples(&table, i / 2, i % 2, losses[i], kLeastSamples);
  }
  const std::vector<std::vector<size_t>> want = {
      {}, {2}, {2, 5}, {0, 2, 5}, {0, 2, 3, 5}, {0, 2, 3, 4, 5}, {0, 2, 3, 4, 5}};
  for (uint32_t most = 0; most < want.size(); ++most) {
    table.DecideAll(most);
    EXPECT_EQ(Scanned(table), want[most]) << most;
    EXPECT_EQ(table.Count().scanned + table.Count().waiting, 5);
    AuditTable by_layer = table;
    by_layer.DecideAll(0);
    for (const uint32_t layer : {2U, 0U, 1U}) {
      by_layer.DecideLayer(layer, most);
    }
    EXPECT_TRUE(std::ranges::equal(by_layer.heads(), table.heads())) << most;
  }
}

TEST(AuditTable, ALayerTakesBackWhatACallChanged) {
  AuditTable table(2, 2);
  AddSamples(&table, 0, 1, 0.5, kLeastSamples);
  AddSamples(&table, 1, 0, 0.5, kLeastSamples);
  const std::vector<HeadAudit> before(table.heads().begin(), table.heads().end());
  table.Save(1);
  AddSamples(&table, 1, 1, 0.9, kLeastSamples);
  table.DecideLayer(1, 1);
  EXPECT_EQ(table.Change(1).scanned, 1);
  EXPECT_EQ(table.Change(1).waiting, 1);
  table.Restore(1);
  EXPECT_TRUE(std::ranges::equal(table.heads(), before));
  EXPECT_EQ(table.Change(1).scanned, 0);
}

TEST(AuditIsDue, EveryHeadOncePerIntervalAndEvenlySpread) {
  for (const uint32_t interval : {1U, 7U, 64U, 1000U}) {
    for (const uint64_t heads : {1U, 5U, 90U, 1024U}) {
      std::vector<uint32_t> turns(heads, 0);
      uint64_t most = 0;
      for (uint64_t pos = 5000; pos < 5000 + interval; ++pos) {
        uint64_t at_once = 0;
        for (uint64_t head = 0; head < heads; ++head) {
          const bool due = AuditIsDue(pos, interval, head, heads);
          turns[head] += due ? 1 : 0;
          at_once += due ? 1 : 0;
        }
        most = std::max(most, at_once);
      }
      EXPECT_EQ(turns, std::vector<uint32_t>(heads, 1));
      EXPECT_EQ(most, (heads + interval - 1) / interval);
    }
  }
}

TEST(AuditIsDue, TheDefaultFollowsTheLength) {
  const auto times = [](uint64_t first, uint64_t steps) {
    uint64_t count = 0;
    for (uint64_t pos = first; pos < first + steps; ++pos) {
      count += AuditIsDue(pos, 0, 3, 10) ? 1 : 0;
    }
    return count;
  };
  EXPECT_EQ(times(0, 6400), 100U);
  EXPECT_EQ(times(30000, 12800), 100U);     // 75 to 107 steps: 128
  EXPECT_EQ(times(1050000, 9 * 2688), 9U);  // 2625 to 2685 steps
}

}  // namespace
}  // namespace hipattn::core
