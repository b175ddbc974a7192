// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Prefill that attends masks, through the C API. What a mask covers is said by core/mask, whose own
// tests compare it with the reference; here attention is compared with the f64 model over the keys
// that are covered.
//
// Bound: f32 storage, scores below 8, up to 1500 keys: WeightError of attention_bound.h is below
// 2e-4 where sums go one by one; the kernels' chains are a hundredth of that.
#include "core/mask/line_tiles.h"
#include "core/pattern/line_select.h"
#include "tests/engine/engine_fixture.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <memory>
#include <numeric>

namespace hipattn::test {
namespace {

constexpr double kBound = 1e-5;
constexpr uint32_t kSeed = 71;

hipattn_attention_options_t MaskOptions(uint32_t mode, uint32_t first = 0, uint32_t second = 0) {
  hipattn_attention_options_t options = HIPATTN_ATTENTION_OPTIONS_INIT;
  options.decode_mode = HIPATTN_DECODE_DENSE;
  options.prefill_mode = mode;
  options.prefill_sizes[0] = first;
  options.prefill_sizes[1] = second;
  return options;
}

Rows ReadText(Engine& engine,
              const Geometry& geometry,
              const hipattn_attention_options_t& options,
              uint64_t tokens,
              uint64_t chunk = UINT64_MAX) {
  Sequence sequence(engine, options);
  Rows all(geometry, tokens);
  for (uint64_t at = 0; at < tokens;) {
    const uint64_t end = std::min(tokens, at + std::min(chunk, tokens - at));
    const Rows rows = Feed(engine, sequence, geometry, kSeed, at, end);
    std::copy_n(rows.out.data(), rows.out.size(), all.out.data() + at * geometry.q_row());
    std::copy_n(rows.lse.data(), rows.lse.size(), all.lse.data() + at * geometry.q_heads);
    at = end;
  }
  return all;
}

NaiveLayer NaiveText(const Geometry& geometry, const Rows& text) {
  NaiveOptions options;
  options.geometry = geometry;
  NaiveLayer layer(options);
  layer.Append(text.k.data(), text.v.data(), text.num_rows);
  return layer;
}

TEST(MaskedPrefill, T7_AShapeIsSinksAndWindowExactly) {
  const Geometry geometry;
  Engine engine(EngineOptionsOf(geometry));
  const uint64_t tokens = 700;
  const Rows text = MakeRows(geometry, kSeed, 0, 0, tokens);
  const NaiveLayer naive = NaiveText(geometry, text);
  const Rows got =
      ReadText(engine, geometry, MaskOptions(HIPATTN_PREFILL_A_SHAPE, 10, 100), tokens);
  for (uint64_t row = 0; row < tokens; row += 23) {
    const NaiveResult want =
        naive.Attend(text.q.data() + row * geometry.q_row(), row, [&](uint32_t, uint64_t t) {
          return t < 10 || row - t < 100;
        });
    SCOPED_TRACE(row);
    ExpectNear(geometry, got, row, want, kBound);
  }
}

TEST(MaskedPrefill, T15_AShapeInChunksIsThatOfTheWhole) {
  const Geometry geometry;
  Engine engine(EngineOptionsOf(geometry, HIPATTN_BF16));
  const auto options = MaskOptions(HIPATTN_PREFILL_A_SHAPE, 64, 200);
  const Rows whole = ReadText(engine, geometry, options, 2000);
  for (const uint64_t chunk : {uint64_t{640}, uint64_t{1024}}) {
    ExpectSameRows(ReadText(engine, geometry, options, 2000, chunk), whole);
  }
}

constexpr core::LineBudget kLines = {60, 104};

// The keys a vertical-slash head's rows attend, from sums in f64 over the last `probe` rows.
std::vector<std::vector<MaskRange>> CoveredTiles(
    const Geometry& geometry, const Rows& text, uint32_t head, uint32_t probe, core::Lines* lines) {
  const auto tokens = static_cast<uint32_t>(text.num_rows);
  std::vector<double> vertical(tokens), slash(tokens);
  for (uint32_t row = tokens - probe; row < tokens; ++row) {
    const float* q = text.q.data() + row * geometry.q_row() + head * geometry.head_dim;
    std::vector<double> weights(row + 1);
    for (uint32_t t = 0; t <= row; ++t) {
      const float* k =
          text.k.data() + t * geometry.kv_row() + head / geometry.group() * geometry.head_dim;
      weights[t] = std::exp(std::inner_product(q, q + geometry.head_dim, k, 0.0) /
                            std::sqrt(double{1} * geometry.head_dim));
    }
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    for (uint32_t t = 0; t <= row; ++t) {
      vertical[t] += weights[t] / sum;
      slash[row - t] += weights[t] / sum;
    }
  }
  const std::vector<float> v(vertical.begin(), vertical.end());
  const std::vector<float> s(slash.begin(), slash.end());
  core::TopScores top;
  core::SelectLines(v, s, kLines, &top, lines);
  const core::PrefillShape shape = {tokens, tokens};
  const core::LineTiles source(shape, lines->verticals, lines->slashes);
  std::vector<std::vector<MaskRange>> tiles(core::NumRowTiles(shape));
  for (uint32_t tile = 0; tile < tiles.size(); ++tile) {
    source.Ranges(tile, &tiles[tile]);
  }
  return tiles;
}

void CheckVerticalSlash(uint32_t probe) {
  Geometry geometry;
  geometry.q_heads = 3;
  geometry.kv_heads = 3;  // one pattern per kv head, as the model has it
  Engine engine(EngineOptionsOf(geometry));
  const uint64_t tokens = 1500;
  const Rows text = MakeRows(geometry, kSeed, 0, 0, tokens);
  const NaiveLayer naive = NaiveText(geometry, text);
  hipattn_attention_options_t options =
      MaskOptions(HIPATTN_PREFILL_VERTICAL_SLASH, kLines.verticals, kLines.slashes);
  options.prefill_last_q = probe;
  const Rows got = ReadText(engine, geometry, options, tokens);
  std::vector<core::Lines> lines(geometry.q_heads);
  std::vector<std::vector<std::vector<MaskRange>>> tiles;
  for (uint32_t head = 0; head < geometry.q_heads; ++head) {
    tiles.push_back(CoveredTiles(geometry, text, head, probe, &lines[head]));
  }
  for (uint64_t row = 0; row < tokens; row += 41) {
    const NaiveResult want =
        naive.Attend(text.q.data() + row * geometry.q_row(), row, [&](uint32_t head, uint64_t t) {
          const auto& ranges = tiles[head][row / 64];
          const auto& columns = lines[head].verticals;
          return std::any_of(ranges.begin(),
                             ranges.end(),
                             [&](const MaskRange& r) { return r.begin <= t && t < r.end; }) ||
                 std::binary_search(columns.begin(), columns.end(), static_cast<int32_t>(t));
        });
    SCOPED_TRACE(row);
    ExpectNear(geometry, got, row, want, kBound);
  }
}

TEST(MaskedPrefill, T6_VerticalSlashAttendsWhatItsLinesCover) {
  CheckVerticalSlash(64);
  CheckVerticalSlash(128);
}

// Lines that cover more than dense attention costs: the guard runs the head densely, to the bit.
TEST(MaskedPrefill, HeadsThatAreNotWorthAMaskAreDense) {
  const Geometry geometry;
  Engine engine(EngineOptionsOf(geometry, HIPATTN_BF16));
  hipattn_attention_options_t dense = MaskOptions(HIPATTN_PREFILL_DENSE);
  const Rows want = ReadText(engine, geometry, dense, 900);
  engine.Stats(true);
  ExpectSameRows(
      ReadText(engine, geometry, MaskOptions(HIPATTN_PREFILL_VERTICAL_SLASH, 900, 900), 900), want);
  const hipattn_stats_t stats = engine.Stats(true);
  EXPECT_EQ(stats.prefill_tiles, stats.prefill_dense_tiles);
  EXPECT_EQ(stats.prefill_dense_tiles, geometry.q_heads * uint64_t{15 * 16 / 2});
}

TEST(MaskedPrefill, T5_AllBlocksAreDenseAttention) {
  const Geometry geometry;
  Engine engine(EngineOptionsOf(geometry));
  ExpectSameRows(ReadText(engine, geometry, MaskOptions(HIPATTN_PREFILL_BLOCK_SPARSE, 40), 700),
                 ReadText(engine, geometry, MaskOptions(HIPATTN_PREFILL_DENSE), 700));
}

// Keys of one block that all queries point to: the tiles must attend it, and say so by their lse.
TEST(MaskedPrefill, BlockSparseKeepsTheBlocksThatMatter) {
  const Geometry geometry;
  Engine engine(EngineOptionsOf(geometry));
  const uint64_t tokens = 2048;
  const auto lse_of = [&](const hipattn_attention_options_t& options) {
    Rows text = MakeRows(geometry, kSeed, 0, 0, tokens);
    for (size_t i = 0; i < text.q.size(); ++i) {
      text.q.data()[i] += 1.0F;
    }
    for (size_t i = 640 * geometry.kv_row(); i < 704 * geometry.kv_row(); ++i) {
      text.k.data()[i] += 1.0F;
    }
    Sequence sequence(engine, options);
    EXPECT_EQ(TryAttend(engine, sequence, 0, text, kPrefill), HIPATTN_OK);
    return std::vector<float>(text.lse.data(), text.lse.data() + text.lse.size());
  };
  const std::vector<float> dense = lse_of(MaskOptions(HIPATTN_PREFILL_DENSE));
  engine.Stats(true);
  const std::vector<float> sparse = lse_of(MaskOptions(HIPATTN_PREFILL_BLOCK_SPARSE, 4));
  for (size_t i = 704 * geometry.q_heads; i < sparse.size(); ++i) {
    EXPECT_GT(std::exp(sparse[i] - dense[i]), 0.5F) << i / geometry.q_heads;
    EXPECT_LE(sparse[i], dense[i] + 1e-4F) << i / geometry.q_heads;
  }
  const hipattn_stats_t stats = engine.Stats();
  EXPECT_LT(stats.prefill_tiles * 3, stats.prefill_dense_tiles);
}

TEST(MaskedPrefill, T20_ResultsDoNotDependOnThreads) {
  const Geometry geometry;
  const auto options = MaskOptions(HIPATTN_PREFILL_VERTICAL_SLASH, 50, 120);
  Engine one(EngineOptionsOf(geometry, HIPATTN_BF16, 1, 1));
  Engine five(EngineOptionsOf(geometry, HIPATTN_BF16, 1, 5));
  ExpectSameRows(ReadText(five, geometry, options, 1700), ReadText(one, geometry, options, 1700));
}

// A file's heads each do what it says; T18: q head h reads kv head h / group.
TEST(MaskedPrefill, PatternsArePerHead) {
  const Geometry geometry;
  const std::string path = ::testing::TempDir() + "masked_prefill_patterns.json";
  std::ofstream(path) << R"([{"0": ["stream_llm", 10, 100, 1], "1": ["stream_llm", 64, 300, 1],)"
                      << R"( "2": ["block_sparse", 0, 0, 1], "3": ["stream_llm", 10, 100, 1]}])";
  Engine engine(EngineOptionsOf(geometry));
  ASSERT_EQ(hipattn_engine_load_patterns(engine.get(), path.c_str()), HIPATTN_OK)
      << hipattn_last_error_message();
  const Rows got = ReadText(engine, geometry, MaskOptions(HIPATTN_PREFILL_PATTERNS), 900);
  const struct {
    uint32_t head;
    hipattn_attention_options_t options;
  } expected[] = {{0, MaskOptions(HIPATTN_PREFILL_A_SHAPE, 10, 100)},
                  {1, MaskOptions(HIPATTN_PREFILL_A_SHAPE, 64, 300)},
                  {2, MaskOptions(HIPATTN_PREFILL_DENSE)},  // 15 blocks of the 100 it may keep
                  {3, MaskOptions(HIPATTN_PREFILL_A_SHAPE, 10, 100)}};
  for (const auto& head : expected) {
    const Rows want = ReadText(engine, geometry, head.options, 900);
    for (uint64_t row = 0; row < 900; ++row) {
      ASSERT_EQ(got.lse.data()[row * geometry.q_heads + head.head],
                want.lse.data()[row * geometry.q_heads + head.head])
          << "head " << head.head << " row " << row;
    }
  }
  std::remove(path.c_str());
}

// The columns of `all` that belong to q heads [first, first + part.q_heads) and their kv heads.
Rows ShareOf(const Rows& all, const Geometry& whole, const Geometry& part, uint32_t first) {
  Rows rows(part, all.num_rows);
  const uint32_t first_kv = first / whole.group();
  for (uint64_t row = 0; row < all.num_rows; ++row) {
    std::copy_n(all.q.data() + row * whole.q_row() + uint64_t{first} * whole.head_dim,
                part.q_row(),
                rows.q.data() + row * part.q_row());
    const uint64_t kv = row * whole.kv_row() + uint64_t{first_kv} * whole.head_dim;
    std::copy_n(all.k.data() + kv, part.kv_row(), rows.k.data() + row * part.kv_row());
    std::copy_n(all.v.data() + kv, part.kv_row(), rows.v.data() + row * part.kv_row());
  }
  return rows;
}

// Two engines that share a model's heads do together what one does with all of them.
TEST(MaskedPrefill, T18_AShareOfTheHeadsPicksItsEntriesOfTheFile) {
  Geometry whole;
  whole.q_heads = 8;
  whole.kv_heads = 4;
  Geometry part = whole;
  part.q_heads = 4;
  part.kv_heads = 2;
  const std::string path = ::testing::TempDir() + "masked_prefill_shares.json";
  std::ofstream(path)
      << R"([{"1": ["stream_llm", 10, 100, 1], "3": ["stream_llm", 64, 300, 1],)"
      << R"( "4": ["vertical_and_slash", 30, 110, 1], "5": ["stream_llm", 0, 80, 1],)"
      << R"( "7": ["stream_llm", 16, 40, 1]}])";
  Rows want = MakeRows(whole, kSeed, 0, 0, 900);
  const hipattn_attention_options_t options = MaskOptions(HIPATTN_PREFILL_PATTERNS);
  {
    Engine engine(EngineOptionsOf(whole));
    ASSERT_EQ(hipattn_engine_load_patterns(engine.get(), path.c_str()), HIPATTN_OK)
        << hipattn_last_error_message();
    Sequence sequence(engine, options);
    ASSERT_EQ(TryAttend(engine, sequence, 0, want, kPrefill), HIPATTN_OK);
  }
  for (const uint32_t first : {0U, 4U}) {
    hipattn_engine_options_t engine_options = EngineOptionsOf(part);
    engine_options.first_q_head = first;
    engine_options.model_q_heads = whole.q_heads;
    Engine engine(engine_options);
    ASSERT_EQ(hipattn_engine_load_patterns(engine.get(), path.c_str()), HIPATTN_OK)
        << hipattn_last_error_message();
    Sequence sequence(engine, options);
    Rows got = ShareOf(want, whole, part, first);
    ASSERT_EQ(TryAttend(engine, sequence, 0, got, kPrefill), HIPATTN_OK);
    for (uint64_t row = 0; row < got.num_rows; ++row) {
      ASSERT_TRUE(std::equal(got.lse.data() + row * part.q_heads,
                             got.lse.data() + (row + 1) * part.q_heads,
                             want.lse.data() + row * whole.q_heads + first))
          << "from head " << first << ", row " << row;
    }
  }
  std::ofstream(path) << R"([{"8": ["stream_llm", 10, 100, 1]}])";
  hipattn_engine_options_t engine_options = EngineOptionsOf(part);
  engine_options.model_q_heads = whole.q_heads;
  Engine engine(engine_options);
  EXPECT_EQ(hipattn_engine_load_patterns(engine.get(), path.c_str()), HIPATTN_MISMATCH);
  std::remove(path.c_str());
}

TEST(MaskedPrefill, T19_TextsOfABatchAreThemselves) {
  const Geometry geometry;
  Engine engine(EngineOptionsOf(geometry, HIPATTN_BF16));
  const hipattn_attention_options_t modes[] = {MaskOptions(HIPATTN_PREFILL_VERTICAL_SLASH, 40, 110),
                                               MaskOptions(HIPATTN_PREFILL_DENSE),
                                               MaskOptions(HIPATTN_PREFILL_A_SHAPE, 16, 80)};
  const uint32_t counts[] = {1000, 130, 777};
  std::vector<std::unique_ptr<Sequence>> sequences;
  std::vector<hipattn_sequence_t*> handles;
  const uint64_t total = std::accumulate(std::begin(counts), std::end(counts), uint64_t{0});
  Rows batch(geometry, total);
  uint64_t at = 0;
  for (size_t i = 0; i < 3; ++i) {
    sequences.push_back(std::make_unique<Sequence>(engine, modes[i]));
    handles.push_back(sequences.back()->get());
    const Rows rows = MakeRows(geometry, kSeed, 0, 0, counts[i]);
    std::copy_n(rows.q.data(), rows.q.size(), batch.q.data() + at * geometry.q_row());
    std::copy_n(rows.k.data(), rows.k.size(), batch.k.data() + at * geometry.kv_row());
    std::copy_n(rows.v.data(), rows.v.size(), batch.v.data() + at * geometry.kv_row());
    at += counts[i];
  }
  hipattn_attend_args_t args = HIPATTN_ATTEND_ARGS_INIT;
  args.num_sequences = 3;
  args.sequences = handles.data();
  args.num_new_tokens = counts;
  args.q = batch.q.data();
  args.k = batch.k.data();
  args.v = batch.v.data();
  args.out = batch.out.data();
  args.lse = batch.lse.data();
  args.phase = kPrefill;
  ASSERT_EQ(hipattn_attend(engine.get(), &args), HIPATTN_OK) << hipattn_last_error_message();
  at = 0;
  for (size_t i = 0; i < 3; ++i) {
    const Rows want = ReadText(engine, geometry, modes[i], counts[i]);
    EXPECT_TRUE(std::equal(want.out.data(),
                           want.out.data() + want.out.size(),
                           batch.out.data() + at * geometry.q_row()))
        << i;
    at += counts[i];
  }
}

// T13: lengths around the tile, and a chunk of one row.
TEST(MaskedPrefill, T13_ShortTexts) {
  const Geometry geometry;
  Engine engine(EngineOptionsOf(geometry));
  for (const uint64_t tokens : {1U, 2U, 63U, 64U, 65U, 129U}) {
    const Rows want = ReadText(engine, geometry, MaskOptions(HIPATTN_PREFILL_DENSE), tokens);
    for (const uint32_t mode : {HIPATTN_PREFILL_A_SHAPE,
                                HIPATTN_PREFILL_VERTICAL_SLASH,
                                HIPATTN_PREFILL_BLOCK_SPARSE,
                                HIPATTN_PREFILL_PATTERNS}) {
      ExpectSameRows(ReadText(engine, geometry, MaskOptions(mode), tokens), want);
    }
  }
}

TEST(MaskedPrefill, OptionsThatCannotBe) {
  const Geometry geometry;
  Engine engine(EngineOptionsOf(geometry));
  const auto refusal = [&](const hipattn_attention_options_t& options) {
    hipattn_sequence_t* sequence = nullptr;
    EXPECT_EQ(hipattn_sequence_create(engine.get(), &options, &sequence), HIPATTN_INVALID_ARGUMENT);
    EXPECT_EQ(sequence, nullptr);
    return std::string(hipattn_last_error_message());
  };
  EXPECT_NE(refusal(MaskOptions(HIPATTN_PREFILL_DENSE, 5)).find("prefill_sizes[0] is 5"),
            std::string::npos);
  EXPECT_NE(refusal(MaskOptions(HIPATTN_PREFILL_BLOCK_SPARSE, 5, 7)).find("prefill_sizes[1] is 7"),
            std::string::npos);
  EXPECT_NE(refusal(MaskOptions(HIPATTN_PREFILL_A_SHAPE, 0x80000000U)).find("prefill_sizes[0]"),
            std::string::npos);
  hipattn_attention_options_t options = MaskOptions(HIPATTN_PREFILL_VERTICAL_SLASH);
  options.prefill_last_q = 65;
  EXPECT_NE(refusal(options).find("prefill_last_q is 65"), std::string::npos);
  options = MaskOptions(HIPATTN_PREFILL_A_SHAPE);
  options.prefill_last_q = 64;
  EXPECT_NE(refusal(options).find("prefill_last_q is 64"), std::string::npos);
  options = MaskOptions(HIPATTN_PREFILL_A_SHAPE);
  options.prefill_skip_threshold = 1.0F;
  EXPECT_NE(refusal(options).find("prefill_skip_threshold is 1"), std::string::npos);
  options.prefill_skip_threshold = std::nanf("");
  EXPECT_NE(refusal(options).find("prefill_skip_threshold is"), std::string::npos);
  options = MaskOptions(HIPATTN_PREFILL_DENSE);
  options.prefill_skip_threshold = 0.5F;
  EXPECT_NE(refusal(options).find("prefill_skip_threshold is 0.5"), std::string::npos);
  options = MaskOptions(HIPATTN_PREFILL_A_SHAPE);
  options.prefill_threshold = 0.5F;
  EXPECT_NE(refusal(options).find("prefill_threshold is 0.5"), std::string::npos);
}

}  // namespace
}  // namespace hipattn::test
