// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Vertical-slash lines as masks: the brief's golden vectors, what every mask covers, inputs of
// every kind, and the memory of a million tokens. T1 to T4 are the acceptance tests of those
// numbers.
#include "core/mask/line_tiles.h"

#include "core/mask/density.h"
#include "core/mask/mask_build.h"
#include "tests/support/kv_fixture.h"
#include "tests/support/mask_paint.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>
#include <vector>

namespace hipattn::core {
namespace {

using hipattn::testing::BuiltMask;
using hipattn::testing::ExpectWellFormed;
using hipattn::testing::Paint;
using hipattn::testing::Random;

std::vector<int32_t> SomeLines(Random* random, uint32_t count, uint32_t bound) {
  std::vector<int32_t> lines;
  for (uint32_t i = 0; i < count; ++i) {
    lines.push_back(static_cast<int32_t>(random->Below(bound)));
  }
  return lines;
}

std::vector<int32_t> Numbers(uint32_t count) {
  std::vector<int32_t> numbers(count);
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

// The rule of SPEC 5.2 and 5.3, slash by slash, for one tile.
std::vector<MaskRange> PlainRanges(const PrefillShape& shape,
                                   uint32_t tile,
                                   const std::vector<int32_t>& slashes) {
  const int64_t end = TileEnd(shape, tile);
  const int64_t limit = TileLimit(shape, tile);
  std::set<int64_t> edges;
  for (const int32_t slash : slashes) {
    if (slash >= 0 && slash < int64_t{shape.kv_len} && slash < end) {
      edges.insert(end - slash);
    }
  }
  std::vector<MaskRange> ranges;
  int64_t covered = 0;
  for (const int64_t edge : edges) {
    if (edge <= covered) {
      continue;
    }
    const int64_t start = std::max(covered, edge - 64);
    covered = start + 64;
    const auto hi = static_cast<uint32_t>(std::min(covered, limit));
    if (!ranges.empty() && start == ranges.back().end) {
      ranges.back().end = hi;
    } else if (start < limit) {
      ranges.push_back({static_cast<uint32_t>(start), hi, 0});
    }
  }
  return ranges;
}

void ExpectRanges(std::span<const MaskRange> got, const std::vector<MaskRange>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) {
    EXPECT_EQ(got[i].begin, want[i].begin);
    EXPECT_EQ(got[i].end, want[i].end);
    EXPECT_EQ(got[i].windowed, 0U);
  }
}

struct GoldenRow {
  std::vector<uint32_t> tile_starts;  // below the tile's limit
  std::vector<int32_t> columns;
};

void ExpectRows(uint32_t num_tokens,
                const std::vector<int32_t>& verticals,
                const std::vector<int32_t>& slashes,
                const std::vector<GoldenRow>& rows) {
  const BuiltMask built(LineTiles({num_tokens, num_tokens}, verticals, slashes));
  ASSERT_EQ(built.mask.num_tiles, rows.size());
  for (uint32_t tile = 0; tile < rows.size(); ++tile) {
    std::vector<uint32_t> starts;
    for (const MaskRange& range : built.Ranges(tile)) {
      for (uint32_t start = range.begin; start < range.end; start += kRowTile) {
        starts.push_back(start);
      }
    }
    EXPECT_EQ(starts, rows[tile].tile_starts) << num_tokens << " tokens, tile " << tile;
    EXPECT_EQ(built.Columns(tile), rows[tile].columns) << num_tokens << " tokens, tile " << tile;
  }
}

TEST(PrefillAcceptance, T1_GoldenVectorsOfTheBrief) {
  ExpectRows(130, {0, 1}, {0}, {{{0}, {}}, {{64}, {0, 1}}, {{128}, {0, 1}}});
  ExpectRows(256,
             {0, 1, 70, 130, 200},
             {0, 1, 100},
             {{{0}, {}}, {{0, 64}, {}}, {{28, 127, 191}, {0, 1}}, {{92, 191, 255}, {0, 1, 70}}});
  ExpectRows(320,
             {0, 3, 64, 129, 300},
             {0, 63, 64, 65, 200},
             {{{0}, {}},
              {{0, 64}, {}},
              {{63, 127, 191}, {0, 3}},
              {{0, 127, 191, 255}, {64}},
              {{56, 191, 255, 319}, {0, 3, 129}}});
}

// One random head: every pair of a line once, nothing twice, nothing from the future, ranges as the
// plain rule has them, tiles as many as counted.
void CheckRandomHead(Random* random) {
  const uint32_t kv_len = 1 + random->Below(1000);
  const PrefillShape shape = {1 + random->Below(kv_len), kv_len};
  const bool clustered = random->Below(2) == 0;
  std::vector<int32_t> verticals = SomeLines(random, random->Below(40), kv_len);
  std::vector<int32_t> slashes = SomeLines(random, random->Below(12), kv_len);
  if (clustered) {
    for (size_t i = 0, n = slashes.size(); i < n; ++i) {
      for (int32_t step = 1; step < static_cast<int32_t>(random->Below(90)); ++step) {
        slashes.push_back(slashes[i] + step);
      }
    }
  }
  const BuiltMask built(LineTiles(shape, verticals, slashes));
  ExpectWellFormed(built);
  const std::vector<uint8_t> paint = Paint(built);
  const std::set<int32_t> columns(verticals.begin(), verticals.end());
  const std::set<int32_t> diagonals(slashes.begin(), slashes.end());
  for (uint32_t row = 0; row < shape.q_len; ++row) {
    const uint32_t pos = kv_len - shape.q_len + row;
    for (uint32_t key = 0; key < kv_len; ++key) {
      const uint8_t times = paint[size_t{row} * kv_len + key];
      ASSERT_LE(times, key <= pos ? 1 : 0) << row << ", " << key;
      if (key <= pos && (columns.contains(static_cast<int32_t>(key)) ||
                         diagonals.contains(static_cast<int32_t>(pos - key)))) {
        ASSERT_EQ(times, 1) << "row " << row << ", key " << key;
      }
    }
  }
  uint64_t tiles = 0;
  for (uint32_t tile = 0; tile < built.mask.num_tiles; ++tile) {
    const std::vector<MaskRange> want = PlainRanges(shape, tile, slashes);
    ExpectRanges(built.Ranges(tile), want);
    for (const MaskRange& range : want) {
      tiles += CeilDiv(range.end - range.begin, kRowTile);
    }
    tiles += CeilDiv(built.Columns(tile).size(), size_t{kRowTile});
  }
  EXPECT_EQ(built.size.computed_tiles, tiles);
}

TEST(PrefillAcceptance, T2_EveryPairOfALineOnceAndNothingTwice) {
  Random random(2);
  for (int i = 0; i < 400 && !::testing::Test::HasFailure(); ++i) {
    CheckRandomHead(&random);
  }
}

TEST(PrefillAcceptance, T3_CountsOrderAndTheLastRange) {
  Random random(3);
  for (int i = 0; i < 300; ++i) {
    const uint32_t n = 1 + random.Below(1000);
    std::vector<int32_t> slashes = SomeLines(&random, random.Below(20), n);
    slashes.push_back(0);
    const std::vector<int32_t> verticals = SomeLines(&random, random.Below(60), n);
    const BuiltMask built(LineTiles({n, n}, verticals, slashes));
    ExpectWellFormed(built);
    const std::set<int32_t> different(slashes.begin(), slashes.end());
    for (uint32_t tile = 0; tile < built.mask.num_tiles; ++tile) {
      size_t tiles = 0;
      uint32_t done = 0;
      for (const MaskRange& range : built.Ranges(tile)) {
        EXPECT_TRUE(range.begin > done || range.begin == 0) << "ranges touch";
        tiles += CeilDiv(range.end - range.begin, kRowTile);
        done = range.end;
      }
      EXPECT_EQ(done, TileLimit(built.shape, tile)) << "with slash 0 the last range ends there";
      EXPECT_LE(tiles, different.size());
      const std::vector<int32_t> columns = built.Columns(tile);
      EXPECT_TRUE(std::is_sorted(columns.begin(), columns.end()));
      EXPECT_LE(columns.size(), built.mask.num_columns);
      // So a kernel needs no causal test of columns.
      EXPECT_TRUE(columns.empty() || columns.back() <= static_cast<int32_t>(tile * kRowTile));
    }
  }
}

TEST(PrefillAcceptance, T4_LinesOfEveryKindHaveADefinedMask) {
  const PrefillShape shape = {200, 200};
  const BuiltMask clean(LineTiles(shape, {{0, 3, 7, 199}}, {{0, 64, 150}}));
  const std::vector<int32_t> verticals = {7, 3, 7, -1, 199, 200, 1000000000, 3, 0, INT32_MIN};
  const std::vector<int32_t> slashes = {150, 0, 200, 0, -5, 64, 1000000000, INT32_MAX};
  const BuiltMask dirty(LineTiles(shape, verticals, slashes));
  EXPECT_EQ(dirty.words, clean.words);
  EXPECT_EQ(dirty.mask.num_columns, 4U);

  const BuiltMask nothing(LineTiles(shape, {}, {}));
  ExpectWellFormed(nothing);
  EXPECT_EQ(nothing.size.computed_tiles, 0U);
  EXPECT_EQ(nothing.size.num_intervals(), 4U);
  const BuiltMask columns(LineTiles(shape, {{5, 100}}, {}));
  EXPECT_EQ(columns.Columns(0), (std::vector<int32_t>{5}));
  EXPECT_EQ(columns.Columns(3), (std::vector<int32_t>{5, 100}));
  const BuiltMask without_zero(LineTiles(shape, {{5, 190}}, {{70}}));
  EXPECT_EQ(without_zero.Columns(3), (std::vector<int32_t>{5, 190})) << "behind the last range";
}

TEST(PrefillAcceptance, T5_AllSlashesOrAllVerticalsAreDense) {
  for (const uint32_t n : {1U, 64U, 65U, 130U, 321U}) {
    const PrefillShape shape = {n, n};
    const BuiltMask slashes(LineTiles(shape, {}, Numbers(n)));
    const BuiltMask verticals(LineTiles(shape, Numbers(n), {}));
    std::vector<uint8_t> dense(size_t{n} * n, 0);
    for (uint32_t row = 0; row < n; ++row) {
      std::fill_n(dense.begin() + row * n, row + 1, 1);
    }
    EXPECT_EQ(Paint(slashes), dense) << n;
    EXPECT_EQ(Paint(verticals), dense) << n;
    EXPECT_EQ(slashes.size.computed_tiles, CausalTiles(shape)) << n;
    EXPECT_EQ(verticals.size.computed_tiles, CausalTiles(shape)) << n;
  }
}

TEST(PrefillAcceptance, T13_TextsOfOneTileAndOfOneToken) {
  for (const uint32_t n : {1U, 2U, 63U, 64U, 65U}) {
    const BuiltMask built(LineTiles({n, n}, {{0}}, {{0, static_cast<int32_t>(n) - 1}}));
    ExpectWellFormed(built);
    const std::vector<uint8_t> paint = Paint(built);
    EXPECT_EQ(paint.back(), 1) << "each row attends itself";
    EXPECT_EQ(paint[(size_t{n} - 1) * n], 1) << "and key 0";
  }
}

// A tile's ranges are those of a chunk that has it alone.
TEST(PrefillAcceptance, T15_ATileStandsAloneAsInTheWholeText) {
  Random random(15);
  const std::vector<int32_t> slashes = SomeLines(&random, 30, 1000);
  const std::vector<int32_t> verticals = SomeLines(&random, 50, 1000);
  const BuiltMask whole(LineTiles({1000, 1000}, verticals, slashes));
  for (uint32_t tile = 0; tile < whole.mask.num_tiles; ++tile) {
    const uint32_t kv_len = TileLimit(whole.shape, tile);
    const BuiltMask alone(LineTiles({kv_len - tile * kRowTile, kv_len}, verticals, slashes));
    ExpectRanges(alone.Ranges(0), {whole.Ranges(tile).begin(), whole.Ranges(tile).end()});
    EXPECT_EQ(alone.Columns(0), whole.Columns(tile));
  }
}

TEST(LineTiles, AMillionTokensTakeLessThan16MB) {
  const uint32_t num_tokens = 1 << 20;
  Random random(1);
  std::vector<int32_t> slashes;  // 6096 in 48 clusters, the nearest among them
  for (int32_t cluster = 0; cluster < 48; ++cluster) {
    const auto first = cluster == 0 ? 0 : static_cast<int32_t>(random.Below(num_tokens - 127));
    for (int32_t i = 0; i < 127; ++i) {
      slashes.push_back(first + i);
    }
  }
  const LineTiles tiles({num_tokens, num_tokens}, SomeLines(&random, 1000, num_tokens), slashes);
  const BuiltMask built(tiles);
  EXPECT_LE(built.size.bytes(), uint64_t{16} << 20);
  EXPECT_GT(built.size.num_ranges, 16384U * 20);
  // Half of the slashes lie behind the middle of the text, where half of the rows end.
  EXPECT_LT(Density(built.shape, built.size.computed_tiles), 0.03);
}

// The worst lines there are: slashes so far apart that none of their tiles touch, and every key
// between them a vertical. The engine makes masks of so many rows at a time.
TEST(LineTiles, ScatteredLinesOfASliceTakeLessThan16MB) {
  const uint32_t num_tokens = 1 << 20;
  std::vector<int32_t> slashes;
  for (int32_t slash = 0; slash < static_cast<int32_t>(num_tokens); slash += 65) {
    slashes.push_back(slash);
  }
  std::vector<int32_t> verticals(num_tokens);
  std::iota(verticals.begin(), verticals.end(), 0);
  std::vector<int32_t> apart;
  for (size_t i = 0; i < slashes.size(); i += 2) {
    apart.push_back(slashes[i]);
  }
  for (const auto& lines : {slashes, apart}) {
    const LineTiles tiles({2048, num_tokens}, verticals, lines);
    ASSERT_TRUE(MeasureMask(tiles).ok());
    EXPECT_LE(MeasureMask(tiles).value().bytes(), uint64_t{16} << 20);
    EXPECT_GT(MeasureMask(tiles).value().num_ranges, 32U * 8000);
  }
}

}  // namespace
}  // namespace hipattn::core
