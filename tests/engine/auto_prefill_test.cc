// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Prefill mode AUTO, through the C API: what it is for a chunk, by the length of the text at the
// chunk's end, the chunk's rows, and whether the engine has patterns. Bit for bit, so no bounds.
#include "engine/prefill_options.h"
#include "tests/engine/engine_fixture.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

namespace hipattn::test {
namespace {

constexpr uint32_t kSeed = 74;
constexpr uint64_t kShort = engine::kAutoDenseUpTo;
constexpr uint64_t kLong = kShort + engine::kAutoLeastRows;

Geometry SmallGeometry() {
  Geometry geometry;
  geometry.q_heads = 2;
  geometry.kv_heads = 1;
  geometry.head_dim = 16;
  return geometry;
}

hipattn_attention_options_t OptionsOf(uint32_t mode) {
  hipattn_attention_options_t options = HIPATTN_ATTENTION_OPTIONS_INIT;
  options.decode_mode = HIPATTN_DECODE_DENSE;
  options.prefill_mode = mode;
  return options;
}

hipattn_attention_options_t LinesOf(uint64_t tokens) {
  hipattn_attention_options_t options = OptionsOf(HIPATTN_PREFILL_VERTICAL_SLASH);
  const core::LineBudget lines = engine::AutoLines(static_cast<uint32_t>(tokens));
  options.prefill_sizes[0] = lines.verticals;
  options.prefill_sizes[1] = lines.slashes;
  return options;
}

// A text of `tokens` tokens, whose last `rows` rows are read in one chunk after the others.
Rows LastChunk(Engine& engine,
               const hipattn_attention_options_t& options,
               uint64_t tokens,
               uint64_t rows) {
  const Geometry geometry = SmallGeometry();
  Sequence sequence(engine, options);
  if (tokens > rows) {
    AppendOnly(engine, sequence, geometry, kSeed, 0, tokens - rows);
  }
  return Feed(engine, sequence, geometry, kSeed, tokens - rows, tokens);
}

void ExpectAuto(Engine& engine,
                const hipattn_attention_options_t& want,
                uint64_t tokens,
                uint64_t rows,
                bool masked) {
  SCOPED_TRACE(::testing::Message() << rows << " rows up to " << tokens);
  const Rows expected = LastChunk(engine, want, tokens, rows);
  engine.Stats(true);
  const Rows got = LastChunk(engine, OptionsOf(HIPATTN_PREFILL_AUTO), tokens, rows);
  const hipattn_stats_t stats = engine.Stats();
  ExpectSameRows(got, expected);
  EXPECT_EQ(stats.prefill_tiles < stats.prefill_dense_tiles, masked);
}

TEST(AutoPrefill, IsDenseUpToItsLengthWhateverTheChunk) {
  Engine engine(EngineOptionsOf(SmallGeometry()));
  const auto dense = OptionsOf(HIPATTN_PREFILL_DENSE);
  ExpectAuto(engine, dense, kShort, kShort, false);
  ExpectAuto(engine, dense, kShort, 100, false);
}

TEST(AutoPrefill, IsDenseForChunksOfFewRows) {
  Engine engine(EngineOptionsOf(SmallGeometry()));
  ExpectAuto(
      engine, OptionsOf(HIPATTN_PREFILL_DENSE), 2 * kLong, engine::kAutoLeastRows - 1, false);
}

// The chunk's end decides: the text before it was short.
TEST(AutoPrefill, IsVerticalSlashBeyond) {
  Engine engine(EngineOptionsOf(SmallGeometry()));
  ExpectAuto(engine, LinesOf(kShort + 1), kShort + 1, kShort + 1, true);
  ExpectAuto(engine, LinesOf(kLong), kLong, engine::kAutoLeastRows, true);
  ExpectAuto(engine, LinesOf(2 * kLong), 2 * kLong, 2 * kLong, true);
}

TEST(AutoPrefill, IsTheEnginesPatternsWhereThereAreSome) {
  Engine engine(EngineOptionsOf(SmallGeometry()));
  const std::string path = ::testing::TempDir() + "auto_prefill_patterns.json";
  std::ofstream(path) << R"([{"0": ["stream_llm", 16, 300, 1], "1": ["stream_llm", 64, 90, 1]}])";
  ASSERT_EQ(hipattn_engine_load_patterns(engine.get(), path.c_str()), HIPATTN_OK);
  std::remove(path.c_str());
  const auto patterns = OptionsOf(HIPATTN_PREFILL_PATTERNS);
  const auto dense = OptionsOf(HIPATTN_PREFILL_DENSE);
  ExpectAuto(engine, patterns, 2 * kShort, 2 * kShort, true);
  ExpectAuto(engine, patterns, 2 * kShort, kShort + 500, true);
  ExpectAuto(engine, dense, 2 * kShort, kShort - 500, false);  // an estimate would be 4 % of it
  ExpectAuto(engine, dense, kShort, kShort, false);
}

// Heads whose pattern costs as much as dense attention run dense.
TEST(AutoPrefill, TheGuardStandsBehindIt) {
  Engine engine(EngineOptionsOf(SmallGeometry()));
  const std::string path = ::testing::TempDir() + "auto_prefill_guard.json";
  std::ofstream(path) << R"([{"0": ["stream_llm", 1024, 9000, 1], )"
                      << R"("1": ["vertical_and_slash", 30, 8000, 1]}])";
  ASSERT_EQ(hipattn_engine_load_patterns(engine.get(), path.c_str()), HIPATTN_OK);
  std::remove(path.c_str());
  ExpectAuto(engine, OptionsOf(HIPATTN_PREFILL_DENSE), 2 * kShort, 2 * kShort, false);
}

TEST(AutoPrefill, PatternsAreTakenWhereAnEstimateIsThreePercent) {
  EXPECT_FALSE(engine::AutoTakesPatterns({6599, 6599}));
  EXPECT_TRUE(engine::AutoTakesPatterns({6600, 6600}));
  EXPECT_FALSE(engine::AutoTakesPatterns({3300, 1 << 20}));
  EXPECT_TRUE(engine::AutoTakesPatterns({3310, 1 << 20}));
  EXPECT_TRUE(engine::AutoTakesPatterns({INT32_MAX, INT32_MAX}));
}

// Where keys are stored un-rotated there are no masks, and AUTO asks for none.
TEST(AutoPrefill, IsDenseOverUnrotatedKeys) {
  const Geometry geometry = SmallGeometry();
  hipattn_engine_options_t engine_options = EngineOptionsOf(geometry);
  engine_options.rope_mode = 1;
  engine_options.rope_theta = 1e4F;
  engine_options.trained_tokens = 1 << 16;
  Engine engine(engine_options);
  hipattn_attention_options_t want = OptionsOf(HIPATTN_PREFILL_DENSE);
  want.search = HIPATTN_SEARCH_STAGED;
  hipattn_attention_options_t automatic = want;
  automatic.prefill_mode = HIPATTN_PREFILL_AUTO;
  // Reference speed, so the rows are the fewest that would have masks.
  ExpectSameRows(LastChunk(engine, automatic, kLong, engine::kAutoLeastRows),
                 LastChunk(engine, want, kLong, engine::kAutoLeastRows));
  automatic.prefill_mode = HIPATTN_PREFILL_VERTICAL_SLASH;
  hipattn_sequence_t* none = nullptr;
  EXPECT_EQ(hipattn_sequence_create(engine.get(), &automatic, &none), HIPATTN_UNSUPPORTED);
}

// Beside AUTO there are no sizes, rows or thresholds of one mode; skipping and corrections are of
// all.
TEST(AutoPrefill, TakesWhatEveryMaskTakes) {
  Engine engine(EngineOptionsOf(SmallGeometry()));
  hipattn_attention_options_t want = LinesOf(kLong);
  hipattn_attention_options_t automatic = OptionsOf(HIPATTN_PREFILL_AUTO);
  for (hipattn_attention_options_t* options : {&want, &automatic}) {
    options->prefill_skip_threshold = 1e-4F;
    options->prefill_delta_interval = 64;
  }
  ExpectSameRows(LastChunk(engine, automatic, kLong, engine::kAutoLeastRows),
                 LastChunk(engine, want, kLong, engine::kAutoLeastRows));
}

}  // namespace
}  // namespace hipattn::test
