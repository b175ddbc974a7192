// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Delta correction of sparse prefill, through the C API: out of a row is what its mask gives, and
// what dense attention gives more to the last anchor. The plain reference is that sentence, over
// the rows of the same text read without correction, and densely.
//
// Bound: the anchors' dense rows come from the decode kernel, the reference's from dense prefill;
// both are within 1e-5 of f64 (masked_prefill_test.cc) for values below 4, and a correction is the
// sum of three of them.
#include "core/mask/anchors.h"
#include "tests/engine/engine_fixture.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

namespace hipattn::test {
namespace {

constexpr double kBound = 4 * 3e-5;
constexpr uint32_t kSeed = 73;

struct Mode {
  uint32_t mode;
  uint32_t sizes[2];
  float threshold;
};

// Each computes a small part of 1500 random tokens.
constexpr Mode kModes[] = {{HIPATTN_PREFILL_A_SHAPE, {10, 100}, 0.0F},
                           {HIPATTN_PREFILL_VERTICAL_SLASH, {60, 104}, 0.0F},
                           {HIPATTN_PREFILL_BLOCK_SPARSE, {3, 0}, 0.0F},
                           {HIPATTN_PREFILL_HIP, {0, 0}, 0.0F},
                           {HIPATTN_PREFILL_PATTERNS, {0, 0}, 0.0F},
                           {HIPATTN_PREFILL_FLEX, {0, 0}, 0.2F},
                           {HIPATTN_PREFILL_XATTENTION, {0, 0}, 0.2F},
                           {HIPATTN_PREFILL_FLASH_V2, {0, 0}, 1.0F}};

hipattn_attention_options_t OptionsOf(const Mode& mode, uint32_t interval) {
  hipattn_attention_options_t options = SparseOptions(64, 16, 96);
  options.prefill_mode = mode.mode;
  std::copy_n(mode.sizes, 2, options.prefill_sizes);
  options.prefill_threshold = mode.threshold;
  options.prefill_delta_interval = interval;
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
    const uint64_t count = std::min(chunk, tokens - at);
    Rows rows = MakeRows(geometry, kSeed, 0, at, count);
    EXPECT_EQ(TryAttend(engine, sequence, 0, rows, kPrefill), HIPATTN_OK)
        << hipattn_last_error_message();
    std::copy_n(rows.out.data(), rows.out.size(), all.out.data() + at * geometry.q_row());
    std::copy_n(rows.lse.data(), rows.lse.size(), all.lse.data() + at * geometry.q_heads);
    at += count;
  }
  return all;
}

// Two of the four heads have patterns that are worth it.
class DeltaPrefill : public ::testing::Test {
 protected:
  static Engine MakeEngine(const Geometry& geometry, uint32_t num_threads = 1) {
    Engine engine(EngineOptionsOf(geometry, HIPATTN_F32, 1, num_threads));
    const std::string path = ::testing::TempDir() + "delta_prefill_patterns.json";
    std::ofstream(path) << R"([{"0": ["stream_llm", 10, 100, 1], "3": ["stream_llm", 20, 80, 1]}])";
    EXPECT_EQ(hipattn_engine_load_patterns(engine.get(), path.c_str()), HIPATTN_OK)
        << hipattn_last_error_message();
    std::remove(path.c_str());
    return engine;
  }
};

// What a chunk's rows are to be, given them sparse and dense.
void CorrectByHand(const Geometry& geometry,
                   const Rows& dense,
                   uint64_t begin,
                   uint64_t end,
                   uint32_t interval,
                   Rows* sparse) {
  const size_t row_floats = geometry.q_row();
  std::vector<float> delta(row_floats);
  for (uint64_t t = begin; t < end; ++t) {
    float* out = sparse->out.data() + t * row_floats;
    if (t == begin || t % interval == 0) {
      for (size_t i = 0; i < row_floats; ++i) {
        delta[i] = dense.out.data()[t * row_floats + i] - out[i];
      }
    }
    for (size_t i = 0; i < row_floats; ++i) {
      out[i] += delta[i];
    }
  }
}

void ExpectCorrected(Engine& engine,
                     const Geometry& geometry,
                     const Mode& mode,
                     uint64_t tokens,
                     uint64_t chunk,
                     uint32_t interval) {
  SCOPED_TRACE(::testing::Message()
               << "mode " << mode.mode << ", interval " << interval << ", chunks of " << chunk);
  const Rows dense = ReadText(
      engine, geometry, OptionsOf({HIPATTN_PREFILL_DENSE, {0, 0}, 0.0F}, 0), tokens, chunk);
  Rows want = ReadText(engine, geometry, OptionsOf(mode, 0), tokens, chunk);
  const Rows sparse = ReadText(engine, geometry, OptionsOf(mode, 0), tokens, chunk);
  for (uint64_t begin = 0; begin < tokens; begin += chunk) {
    CorrectByHand(geometry, dense, begin, std::min(tokens, begin + chunk), interval, &want);
  }
  const Rows got = ReadText(engine, geometry, OptionsOf(mode, interval), tokens, chunk);
  ExpectSameBits(got.lse, sparse.lse, "lse, which is to stay that of the mask,");
  double most = 0.0;
  double correction = 0.0;
  for (size_t i = 0; i < got.out.size(); ++i) {
    most = std::max(most, std::abs(double{got.out.data()[i]} - want.out.data()[i]));
    correction = std::max(correction, std::abs(double{got.out.data()[i]} - sparse.out.data()[i]));
  }
  EXPECT_LE(most, kBound);
  EXPECT_GE(correction, 100 * kBound) << "there was nothing to correct";
}

TEST_F(DeltaPrefill, RowsGainWhatTheLastAnchorLacked) {
  const Geometry geometry;
  Engine engine = MakeEngine(geometry);
  for (const Mode& mode : kModes) {
    // FLEX keeps 1024 first columns at least, FLASH_V2 attends the last tiles of a chunk densely.
    const bool is_long = mode.mode == HIPATTN_PREFILL_FLEX || mode.mode == HIPATTN_PREFILL_FLASH_V2;
    const uint64_t tokens = is_long ? 4000 : 1500;
    ExpectCorrected(engine, geometry, mode, tokens, tokens, 16);
    ExpectCorrected(engine, geometry, mode, tokens, tokens, 100);
  }
}

// Chunks that begin anywhere: their first row is an anchor, too.
TEST_F(DeltaPrefill, EveryCut) {
  const Geometry geometry;
  Engine engine = MakeEngine(geometry);
  for (const uint64_t chunk : {uint64_t{501}, uint64_t{640}, uint64_t{950}}) {
    ExpectCorrected(engine, geometry, kModes[0], 1500, chunk, 24);
    ExpectCorrected(engine, geometry, kModes[3], 1500, chunk, 24);
  }
}

// Several slices of rows, the later of which begin at no anchor; FLEX's first is dense.
TEST_F(DeltaPrefill, SlicesChangeNothing) {
  Geometry geometry;
  geometry.q_heads = 2;
  geometry.kv_heads = 1;
  Engine engine(EngineOptionsOf(geometry, HIPATTN_F32));
  ExpectCorrected(engine, geometry, kModes[0], 4500, 4500, 100);
  ExpectCorrected(engine, geometry, {HIPATTN_PREFILL_FLEX, {0, 0}, 0.4F}, 4500, 4500, 600);
}

TEST_F(DeltaPrefill, IntervalOneIsDenseAttention) {
  const Geometry geometry;
  Engine engine = MakeEngine(geometry);
  const Rows dense =
      ReadText(engine, geometry, OptionsOf({HIPATTN_PREFILL_DENSE, {0, 0}, 0.0F}, 0), 700);
  for (const Mode& mode : kModes) {
    ExpectSameRows(ReadText(engine, geometry, OptionsOf(mode, 1), 700), dense);
  }
}

TEST_F(DeltaPrefill, ChunksThatEndAtAnchorsAreTheWhole) {
  const Geometry geometry;
  Engine engine = MakeEngine(geometry);
  for (const Mode& mode : {kModes[0], kModes[3]}) {
    const auto options = OptionsOf(mode, 32);
    ExpectSameRows(ReadText(engine, geometry, options, 1500, 640),
                   ReadText(engine, geometry, options, 1500));
  }
}

TEST_F(DeltaPrefill, ThreadsChangeNothing) {
  const Geometry geometry;
  Engine one = MakeEngine(geometry);
  Engine five = MakeEngine(geometry, 5);
  for (const Mode& mode : kModes) {
    const auto options = OptionsOf(mode, 48);
    ExpectSameRows(ReadText(five, geometry, options, 1100), ReadText(one, geometry, options, 1100));
  }
}

TEST_F(DeltaPrefill, AnchorsAreCountedAsTiles) {
  const Geometry geometry;
  Engine engine(EngineOptionsOf(geometry, HIPATTN_F32));
  const auto tiles = [&](uint32_t interval) {
    engine.Stats(true);
    ReadText(engine, geometry, OptionsOf(kModes[0], interval), 1500);
    return engine.Stats().prefill_tiles;
  };
  const uint64_t anchors = core::Anchors(0, 16).Tiles({1500, 1500});
  EXPECT_GT(anchors, 15U);
  EXPECT_EQ(tiles(16), tiles(0) + geometry.q_heads * anchors);
}

// The guard counts them: every second row makes a mask of half the tiles too dear.
TEST_F(DeltaPrefill, AnchorsCanMakeAMaskTooDear) {
  const Geometry geometry;
  Engine engine(EngineOptionsOf(geometry, HIPATTN_F32));
  const Mode half = {HIPATTN_PREFILL_A_SHAPE, {64, 600}, 0.0F};
  const Rows dense =
      ReadText(engine, geometry, OptionsOf({HIPATTN_PREFILL_DENSE, {0, 0}, 0.0F}, 0), 1500);
  const Rows sparse = ReadText(engine, geometry, OptionsOf(half, 0), 1500);
  EXPECT_FALSE(
      std::equal(sparse.lse.data(), sparse.lse.data() + sparse.lse.size(), dense.lse.data()));
  ExpectSameRows(ReadText(engine, geometry, OptionsOf(half, 2), 1500), dense);
}

}  // namespace
}  // namespace hipattn::test
