// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Which lines a head gets: forced ones, budgets, ties, planted lines, and what growing budgets
// keep.
#include "core/pattern/line_select.h"

#include "core/mask/line_tiles.h"
#include "tests/support/kv_fixture.h"
#include "tests/support/mask_paint.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

namespace hipattn::core {
namespace {

using hipattn::testing::BuiltMask;
using hipattn::testing::Random;

Lines Select(const std::vector<float>& vertical,
             const std::vector<float>& slash,
             const LineBudget& budget) {
  TopScores scratch;
  Lines lines;
  SelectLines(vertical, slash, budget, &scratch, &lines);
  return lines;
}

std::vector<float> Uniforms(Random* random, size_t count) {
  std::vector<float> scores(count);
  std::generate(
      scores.begin(), scores.end(), [&] { return static_cast<float>(random->Uniform()); });
  return scores;
}

std::vector<int32_t> Numbers(int32_t count) {
  std::vector<int32_t> numbers(static_cast<size_t>(count));
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

bool Has(const std::vector<int32_t>& lines, int32_t line) {
  return std::find(lines.begin(), lines.end(), line) != lines.end();
}

TEST(PrefillAcceptance, T12_TheFirstColumnsAndNearestDiagonalsAreForced) {
  Random random(12);
  for (const auto& [k_v, k_s] : {std::pair(30U, 100U),
                                 std::pair(30U, 800U),
                                 std::pair(3500U, 100U),
                                 std::pair(1000U, 6096U),
                                 std::pair(0U, 0U),
                                 std::pair(500U, 60U)}) {
    std::vector<float> vertical = Uniforms(&random, 4000);
    std::vector<float> slash = Uniforms(&random, 4000);
    std::fill_n(vertical.begin(), 30, 0.0F);
    std::fill_n(slash.begin(), 100, -1.0F);
    const Lines lines = Select(vertical, slash, {k_v, k_s});
    EXPECT_EQ(lines.verticals.size(), std::max(k_v, 30U));
    EXPECT_EQ(lines.slashes.size(), std::clamp(k_s, 50U, 4000U));
    EXPECT_TRUE(std::is_sorted(lines.verticals.begin(), lines.verticals.end()));
    EXPECT_TRUE(std::is_sorted(lines.slashes.rbegin(), lines.slashes.rend()));
    EXPECT_EQ(lines.verticals[29], 29);
    const size_t forced = std::min<size_t>(lines.slashes.size(), 100);
    EXPECT_EQ(lines.slashes[lines.slashes.size() - forced], static_cast<int32_t>(forced) - 1)
        << "below 100 slashes the nearest win";
  }
}

TEST(PrefillAcceptance, T13_ShortTextsHaveTheLinesThatThereAre) {
  for (const int32_t n : {1, 20, 63, 64, 65, 100}) {
    const std::vector<float> scores(static_cast<size_t>(n), 0.5F);
    const Lines lines = Select(scores, scores, {1000, 6096});
    EXPECT_EQ(lines.verticals, Numbers(n));
    std::vector<int32_t> backwards = Numbers(n);
    std::reverse(backwards.begin(), backwards.end());
    EXPECT_EQ(lines.slashes, backwards);
  }
}

// The sums of 64 rows' softmax where one column, and one diagonal, has most of each row.
TEST(PrefillAcceptance, T14_PlantedLinesAreSelected) {
  constexpr uint32_t kTokens = 1500;
  constexpr uint32_t kRows = 64;
  for (uint64_t seed = 0; seed < 1000; ++seed) {
    Random random(seed);
    const uint32_t column = 30 + random.Below(kTokens - kRows - 30);
    const uint32_t offset = 100 + random.Below(kTokens - kRows - 100);
    std::vector<double> vertical(kTokens, 0.0);
    std::vector<double> slash(kTokens, 0.0);
    for (uint32_t pos = kTokens - kRows; pos < kTokens; ++pos) {
      // Noise of one part in 2 kTokens per key on the average; the lines have a quarter each.
      for (uint32_t key = 0; key <= pos; ++key) {
        double share = random.Uniform() / kTokens;
        share += key == column || key + offset == pos ? 0.25 : 0.0;
        vertical[key] += share;
        slash[pos - key] += share;
      }
    }
    const Lines lines =
        Select({vertical.begin(), vertical.end()}, {slash.begin(), slash.end()}, {31, 101});
    ASSERT_TRUE(Has(lines.verticals, static_cast<int32_t>(column))) << "seed " << seed;
    ASSERT_TRUE(Has(lines.slashes, static_cast<int32_t>(offset))) << "seed " << seed;
  }
}

TEST(LineSelect, EqualScoresGoToLowerNumbersAndNaNIsLast) {
  std::vector<float> scores(300, 1.0F);
  scores[40] = std::numeric_limits<float>::quiet_NaN();
  scores[50] = std::numeric_limits<float>::infinity();
  scores[299] = 2.0F;
  const Lines lines = Select(scores, scores, {50, 102});
  std::vector<int32_t> want = Numbers(49);
  want.erase(want.begin() + 40);
  want.insert(want.end(), {50, 299});
  EXPECT_EQ(lines.verticals, want);
  EXPECT_EQ(lines.slashes.front(), 299);
  std::vector<float> nothing(300, -std::numeric_limits<float>::infinity());
  nothing[31] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(Select(nothing, nothing, {33, 50}).verticals, Numbers(33)) << "NaN is as -inf";
}

TEST(LineSelect, TheRatioIsCutBeforeTheBounds) {
  Random random(7);
  const std::vector<float> scores = Uniforms(&random, 600);
  EXPECT_EQ(Select(scores, scores, {101, 301, 0.5}).verticals.size(), 50U);
  EXPECT_EQ(Select(scores, scores, {101, 301, 0.5}).slashes.size(), 150U);
  EXPECT_EQ(Select(scores, scores, {79, 213, 1.3}).verticals.size(), 102U) << "102.7";
  EXPECT_EQ(Select(scores, scores, {79, 213, 1e300}).slashes.size(), 600U);
  EXPECT_EQ(Select(scores, scores, {79, 213, 0.0}).slashes.size(), 50U);
}

// Mass of the pairs on nominal lines, or of those that the mask attends.
struct Recalls {
  double nominal;
  double covered;
};

Recalls RecallsOf(const Lines& lines, const std::vector<double>& mass, uint32_t n) {
  const BuiltMask built(LineTiles({n, n}, lines.verticals, lines.slashes));
  const std::vector<uint8_t> paint = testing::Paint(built);
  Recalls recalls{};
  for (uint32_t row = 0; row < n; ++row) {
    for (uint32_t key = 0; key <= row; ++key) {
      const double share = mass[size_t{row} * n + key];
      recalls.nominal += Has(lines.verticals, static_cast<int32_t>(key)) ||
                                 Has(lines.slashes, static_cast<int32_t>(row - key))
                             ? share
                             : 0.0;
      recalls.covered += paint[size_t{row} * n + key] != 0 ? share : 0.0;
    }
  }
  return recalls;
}

TEST(PrefillAcceptance, T21_LinesNestAndNominalRecallNeverFalls) {
  constexpr uint32_t kTokens = 260;
  Random random(21);
  std::vector<double> mass(size_t{kTokens} * kTokens);
  std::generate(mass.begin(), mass.end(), [&] { return std::exp(3 * random.Normal()); });
  const std::vector<float> vertical = Uniforms(&random, kTokens);
  const std::vector<float> slash = Uniforms(&random, kTokens);
  Lines last;
  double last_recall = 0.0;
  for (uint32_t budget = 30; budget <= kTokens; budget += 23) {
    const Lines lines = Select(vertical, slash, {budget, budget});
    EXPECT_TRUE(std::includes(lines.verticals.begin(),
                              lines.verticals.end(),
                              last.verticals.begin(),
                              last.verticals.end()));
    EXPECT_TRUE(std::includes(
        lines.slashes.rbegin(), lines.slashes.rend(), last.slashes.rbegin(), last.slashes.rend()));
    const Recalls recalls = RecallsOf(lines, mass, kTokens);
    EXPECT_GE(recalls.nominal, last_recall);
    // The same terms in the same order, and some more: no rounding can turn them.
    EXPECT_GE(recalls.covered, recalls.nominal);
    last = lines;
    last_recall = recalls.nominal;
  }
}

TEST(TopScores, ANumberForcedTwiceCountsOnce) {
  TopScores top;
  top.Load(std::vector<float>{1.0F, 2.0F, 3.0F, 4.0F, 5.0F});
  top.Force(0, 2);
  top.Force(1, 3);
  EXPECT_EQ(top.num_forced(), 3U);
  std::vector<int32_t> kept;
  top.Keep(4, &kept);
  EXPECT_EQ(kept, (std::vector<int32_t>{0, 1, 2, 4}));
}

TEST(TopScores, CountsHowManyOfTheLargestFit) {
  Random random(3);
  for (int i = 0; i < 300; ++i) {
    std::vector<float> values(random.Below(60));
    for (float& value : values) {
      value = static_cast<float>(random.Below(8));  // whole: sums are exact in any order
    }
    const double most = random.Below(200);
    std::vector<float> sorted = values;
    std::sort(sorted.rbegin(), sorted.rend());
    size_t want = 0;
    for (double sum = 0; want < sorted.size() && sum + sorted[want] <= most; ++want) {
      sum += sorted[want];
    }
    EXPECT_EQ(CountWhile(&values, [=](double sum) { return sum <= most; }), want);
  }
}

}  // namespace
}  // namespace hipattn::core
