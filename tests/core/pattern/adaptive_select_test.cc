// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The selectors that need no pattern file: FlexPrefill, XAttention and FlashPrefill, against their
// rules written plainly.
#include "core/mask/block_tiles.h"
#include "core/pattern/flash_select.h"
#include "core/pattern/flex_select.h"
#include "core/pattern/own_blocks.h"
#include "core/pattern/xattention_select.h"
#include "tests/support/kv_fixture.h"
#include "tests/support/mask_paint.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>
#include <span>
#include <vector>

namespace hipattn::core {
namespace {

using hipattn::testing::BuiltMask;
using hipattn::testing::Random;

std::vector<float> Wholes(Random* random, size_t count, uint32_t bound) {
  std::vector<float> numbers(count);
  std::generate(
      numbers.begin(), numbers.end(), [&] { return static_cast<float>(random->Below(bound)); });
  return numbers;
}

size_t MapSize(const PrefillShape& shape) {
  return size_t{NumQueryBlocks(shape, 128)} * NumKeyBlocks(shape, 128);
}

std::set<int32_t> ListOf(const BlockLists& lists, uint32_t m) {
  EXPECT_TRUE(std::is_sorted(lists.List(m).begin(), lists.List(m).end()));
  return {lists.List(m).begin(), lists.List(m).end()};
}

// No row is empty, and a selector that keeps everything is dense.
void ExpectDense(const PrefillShape& shape, const BlockLists& lists) {
  EXPECT_EQ(BuiltMask(BlockTiles(shape, {}, &lists)).size.computed_tiles, CausalTiles(shape));
}

constexpr PrefillShape kShapes[] = {{1, 1}, {128, 128}, {1000, 1000}, {300, 1000}, {64, 1001}};

TEST(XAttention, TakesBlocksByDecreasingMassUntilTheirShareIsKept) {
  Random random(1);
  TopScores scratch;
  for (const PrefillShape& shape : kShapes) {
    for (const double threshold : {0.0, 0.5, 0.9, 1.0}) {
      const std::vector<float> mass = Wholes(&random, MapSize(shape), 5);
      const BlockLists lists = SelectXAttention(shape, mass, threshold, &scratch);
      ASSERT_EQ(lists.num_lists(), NumQueryBlocks(shape, 128));
      for (uint32_t m = 0; m < lists.num_lists(); ++m) {
        const OwnBlocks own = OwnBlocksOf(shape, m, 128);
        const float* row = mass.data() + size_t{m} * NumKeyBlocks(shape, 128);
        std::set<int32_t> want = {0};
        for (uint32_t block = own.first; block <= own.last; ++block) {
          want.insert(static_cast<int32_t>(block));
        }
        double kept = 0.0;
        for (const int32_t block : want) {
          kept += row[block];
        }
        // Whole masses: sums are exact, only threshold * total is rounded, here and there alike.
        const double total = std::accumulate(row, row + own.last + 1, 0.0);
        while (threshold * total - kept > 0.0) {
          int32_t best = -1;
          for (int32_t block = 1; block < static_cast<int32_t>(own.first); ++block) {
            if (!want.contains(block) && (best < 0 || row[block] > row[best])) {
              best = block;
            }
          }
          kept += row[best];
          want.insert(best);
        }
        EXPECT_EQ(ListOf(lists, m), want) << "query block " << m << ", threshold " << threshold;
      }
    }
  }
}

TEST(XAttention, AShareAboveOneIsDense) {
  Random random(2);
  TopScores scratch;
  for (const PrefillShape& shape : kShapes) {
    ExpectDense(shape, SelectXAttention(shape, Wholes(&random, MapSize(shape), 5), 1.01, &scratch));
  }
}

size_t TileMapSize(const PrefillShape& shape) {
  return size_t{NumRowTiles(shape)} * NumKeyBlocks(shape, kRowTile);
}

// exp(-1.5): what lies 2 below the best is out.
void CheckFlash(const PrefillShape& shape, int32_t sinks, int32_t window, Random* random) {
  const std::vector<float> scores = Wholes(random, TileMapSize(shape), 4);
  const BlockLists lists =
      SelectFlash(shape,
                  scores,
                  {std::exp(-1.5), static_cast<uint32_t>(sinks), static_cast<uint32_t>(window), 1});
  const BlockRuns pruned = PrunedRuns(shape, lists);
  ASSERT_EQ(pruned.ptr.size(), lists.ptr.size());
  for (uint32_t tile = 0; tile < lists.num_lists(); ++tile) {
    const OwnBlocks own = OwnBlocksOf(shape, tile, kRowTile);
    const float* row = scores.data() + size_t{tile} * NumKeyBlocks(shape, kRowTile);
    const float best = *std::max_element(row, row + own.last + 1);
    const auto first_row = static_cast<int32_t>(TilePosition(shape, tile));
    std::set<int32_t> want;
    std::set<int32_t> left;
    for (int32_t block = 0; block <= static_cast<int32_t>(own.last); ++block) {
      bool near = false;
      for (int32_t key = block * 64; key < (block + 1) * 64; ++key) {
        near = near || key < sinks || first_row - key < window;
      }
      const bool last = tile + 1 == lists.num_lists();
      (near || last || row[block] > best - 2 ? want : left).insert(block);
    }
    EXPECT_EQ(ListOf(lists, tile), want) << "tile " << tile;
    std::set<int32_t> out;
    for (uint32_t i = pruned.ptr[tile]; i < pruned.ptr[tile + 1]; ++i) {
      EXPECT_LT(pruned.runs[i].begin, pruned.runs[i].end);
      for (uint32_t block = pruned.runs[i].begin; block < pruned.runs[i].end; ++block) {
        out.insert(static_cast<int32_t>(block));
      }
    }
    EXPECT_EQ(out, left) << "tile " << tile;
  }
}

TEST(FlashPrefill, KeepsWhatIsNearTheBestAndTheForcedBlocks) {
  Random random(3);
  for (const PrefillShape& shape : {PrefillShape{1000, 1000}, {350, 1001}}) {
    CheckFlash(shape, 100, 150, &random);
    // Sinks and window that end where blocks do, one key before, one behind.
    for (const int32_t near : {127, 128, 129}) {
      CheckFlash(shape, near, near, &random);
    }
  }
}

TEST(FlashPrefill, AlphaZeroIsDenseAndPrunesNothing) {
  for (const PrefillShape& shape : kShapes) {
    const std::vector<float> scores(TileMapSize(shape), 0.0F);
    const BlockLists lists = SelectFlash(shape, scores, {0.0, 0, 0, 0});
    ExpectDense(shape, lists);
    EXPECT_TRUE(PrunedRuns(shape, lists).runs.empty());
  }
}

TEST(FlashPrefill, NaNAndNothingKeepTheirOwnBlocksAlone) {
  const PrefillShape shape = {1000, 1000};
  for (const float score : {std::nanf(""), -std::numeric_limits<float>::infinity()}) {
    const std::vector<float> scores(TileMapSize(shape), score);
    EXPECT_EQ(SelectFlash(shape, scores, {0.1, 0, 0, 0}).blocks.size(), 16U);
  }
  // Rows that begin at the last key of a block, whose own is no window's.
  const PrefillShape chunk = {200, 263};
  const std::vector<float> nothing(TileMapSize(chunk), std::nanf(""));
  const BlockLists lists = SelectFlash(chunk, nothing, {0.1, 0, 0, 0});
  EXPECT_EQ(ListOf(lists, 0), (std::set<int32_t>{0, 1}));
  EXPECT_EQ(ListOf(lists, 2), (std::set<int32_t>{2, 3}));
}

constexpr FlexOptions kOptions = {.block_tokens = 128, .min_blocks = 1};

// 64 probe rows over 1280 tokens: what a test says of columns and distances, evenly spread else.
struct Probe {
  explicit Probe(uint32_t num_tokens)
      : vertical(num_tokens, 64.0F / static_cast<float>(num_tokens)), slash(vertical) {}
  FlexEstimate Estimate() const { return {vertical, slash, 64, scores}; }

  std::vector<float> vertical, slash;
  std::vector<float> scores = std::vector<float>(10, 0.0F);
};

BlockLists SelectedBlocks(const PrefillShape& shape,
                          const FlexEstimate& estimate,
                          const FlexBudget& budget,
                          std::span<const float> scores,
                          const FlexOptions& options,
                          TopScores* scratch) {
  return SelectFlex(
      shape, PickFlexLines(estimate, budget, options, scratch), scores, options, scratch);
}

TEST(FlexPrefill, EvenMassThatMeansPredictIsQueryAware) {
  Probe probe(1280);
  const PrefillShape shape = {1280, 1280};
  FlexOptions options = kOptions;
  const FlexBudget budget = PlanFlex(shape, probe.Estimate(), options);
  EXPECT_NEAR(budget.divergence, 0.0, 1e-4) << "sums of floats, each within 2^-24 of its value";
  ASSERT_TRUE(budget.query_aware);
  EXPECT_EQ(budget.vertical_blocks, 1U);
  // Each query block likes key block 2 by e^9 to 1: those entries have most of the mass, and block
  // 0 of query block 0 and the two of query block 1.
  std::vector<float> scores(100, 0.0F);
  for (size_t m = 2; m < 10; ++m) {
    scores[m * 10 + 2] = 9.0F;
  }
  TopScores scratch;
  const BlockLists lists =
      SelectedBlocks(shape, probe.Estimate(), budget, scores, options, &scratch);
  for (uint32_t m = 3; m < 10; ++m) {
    EXPECT_EQ(ListOf(lists, m), (std::set<int32_t>{0, 2, static_cast<int32_t>(m)}));
  }
  options.gamma = 1.0;
  ExpectDense(shape, SelectedBlocks(shape, probe.Estimate(), budget, scores, options, &scratch));
}

TEST(FlexPrefill, UnpredictedMassIsLinesByTheirShare) {
  Probe probe(1280);
  const PrefillShape shape = {1280, 1280};
  // 150 columns of block 4 and 5 have 0.95 of the mass, and 20 distances of block 3.
  std::fill(probe.vertical.begin(), probe.vertical.end(), 64.0F * 0.05F / 1130);
  std::fill_n(probe.vertical.begin() + 512, 150, 64.0F * 0.95F / 150);
  std::fill(probe.slash.begin(), probe.slash.end(), 64.0F * 0.05F / 1260);
  std::fill_n(probe.slash.begin() + 400, 20, 64.0F * 0.95F / 20);
  const FlexBudget budget = PlanFlex(shape, probe.Estimate(), kOptions);
  EXPECT_FALSE(budget.query_aware);
  EXPECT_GT(budget.divergence, 0.5);
  EXPECT_EQ(budget.vertical_blocks, 2U) << "(1 + 142) / 128 + 1";
  EXPECT_EQ(budget.slash_blocks, 1U) << "(1 + 18) / 128 + 1";
  TopScores scratch;
  FlexBudget more = budget;
  more.vertical_blocks = 3;
  more.slash_blocks = 2;
  const BlockLists lists = SelectedBlocks(shape, probe.Estimate(), more, {}, kOptions, &scratch);
  EXPECT_EQ(ListOf(lists, 0), (std::set<int32_t>{0}));
  EXPECT_EQ(ListOf(lists, 3), (std::set<int32_t>{0, 3}));
  EXPECT_EQ(ListOf(lists, 9), (std::set<int32_t>{0, 4, 5, 6, 9})) << "9 - 3 by its distance";
  FlexOptions bounded = kOptions;
  bounded.min_blocks = 3;
  EXPECT_EQ(PlanFlex(shape, probe.Estimate(), bounded).slash_blocks, 3U);
  bounded.min_blocks = 1;
  bounded.max_blocks = 1;
  EXPECT_EQ(PlanFlex(shape, probe.Estimate(), bounded).vertical_blocks, 1U);
}

// Most of the probe rows' mass on one key, none in the first block: that key's block is kept, and
// the first one by force.
TEST(FlexPrefill, OneKeyWithAllTheMassIsKept) {
  const PrefillShape shape = {4096, 4096};
  std::vector<float> vertical(4096, 0.001F);
  std::vector<float> slash(4096, 64.0F / 4096);
  std::fill_n(vertical.begin(), 64, 0.0F);
  vertical[2000] = 64.0F - 4031 * 0.001F;
  const std::vector<float> scores(64, 0.0F);
  const FlexEstimate estimate = {vertical, slash, 64, scores};
  const FlexBudget budget = PlanFlex(shape, estimate, {});
  ASSERT_FALSE(budget.query_aware);
  EXPECT_EQ(budget.vertical_blocks, 16U) << "1024 tokens";
  TopScores scratch;
  const BlockLists lists = SelectedBlocks(shape, estimate, budget, {}, {}, &scratch);
  EXPECT_TRUE(ListOf(lists, 63).contains(2000 / 64));
  EXPECT_TRUE(ListOf(lists, 63).contains(0));
}

TEST(FlexPrefill, ShortTextsAreDenseAndChunksKeepTheirOwnBlocks) {
  TopScores scratch;
  for (const PrefillShape& shape : {PrefillShape{1, 1}, {256, 256}, {100, 200}}) {
    Probe probe(shape.kv_len);
    const FlexBudget budget = PlanFlex(shape, probe.Estimate(), kOptions);
    EXPECT_EQ(budget.vertical_blocks, NumKeyBlocks(shape, 128)) << "up to two blocks: all";
    ExpectDense(shape, SelectedBlocks(shape, probe.Estimate(), budget, {}, kOptions, &scratch));
  }
  Probe probe(1280);
  const PrefillShape chunk = {200, 1280};  // positions 1080 to 1279: blocks 8 and 9
  const BlockLists lists =
      SelectedBlocks(chunk, probe.Estimate(), {1, 1, false, 1.0}, {}, kOptions, &scratch);
  EXPECT_EQ(ListOf(lists, 0), (std::set<int32_t>{0, 8, 9}));
  EXPECT_EQ(ListOf(lists, 1), (std::set<int32_t>{0, 9}));
}

// One column or distance with all the mass would be one block of a longer text.
TEST(FlexPrefill, TwoBlocksAreKeptWhateverTheMass) {
  Probe probe(256);
  probe.scores = {0.0F, 0.0F};
  std::fill(probe.vertical.begin(), probe.vertical.end(), 0.0F);
  probe.vertical[200] = 64.0F;
  probe.slash = probe.vertical;
  const FlexBudget budget = PlanFlex({256, 256}, probe.Estimate(), kOptions);
  EXPECT_EQ(budget.vertical_blocks, 2U);
  EXPECT_EQ(budget.slash_blocks, 2U);
  EXPECT_FALSE(budget.query_aware);
}

// 256 lines of 1 / 4, which add up exactly: lines of 128 are two blocks from the 127th on that
// fits, since the one that passes the share belongs to them.
TEST(FlexPrefill, TheLineThatPassesTheShareCounts) {
  Probe probe(1280);
  std::fill(probe.vertical.begin(), probe.vertical.end(), 0.0F);
  std::fill_n(probe.vertical.begin(), 256, 0.25F);
  probe.slash = probe.vertical;
  FlexOptions options = kOptions;
  options.gamma = 31.6 / 64;  // 126 lines fit
  const FlexBudget below = PlanFlex({1280, 1280}, probe.Estimate(), options);
  ASSERT_FALSE(below.query_aware);
  EXPECT_EQ(below.vertical_blocks, 1U);
  EXPECT_EQ(below.slash_blocks, 1U);
  options.gamma = 31.9 / 64;
  const FlexBudget above = PlanFlex({1280, 1280}, probe.Estimate(), options);
  EXPECT_EQ(above.vertical_blocks, 2U);
  EXPECT_EQ(above.slash_blocks, 2U);
}

TEST(FlexPrefill, OnlyADivergenceBelowTauIsQueryAware) {
  Probe probe(1280);
  probe.scores[3] = 1.0F;
  FlexOptions options = kOptions;
  options.tau = PlanFlex({1280, 1280}, probe.Estimate(), options).divergence;
  ASSERT_GT(options.tau, 0.0);
  EXPECT_FALSE(PlanFlex({1280, 1280}, probe.Estimate(), options).query_aware);
  options.tau = std::nextafter(options.tau, 1.0);
  EXPECT_TRUE(PlanFlex({1280, 1280}, probe.Estimate(), options).query_aware);
}

// Block 3 has more than the share by itself.
TEST(FlexPrefill, TheBlockThatPassesTheShareIsKept) {
  const Probe probe(1280);
  std::vector<float> scores(10, 0.0F);
  scores[3] = 9.0F;
  TopScores scratch;
  const BlockLists lists =
      SelectedBlocks({128, 1280}, probe.Estimate(), {1, 1, true, 0.0}, scores, kOptions, &scratch);
  ASSERT_EQ(lists.num_lists(), 1U);
  EXPECT_EQ(ListOf(lists, 0), (std::set<int32_t>{0, 3, 9}));
}

TEST(FlexPrefill, ABudgetOfNothingKeepsTheFirstBlockAndTheDiagonal) {
  const Probe probe(1280);
  TopScores scratch;
  const BlockLists lists =
      SelectedBlocks({200, 1280}, probe.Estimate(), {0, 0, false, 1.0}, {}, kOptions, &scratch);
  EXPECT_EQ(ListOf(lists, 0), (std::set<int32_t>{0, 8, 9}));
  EXPECT_EQ(ListOf(lists, 1), (std::set<int32_t>{0, 9}));
}

}  // namespace
}  // namespace hipattn::core
