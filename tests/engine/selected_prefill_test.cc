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
#include "tests/engine/engine_fixture.h"

#include <gtest/gtest.h>

#include <limits>
#include <numeric>

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
