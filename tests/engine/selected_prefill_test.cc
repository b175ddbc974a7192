// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Prefill whose masks come from the text and a threshold: FlexPrefill, XAttention and FlashPrefill
// V2, through the C API. What a selector does with scores is tested in tests/core/pattern, the
// scores in tests/conformance; here the two meet.
//
// Bound: as in masked_prefill_test.cc, f32 storage, scores below 20 where keys are planted: the
// weights' errors grow with the scores to 5e-6 of a row's largest value.
#include "core/pattern/flash_select.h"
#include "core/pattern/flex_select.h"
#include "core/pattern/own_blocks.h"
#include "engine/prefill_options.h"
#include "tests/engine/engine_fixture.h"

#include <gtest/gtest.h>

#include <limits>
#include <numeric>
#include <span>

namespace hipattn::test {
namespace {

constexpr double kBound = 1e-5;
constexpr uint32_t kSeed = 72;
constexpr uint32_t kBlock = 64;

hipattn_attention_options_t OptionsOf(uint32_t mode, float threshold = 0.0F) {
  hipattn_attention_options_t options = HIPATTN_ATTENTION_OPTIONS_INIT;
  options.decode_mode = HIPATTN_DECODE_DENSE;
  options.prefill_mode = mode;
  options.prefill_threshold = threshold;
  return options;
}

// A text all of whose queries point to the keys of a few blocks.
Rows PlantedText(const Geometry& geometry, uint64_t tokens) {
  Rows text = MakeRows(geometry, kSeed, 0, 0, tokens);
  for (size_t i = 0; i < text.q.size(); ++i) {
    text.q.data()[i] += 1.0F;
  }
  for (const uint64_t block : {5U, 11U, 23U}) {
    for (size_t i = block * kBlock * geometry.kv_row();
         i < std::min<size_t>((block + 1) * kBlock * geometry.kv_row(), text.k.size());
         ++i) {
      text.k.data()[i] += 1.0F;
    }
  }
  return text;
}

Rows Read(Engine& engine, const hipattn_attention_options_t& options, const Rows& text) {
  Sequence sequence(engine, options);
  Rows rows(Geometry{}, text.num_rows);
  std::copy_n(text.q.data(), text.q.size(), rows.q.data());
  std::copy_n(text.k.data(), text.k.size(), rows.k.data());
  std::copy_n(text.v.data(), text.v.size(), rows.v.data());
  EXPECT_EQ(TryAttend(engine, sequence, 0, rows, kPrefill), HIPATTN_OK)
      << hipattn_last_error_message();
  return rows;
}

// One q head of a text in f64.
struct Head {
  const Geometry& geometry;
  const Rows& text;
  uint32_t q_head;

  uint32_t kv_head() const { return q_head / geometry.group(); }
  const float* Q(uint64_t row) const {
    return text.q.data() + row * geometry.q_row() + q_head * geometry.head_dim;
  }
  std::vector<double> Mean(const Floats& rows, uint64_t block) const {
    std::vector<double> mean(geometry.head_dim);
    for (uint64_t t = block * kBlock; t < (block + 1) * kBlock; ++t) {
      for (uint32_t dim = 0; dim < geometry.head_dim; ++dim) {
        mean[dim] +=
            rows.data()[t * geometry.kv_row() + kv_head() * geometry.head_dim + dim] / kBlock;
      }
    }
    return mean;
  }
  template <typename Key>
  double Score(uint64_t row, const Key& key) const {
    return std::inner_product(key, key + geometry.head_dim, Q(row), 0.0) /
           std::sqrt(double{1} * geometry.head_dim);
  }
};

// FlashPrefill's scores of a whole text: the weights of 64 rows on each block's mean key.
std::vector<float> FlashScores(const Head& head, const core::PrefillShape& shape) {
  const uint32_t blocks = shape.kv_len / kBlock;
  std::vector<float> scores;
  for (uint32_t tile = 0; tile < core::NumRowTiles(shape); ++tile) {
    for (uint32_t block = 0; block < blocks; ++block) {
      const std::vector<double> mean = head.Mean(head.text.k, block);
      double sum = 0.0;
      for (uint64_t row = tile * kBlock; row < (tile + 1) * kBlock; ++row) {
        if ((block + 1) * kBlock <= row + 1) {
          sum += std::exp(head.Score(row, mean.data()));
        }
      }
      scores.push_back(static_cast<float>(std::log(sum)));
    }
  }
  return scores;
}

// What one row attends: whole keys of the kept blocks, and the pruned ones' means as 64 keys each.
struct Expected {
  std::vector<double> out;
  double lse;
};
Expected AttendFlash(const Head& head,
                     uint64_t row,
                     std::span<const int32_t> kept,
                     std::span<const ColumnInterval> pruned) {
  std::vector<double> out(head.geometry.head_dim);
  double sum = 0.0;
  const auto add = [&](double weight, const auto* value) {
    sum += weight;
    for (uint32_t dim = 0; dim < out.size(); ++dim) {
      out[dim] += weight * value[dim];
    }
  };
  for (const int32_t block : kept) {
    const uint64_t begin = static_cast<uint64_t>(block) * kBlock;
    for (uint64_t t = begin; t < std::min(begin + kBlock, row + 1); ++t) {
      const size_t at = t * head.geometry.kv_row() + head.kv_head() * head.geometry.head_dim;
      add(std::exp(head.Score(row, head.text.k.data() + at)), head.text.v.data() + at);
    }
  }
  for (const ColumnInterval& run : pruned) {
    for (uint32_t block = run.begin; block < run.end; ++block) {
      const std::vector<double> key = head.Mean(head.text.k, block);
      const std::vector<double> value = head.Mean(head.text.v, block);
      add(kBlock * std::exp(head.Score(row, key.data())), value.data());
    }
  }
  for (double& x : out) {
    x /= sum;
  }
  return {out, std::log(sum)};
}

// In slices of 2048 rows, the last of which has the tiles that keep everything.
TEST(SelectedPrefill, FlashKeepsWhatWeighsAndCountsTheRestAsMeans) {
  const Geometry geometry;
  Engine engine(EngineOptionsOf(geometry));
  const uint32_t tokens = 2112;
  const core::PrefillShape shape = {tokens, tokens};
  const Rows text = PlantedText(geometry, tokens);
  engine.Stats(true);
  const Rows got = Read(engine, OptionsOf(HIPATTN_PREFILL_FLASH_V2, 0.25F), text);
  const hipattn_stats_t stats = engine.Stats();
  EXPECT_LT(stats.prefill_tiles * 6, stats.prefill_dense_tiles * 5);
  core::FlashOptions flash;
  flash.alpha = 0.25;
  uint64_t num_pruned = 0;
  for (uint32_t q_head = 0; q_head < geometry.q_heads; ++q_head) {
    const Head head = {geometry, text, q_head};
    const core::BlockLists kept = core::SelectFlash(shape, FlashScores(head, shape), flash);
    const core::BlockRuns pruned = core::PrunedRuns(shape, kept);
    num_pruned += pruned.runs.size();
    for (uint64_t row = 0; row < tokens; row += 89) {
      const uint32_t tile = static_cast<uint32_t>(row) / kRowTile;
      const Expected want =
          AttendFlash(head,
                      row,
                      kept.List(tile),
                      std::span(pruned.runs)
                          .subspan(pruned.ptr[tile], pruned.ptr[tile + 1] - pruned.ptr[tile]));
      SCOPED_TRACE(row);
      EXPECT_NEAR(got.lse[row * geometry.q_heads + q_head], want.lse, kBound * 10);
      EXPECT_LE(RelativeError(got.out.data() + row * geometry.q_row() + q_head * geometry.head_dim,
                              want.out,
                              geometry.head_dim),
                kBound);
    }
  }
  EXPECT_GT(num_pruned, 0U);
}

// Share of each row's softmax mass that a mask kept, by the two lse.
std::vector<double> Shares(const Rows& sparse, const Rows& dense) {
  std::vector<double> shares;
  for (size_t i = 0; i < sparse.lse.size(); ++i) {
    shares.push_back(std::exp(double{sparse.lse[i]} - dense.lse[i]));
  }
  return shares;
}

TEST(SelectedPrefill, FlexAndXAttentionKeepTheShareTheyAreToldTo) {
  const Geometry geometry;
  Engine engine(EngineOptionsOf(geometry));
  const Rows text = PlantedText(geometry, 3000);
  const Rows dense = Read(engine, OptionsOf(HIPATTN_PREFILL_DENSE), text);
  for (const uint32_t mode : {HIPATTN_PREFILL_FLEX, HIPATTN_PREFILL_XATTENTION}) {
    uint64_t tiles = UINT64_MAX;
    for (const float threshold : {1.0F, 0.9F, 0.6F}) {
      engine.Stats(true);
      const std::vector<double> shares =
          Shares(Read(engine, OptionsOf(mode, threshold), text), dense);
      const hipattn_stats_t stats = engine.Stats();
      SCOPED_TRACE(::testing::Message() << "mode " << mode << ", threshold " << threshold);
      EXPECT_LT(stats.prefill_tiles, tiles);
      tiles = stats.prefill_tiles;
      // FlexPrefill keeps the share of the columns' mass and of the diagonals', whose union has
      // more; XAttention's masses are estimates.
      const double slack = mode == HIPATTN_PREFILL_FLEX ? 1e-5 : 0.1;
      EXPECT_GT(std::accumulate(shares.begin(), shares.end(), 0.0),
                (threshold - slack) * static_cast<double>(shares.size()));
      EXPECT_LT(*std::max_element(shares.begin(), shares.end()), 1 + 1e-5);
    }
    EXPECT_LT(tiles * 5, engine.Stats().prefill_dense_tiles * 4);
  }
}

// T22: the recall from two lse is the mass of what is attended: here of 10 sinks and a window of
// 100, in f64. Heads in the test are masked in all tiles but the first ones.
TEST(SelectedPrefill, T22_RecallIsTheMassOfTheMask) {
  const Geometry geometry;
  const uint64_t tokens = 2100;
  Rows text = PlantedText(geometry, tokens);
  hipattn_attention_options_t options = OptionsOf(HIPATTN_PREFILL_A_SHAPE);
  options.prefill_sizes[0] = 10;
  options.prefill_sizes[1] = 100;
  Engine engine(EngineOptionsOf(geometry));
  EXPECT_TRUE(std::isnan(engine.Stats().prefill_recall));
  Read(engine, options, text);
  EXPECT_TRUE(std::isnan(engine.Stats(true).prefill_recall));
  options.verify_recall = 1;
  Read(engine, options, text);
  double mass = 0.0;
  double count = 0.0;
  for (uint64_t end = 64; end - 64 < tokens; end += 64) {
    const uint64_t row = std::min(end, tokens) - 1;
    for (uint32_t q_head = 0; q_head < geometry.q_heads; ++q_head, ++count) {
      const Head head = {geometry, text, q_head};
      double all = 0.0;
      double kept = 0.0;
      for (uint64_t t = 0; t <= row; ++t) {
        const size_t at = t * geometry.kv_row() + head.kv_head() * geometry.head_dim;
        const double weight = std::exp(head.Score(row, text.k.data() + at));
        all += weight;
        kept += t < 10 || row - t < 100 ? weight : 0.0;
      }
      mass += kept / all;
    }
  }
  EXPECT_LT(mass / count, 0.6);
  EXPECT_NEAR(engine.Stats(true).prefill_recall, mass / count, 1e-4);

  // The same when the caller wants no lse.
  Sequence sequence(engine, options);
  engine.Attend<float>(
      0,
      sequence,
      {.q = text.q.span(), .k = text.k.span(), .v = text.v.span(), .out = text.out.span()});
  EXPECT_NEAR(engine.Stats().prefill_recall, mass / count, 1e-4);
}

// Tiles of the row tiles [begin, end): whole blocks, and the pruned ones' means in 64s.
uint64_t FlashTiles(const core::BlockLists& kept,
                    const core::BlockRuns& pruned,
                    uint32_t begin,
                    uint32_t end) {
  uint64_t tiles = 0;
  for (uint32_t tile = begin; tile < end; ++tile) {
    uint64_t means = 0;
    for (uint32_t run = pruned.ptr[tile]; run < pruned.ptr[tile + 1]; ++run) {
      means += pruned.runs[run].end - pruned.runs[run].begin;
    }
    tiles += kept.List(tile).size() + (means + kBlock - 1) / kBlock;
  }
  return tiles;
}

// The first kv head's queries leave most blocks alone, once they have seen the planted one near the
// end of the first 2048 rows: those rows are not worth their mask, which has some tiles less than
// dense attention, and the rows behind are. The other kv head's masks leave nothing out.
struct SlicedText {
  static constexpr uint32_t kTokens = 2688;
  static constexpr uint32_t kSliceTiles = 32;
  static constexpr core::PrefillShape kShape = {kTokens, kTokens};

  SlicedText() : text(MakeRows(geometry, kSeed, 0, 0, kTokens)) {
    for (size_t row = 0; row < kTokens; ++row) {
      float* q = text.q.data() + row * geometry.q_row();
      std::for_each(q, q + geometry.q_row() / 2, [](float& x) { x += 1.0F; });
    }
    for (size_t row = 28 * kBlock; row < 29 * kBlock; ++row) {
      float* k = text.k.data() + row * geometry.kv_row();
      std::for_each(k, k + geometry.head_dim, [](float& x) { x += 1.0F; });
    }
  }

  // What a flash head computes of a slice's tiles, and what dense attention would.
  uint64_t MaskTiles(uint32_t q_head, uint32_t begin, uint32_t end) const {
    core::FlashOptions flash;
    flash.alpha = 0.25;
    const Head head = {geometry, text, q_head};
    const core::BlockLists kept = core::SelectFlash(kShape, FlashScores(head, kShape), flash);
    return FlashTiles(kept, core::PrunedRuns(kShape, kept), begin, end);
  }
  static uint64_t DenseTiles(uint32_t begin, uint32_t end) {
    return uint64_t{end} * (end + 1) / 2 - uint64_t{begin} * (begin + 1) / 2;
  }

  const Geometry geometry;
  Rows text;
};

TEST(SelectedPrefill, EachSliceIsDenseOrMaskedByItself) {
  const SlicedText sliced;
  const Geometry& geometry = sliced.geometry;
  const double ratio = engine::kPrefillDenseRules.cost_ratio;
  const uint32_t slices[][2] = {{0, SlicedText::kSliceTiles},
                                {SlicedText::kSliceTiles, SlicedText::kTokens / kBlock}};
  uint64_t want_tiles = 0;
  for (uint32_t q_head = 0; q_head < geometry.q_heads; ++q_head) {
    for (const auto& [begin, end] : slices) {
      const uint64_t mask = sliced.MaskTiles(q_head, begin, end);
      const uint64_t dense = SlicedText::DenseTiles(begin, end);
      const bool is_masked = static_cast<double>(mask) * ratio < static_cast<double>(dense);
      EXPECT_EQ(is_masked, begin > 0 && q_head < 2);
      EXPECT_EQ(mask < dense, q_head < 2);
      want_tiles += is_masked ? mask : dense;
    }
  }
  Engine engine(EngineOptionsOf(geometry));
  const Rows dense = Read(engine, OptionsOf(HIPATTN_PREFILL_DENSE), sliced.text);
  hipattn_attention_options_t options = OptionsOf(HIPATTN_PREFILL_FLASH_V2, 0.25F);
  options.verify_recall = 1;
  engine.Stats(true);
  const Rows got = Read(engine, options, sliced.text);
  const hipattn_stats_t stats = engine.Stats();
  EXPECT_EQ(stats.prefill_tiles, want_tiles);
  EXPECT_EQ(stats.prefill_dense_tiles,
            geometry.q_heads * SlicedText::DenseTiles(0, SlicedText::kTokens / kBlock));
  double recall = 0.0;
  for (size_t row = 0; row < SlicedText::kTokens; ++row) {
    for (uint32_t q_head = 0; q_head < geometry.q_heads; ++q_head) {
      const size_t at = row * geometry.q_heads + q_head;
      const float* out = got.out.data() + at * geometry.head_dim;
      const bool same =
          std::equal(out, out + geometry.head_dim, dense.out.data() + at * geometry.head_dim);
      // The chunk's last two tiles keep everything, beside nothing that is pruned.
      const bool keeps = row / kBlock + 2 >= SlicedText::kTokens / kBlock;
      const bool is_masked = row / kBlock >= SlicedText::kSliceTiles && q_head < 2;
      ASSERT_TRUE(keeps || same != is_masked) << "row " << row << ", head " << q_head;
      if (row % kBlock == kBlock - 1) {
        recall += std::exp(double{got.lse[at]} - dense.lse[at]);
      }
    }
  }
  recall /= SlicedText::kTokens / kBlock * geometry.q_heads;
  // Bound: an lse in f32 is within 1e-5 of its value below 10.
  EXPECT_NEAR(stats.prefill_recall, recall, 1e-4);
}

// Heads that were dense in the call before, for the chunk or for its last slice, and are not now.
TEST(SelectedPrefill, NothingIsLeftOfTheCallBefore) {
  const SlicedText sliced;
  Engine used(EngineOptionsOf(sliced.geometry));
  hipattn_attention_options_t ends = OptionsOf(HIPATTN_PREFILL_A_SHAPE);
  ends.prefill_sizes[0] = 10;
  ends.prefill_sizes[1] = 100;
  hipattn_attention_options_t refused = ends;
  refused.prefill_sizes[1] = SlicedText::kTokens;
  const hipattn_attention_options_t flash = OptionsOf(HIPATTN_PREFILL_FLASH_V2, 0.25F);
  for (const auto& options : {refused, flash, ends, refused, ends}) {
    Engine fresh(EngineOptionsOf(sliced.geometry));
    used.Stats(true);
    ExpectSameRows(Read(used, options, sliced.text), Read(fresh, options, sliced.text));
    EXPECT_EQ(used.Stats().prefill_tiles, fresh.Stats().prefill_tiles);
  }
}

// The last 8 rows of a text, and what FlexPrefill estimates of them in f64. All heads are the same,
// and keys are zeros but for two dimensions.
struct ShortChunk {
  static constexpr uint32_t kBefore = 94 * kBlock;
  static constexpr uint32_t kRows = 8;
  static constexpr float kGamma = 0.4F;

  ShortChunk() : text(MakeRows(geometry, kSeed, 0, 0, shape.kv_len)) {
    std::fill_n(text.q.data(), text.q.size(), 0.0F);
    std::fill_n(text.k.data(), text.k.size(), 0.0F);
    flex.gamma = double{kGamma};
  }

  void SetKey(uint32_t t, float first, float second) {
    for (uint32_t head = 0; head < geometry.kv_heads; ++head) {
      float* k = text.k.data() + t * geometry.kv_row() + head * geometry.head_dim;
      k[0] = first;
      k[1] = second;
    }
  }
  void SetQuery(uint32_t t, float first, float second) {
    for (uint32_t head = 0; head < geometry.q_heads; ++head) {
      float* q = text.q.data() + t * geometry.q_row() + head * geometry.head_dim;
      q[0] = first;
      q[1] = second;
    }
  }

  void Estimate() {
    const Head head = {geometry, text, 0};
    for (uint32_t row = kBefore; row < shape.kv_len; ++row) {
      std::vector<double> weights;
      for (uint32_t t = 0; t <= row; ++t) {
        const double score = head.Score(row, text.k.data() + t * geometry.kv_row());
        weights.push_back(std::exp(score));
        scores[t / kBlock] += static_cast<float>(score) / (kBlock * kRows);
      }
      const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
      for (uint32_t t = 0; t <= row; ++t) {
        vertical[t] += static_cast<float>(weights[t] / sum);
        slash[row - t] += static_cast<float>(weights[t] / sum);
      }
    }
  }
  // What a sum over 8 rows would be that is divided by 64.
  std::vector<float> WeakScores() const {
    std::vector<float> weak = scores;
    std::for_each(weak.begin(), weak.end(), [](float& score) { score *= kRows / 64.0F; });
    return weak;
  }
  core::FlexBudget Plan(std::span<const float> block_scores) const {
    return core::PlanFlex(shape, {vertical, slash, kRows, block_scores}, flex);
  }
  size_t NumBlocks(std::span<const float> block_scores) const {
    core::TopScores top;
    const core::FlexBudget budget = Plan(scores);
    const core::FlexLines lines =
        core::PickFlexLines({vertical, slash, kRows, scores}, budget, flex, &top);
    const std::span<const float> used =
        budget.query_aware ? block_scores : std::span<const float>();
    return core::SelectFlex(shape, lines, used, flex, &top).blocks.size();
  }

  // Tiles that the engine attends of the chunk, per q head.
  uint64_t TilesRead() const {
    Engine engine(EngineOptionsOf(geometry));
    Sequence sequence(engine, OptionsOf(HIPATTN_PREFILL_FLEX, kGamma));
    const auto part = [](const Floats& rows, size_t begin, size_t end) {
      return std::span<const float>(rows.data() + begin, end - begin);
    };
    const size_t kv_at = kBefore * geometry.kv_row();
    engine.Attend<float>(
        0,
        sequence,
        {.q = {}, .k = part(text.k, 0, kv_at), .v = part(text.v, 0, kv_at), .out = {}});
    Rows rows(geometry, kRows);
    std::copy_n(text.q.data() + kBefore * geometry.q_row(), rows.q.size(), rows.q.data());
    std::copy_n(text.k.data() + kv_at, rows.k.size(), rows.k.data());
    std::copy_n(text.v.data() + kv_at, rows.v.size(), rows.v.data());
    engine.Stats(true);
    EXPECT_EQ(TryAttend(engine, sequence, 0, rows, kPrefill), HIPATTN_OK)
        << hipattn_last_error_message();
    const hipattn_stats_t stats = engine.Stats();
    EXPECT_LT(stats.prefill_tiles, stats.prefill_dense_tiles);
    EXPECT_EQ(stats.prefill_tiles % geometry.q_heads, 0U);
    return stats.prefill_tiles / geometry.q_heads;
  }

  const Geometry geometry;
  const core::PrefillShape shape = {kRows, kBefore + kRows};
  Rows text;
  core::FlexOptions flex;
  std::vector<float> vertical = std::vector<float>(shape.kv_len);
  std::vector<float> slash = std::vector<float>(shape.kv_len);
  std::vector<float> scores = std::vector<float>(core::NumKeyBlocks(shape, kBlock));
};

// A probe of few rows: its one strong row is a peak to the mean of 8 rows, and next to nothing to
// the sum of 8 over 64. What that mean predicts is not what the rows weigh, so lines are chosen.
TEST(SelectedPrefill, FlexProbesTheMeanOfTheRowsThereAre) {
  ShortChunk chunk;
  const uint32_t length = chunk.shape.kv_len;
  for (uint32_t t = 0; t < length; ++t) {
    chunk.SetKey(
        t, static_cast<float>(t) / static_cast<float>(length), t / kBlock == 40 ? 1.0F : 0.0F);
    chunk.SetQuery(t, t + 1 < length ? 2.4F : 0.0F, t + 1 < length ? 0.0F : 1120.0F);
  }
  chunk.Estimate();
  ASSERT_FALSE(chunk.Plan(chunk.scores).query_aware);
  ASSERT_TRUE(chunk.Plan(chunk.WeakScores()).query_aware);
  EXPECT_EQ(chunk.TilesRead(), chunk.NumBlocks({}));
}

// A last tile of few rows, which all look for four blocks: those hold gamma of it by the mean of 8
// rows, and a third of all blocks do by the sum of 8 over 64.
TEST(SelectedPrefill, FlexWeighsTheMeanOfTheRowsThereAre) {
  ShortChunk chunk;
  for (uint32_t t = 0; t < chunk.shape.kv_len; ++t) {
    chunk.SetKey(t, t / kBlock % 24 == 5 ? 1.0F : 0.0F, 0.0F);
    chunk.SetQuery(t, 8.0F * std::sqrt(static_cast<float>(chunk.geometry.head_dim)), 0.0F);
  }
  chunk.Estimate();
  ASSERT_TRUE(chunk.Plan(chunk.scores).query_aware);
  const size_t want = chunk.NumBlocks(chunk.scores);
  ASSERT_GT(chunk.NumBlocks(chunk.WeakScores()), want);
  EXPECT_EQ(chunk.TilesRead(), want);
}

constexpr uint32_t kModes[] = {
    HIPATTN_PREFILL_FLEX, HIPATTN_PREFILL_XATTENTION, HIPATTN_PREFILL_FLASH_V2};

TEST(SelectedPrefill, ShortTextsAreDense) {
  const Geometry geometry;
  Engine engine(EngineOptionsOf(geometry));
  for (const uint64_t tokens : {1U, 2U, 63U, 64U, 65U, 128U, 200U}) {
    const Rows text = MakeRows(geometry, kSeed, 0, 0, tokens);
    const Rows want = Read(engine, OptionsOf(HIPATTN_PREFILL_DENSE), text);
    for (const uint32_t mode : kModes) {
      ExpectSameRows(Read(engine, OptionsOf(mode), text), want);
    }
  }
}

TEST(SelectedPrefill, ResultsDoNotDependOnThreads) {
  const Geometry geometry;
  const Rows text = PlantedText(geometry, 2500);
  Engine one(EngineOptionsOf(geometry, HIPATTN_BF16, 1, 1));
  Engine five(EngineOptionsOf(geometry, HIPATTN_BF16, 1, 5));
  for (const uint32_t mode : kModes) {
    ExpectSameRows(Read(five, OptionsOf(mode), text), Read(one, OptionsOf(mode), text));
  }
}

// Chunks that begin inside blocks of 64: no key is lost or counted twice, so shares stay below 1.
TEST(SelectedPrefill, ChunksOfAnySize) {
  const Geometry geometry;
  Engine engine(EngineOptionsOf(geometry));
  const Rows text = MakeRows(geometry, kSeed, 0, 0, 1500);
  const Rows dense = Read(engine, OptionsOf(HIPATTN_PREFILL_DENSE), text);
  for (const uint32_t mode : kModes) {
    Sequence sequence(engine, OptionsOf(mode, 0.5F));
    uint64_t at = 0;
    double sum = 0.0;
    for (const uint64_t count : {700U, 1U, 37U, 500U, 262U}) {
      Rows rows = MakeRows(geometry, kSeed, 0, at, count);
      ASSERT_EQ(TryAttend(engine, sequence, 0, rows, kPrefill), HIPATTN_OK)
          << hipattn_last_error_message();
      for (size_t i = 0; i < rows.lse.size(); ++i) {
        const double share = std::exp(double{rows.lse[i]} - dense.lse[at * geometry.q_heads + i]);
        ASSERT_LT(share, mode == HIPATTN_PREFILL_FLASH_V2 ? 1.1 : 1 + 1e-5)
            << "mode " << mode << " row " << at + i / geometry.q_heads;
        sum += share;
      }
      at += count;
    }
    EXPECT_GT(sum, 0.5 * static_cast<double>(dense.lse.size())) << mode;
  }
}

}  // namespace
}  // namespace hipattn::test
