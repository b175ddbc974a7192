// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What a masked prefill says of itself where some heads attend masks and others run dense: tiles
// counted from what the masks mean, key by key, and recall from attention in f64. And heads that
// change sides from one call to the next, on an engine that keeps their scratch memory.
#include "engine/prefill_options.h"
#include "tests/engine/engine_fixture.h"
#include "tests/support/temporary_folder.h"

#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <set>

namespace hipattn::test {
namespace {

constexpr uint32_t kSeed = 73;
constexpr uint64_t kTile = 64;

// The positions of a call's rows.
struct Chunk {
  uint64_t begin;
  uint64_t end;
};

// Calls visit(first position, end) for the chunk's row tiles.
void ForEachTile(const Chunk& chunk, const std::function<void(uint64_t, uint64_t)>& visit) {
  for (uint64_t first = chunk.begin; first < chunk.end; first += kTile) {
    visit(first, std::min(first + kTile, chunk.end));
  }
}

uint64_t Tiles(uint64_t keys) {
  return (keys + kTile - 1) / kTile;
}

uint64_t DenseTiles(const Chunk& chunk) {
  uint64_t tiles = 0;
  ForEachTile(chunk, [&](uint64_t, uint64_t end) { tiles += Tiles(end); });
  return tiles;
}

struct Ends {
  uint64_t sinks;
  uint64_t window;

  bool Attends(uint64_t row, uint64_t key) const { return key < sinks || row - key < window; }
};

// Each run of keys that some row of the tile attends, in 64s.
uint64_t MaskTiles(const Ends& ends, const Chunk& chunk) {
  uint64_t tiles = 0;
  ForEachTile(chunk, [&](uint64_t first, uint64_t end) {
    uint64_t run = 0;
    for (uint64_t key = 0; key < end; ++key) {
      bool attended = false;
      for (uint64_t row = std::max(first, key); row < end; ++row) {
        attended = attended || ends.Attends(row, key);
      }
      if (!attended) {
        tiles += Tiles(run);
      }
      run = attended ? run + 1 : 0;
    }
    tiles += Tiles(run);
  });
  return tiles;
}

bool IsWorthIt(uint64_t mask_tiles, const Chunk& chunk) {
  return static_cast<double>(mask_tiles) * engine::kPrefillDenseRules.cost_ratio <
         static_cast<double>(DenseTiles(chunk));
}

hipattn_attention_options_t OptionsOf(uint32_t mode, uint32_t first = 0, uint32_t second = 0) {
  hipattn_attention_options_t options = HIPATTN_ATTENTION_OPTIONS_INIT;
  options.decode_mode = HIPATTN_DECODE_DENSE;
  options.prefill_mode = mode;
  options.prefill_sizes[0] = first;
  options.prefill_sizes[1] = second;
  return options;
}

void LoadPatterns(Engine& engine, const std::string& json) {
  const TemporaryFolder folder;
  const std::string path = folder.Path("patterns.json");
  std::ofstream(path) << json;
  ASSERT_EQ(hipattn_engine_load_patterns(engine.get(), path.c_str()), HIPATTN_OK)
      << hipattn_last_error_message();
}

// Four q heads: one whose mask is never worth it, one whose mask covers seven eighths of the first
// chunk and less of the second, so that it is dense there and masked here, and two of small masks.
class PatternCounts : public ::testing::Test {
 protected:
  static constexpr Ends kHeads[] = {{10, 100}, {10, 512}, {64, 300}, {10, 4000}};
  static constexpr Chunk kChunks[] = {{0, 900}, {900, 1500}};

  PatternCounts() : engine_(EngineOptionsOf(geometry_)), naive_(NaiveOptions{}) {
    LoadPatterns(engine_,
                 R"([{"0": ["stream_llm", 10, 100, 1], "1": ["stream_llm", 10, 512, 1],)"
                 R"( "2": ["stream_llm", 64, 300, 1], "3": ["stream_llm", 10, 4000, 1]}])");
    const Rows text = MakeRows(geometry_, kSeed, 0, 0, kChunks[1].end);
    naive_.Append(text.k.data(), text.v.data(), text.num_rows);
  }

  static bool IsMasked(uint32_t head, const Chunk& chunk) {
    return IsWorthIt(MaskTiles(kHeads[head], chunk), chunk);
  }

  // The lse of q head `head` under its mask, of a row's q.
  double MaskedLse(const float* q, uint32_t head, uint64_t row) const {
    return naive_
        .Attend(q, row, [&](uint32_t, uint64_t key) { return kHeads[head].Attends(row, key); })
        .lse[head];
  }

  const Geometry geometry_;
  Engine engine_;
  NaiveLayer naive_;
};

TEST_F(PatternCounts, TilesOfDenseAndMaskedHeads) {
  EXPECT_TRUE(IsMasked(0, kChunks[0]) && IsMasked(2, kChunks[0]) && !IsMasked(3, kChunks[0]));
  EXPECT_FALSE(IsMasked(1, kChunks[0]));
  EXPECT_LT(MaskTiles(kHeads[1], kChunks[0]), DenseTiles(kChunks[0]));
  EXPECT_TRUE(IsMasked(1, kChunks[1]));
  for (int turn = 0; turn < 2; ++turn) {  // the second finds what the first left behind
    Sequence sequence(engine_, OptionsOf(HIPATTN_PREFILL_PATTERNS));
    for (const Chunk& chunk : kChunks) {
      uint64_t want = 0;
      for (uint32_t head = 0; head < geometry_.q_heads; ++head) {
        want += IsMasked(head, chunk) ? MaskTiles(kHeads[head], chunk) : DenseTiles(chunk);
      }
      engine_.Stats(true);
      Feed(engine_, sequence, geometry_, kSeed, chunk.begin, chunk.end);
      const hipattn_stats_t stats = engine_.Stats();
      EXPECT_EQ(stats.prefill_tiles, want) << "turn " << turn << ", rows from " << chunk.begin;
      EXPECT_EQ(stats.prefill_dense_tiles, geometry_.q_heads * DenseTiles(chunk));
    }
  }
}

// Bound: an lse in f32 of up to 1500 keys is within 1e-5 of its value below 10.
TEST_F(PatternCounts, RecallCountsDenseHeadsAsOne) {
  hipattn_attention_options_t options = OptionsOf(HIPATTN_PREFILL_PATTERNS);
  options.verify_recall = 1;
  Sequence sequence(engine_, options);
  for (const Chunk& chunk : kChunks) {
    engine_.Stats(true);
    const Rows rows = Feed(engine_, sequence, geometry_, kSeed, chunk.begin, chunk.end);
    double sum = 0.0;
    double count = 0.0;
    ForEachTile(chunk, [&](uint64_t, uint64_t end) {
      const uint64_t row = end - 1;
      const float* q = rows.q.data() + (row - chunk.begin) * geometry_.q_row();
      const NaiveResult dense = naive_.AttendAll(q, row);
      for (uint32_t head = 0; head < geometry_.q_heads; ++head, ++count) {
        const double want = IsMasked(head, chunk) ? MaskedLse(q, head, row) : dense.lse[head];
        EXPECT_NEAR(
            rows.lse[(row - chunk.begin) * geometry_.q_heads + head], want, 1e-5 * std::abs(want))
            << "head " << head << ", row " << row;
        sum += std::exp(want - dense.lse[head]);
      }
    });
    EXPECT_LT(sum / count, 0.9);
    EXPECT_NEAR(engine_.Stats().prefill_recall, sum / count, 1e-4);
  }
}

// Each row tile keeps its own blocks and block 0, and more up to its number where it sees them.
TEST(BlockSparseCounts, TilesOfForcedBlocksAndOfFirstTiles) {
  const Geometry geometry;
  Engine engine(EngineOptionsOf(geometry));
  for (const uint32_t num_blocks : {1U, 4U}) {
    Sequence sequence(engine, OptionsOf(HIPATTN_PREFILL_BLOCK_SPARSE, num_blocks));
    for (const Chunk& chunk : {Chunk{0, 700}, {700, 1500}}) {  // the second begins inside a block
      uint64_t want = 0;
      ForEachTile(chunk, [&](uint64_t first, uint64_t end) {
        std::set<uint64_t> forced = {0};
        for (uint64_t row = first; row < end; ++row) {
          forced.insert(row / kTile);
        }
        want += std::min<uint64_t>(Tiles(end), std::max<uint64_t>(num_blocks, forced.size()));
      });
      ASSERT_TRUE(IsWorthIt(want, chunk));
      engine.Stats(true);
      Feed(engine, sequence, geometry, kSeed, chunk.begin, chunk.end);
      EXPECT_EQ(engine.Stats().prefill_tiles, geometry.q_heads * want)
          << num_blocks << " blocks, rows from " << chunk.begin;
    }
  }
}

// The means of a kv head's keys are there also where only the second of its q heads scores blocks.
// Block-sparse patterns are always 100 blocks: the text is longer.
TEST(BlockSparseCounts, MeansOfAGroupWhoseSecondHeadScoresBlocks) {
  const Geometry geometry;
  const uint64_t before = 15000;
  // Each on an engine of its own, which has pooled nothing before.
  const auto read = [&](const hipattn_attention_options_t& options) {
    Engine engine(EngineOptionsOf(geometry));
    LoadPatterns(engine,
                 R"([{"0": ["stream_llm", 10, 100, 1], "1": ["block_sparse", 1, 1, 1],)"
                 R"( "2": ["block_sparse", 1, 1, 1], "3": ["stream_llm", 10, 100, 1]}])");
    Sequence sequence(engine, options);
    AppendOnly(engine, sequence, geometry, kSeed, 0, before);
    Rows rows = Feed(engine, sequence, geometry, kSeed, before, before + 128);
    EXPECT_LT(engine.Stats().prefill_tiles, engine.Stats().prefill_dense_tiles);
    return rows;
  };
  const Rows blocks = read(OptionsOf(HIPATTN_PREFILL_BLOCK_SPARSE, 100));
  const Rows ends = read(OptionsOf(HIPATTN_PREFILL_A_SHAPE, 10, 100));
  const Rows got = read(OptionsOf(HIPATTN_PREFILL_PATTERNS));
  for (size_t i = 0; i < got.lse.size(); ++i) {
    const bool scored = i % geometry.q_heads == 1 || i % geometry.q_heads == 2;
    ASSERT_EQ(got.lse[i], (scored ? blocks : ends).lse[i])
        << "row " << i / geometry.q_heads << ", head " << i % geometry.q_heads;
  }
}

}  // namespace
}  // namespace hipattn::test
