// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
// Golden cases of the sparse prefill's policy alone: lines and blocks, masks, costs, pattern files.
#include "core/mask/block_tiles.h"
#include "core/mask/density.h"
#include "core/mask/line_tiles.h"
#include "core/pattern/block_select.h"
#include "core/pattern/line_select.h"
#include "core/pattern/nudge.h"
#include "core/pattern/own_blocks.h"
#include "core/pattern/pattern_cost.h"
#include "core/pattern/refine.h"
#include "engine/patterns.h"
#include "tests/golden/checks.h"
#include "tests/golden/expect.h"
#include "tests/golden/prefill_head.h"
#include "tests/support/mask_paint.h"

#include <algorithm>
#include <string>
#include <vector>

namespace hipattn::golden {
namespace {

using core::HeadPattern;
using core::PatternType;
using core::PrefillShape;
using nlohmann::json;
using testing::BuiltMask;

PrefillShape ShapeOf(const json& numbers) {
  return {numbers.at("q_len").get<uint32_t>(), numbers.at("kv_len").get<uint32_t>()};
}

json ToJson(const HeadPattern& pattern) {
  return {core::PatternTypeName(pattern.type), pattern.a, pattern.b};
}

// [type, a, b, score], the score as the kind of number that it was.
json ToJson(const core::PatternEntry& entry) {
  json row = ToJson(entry.sizes);
  if (entry.score.is_integer) {
    row.push_back(static_cast<int64_t>(entry.score.value));
  } else {
    row.push_back(entry.score.value);
  }
  return row;
}

// Equal, and integers where integers are wanted.
void ExpectSameEntry(const json& got, const json& want) {
  EXPECT_EQ(got, want);
  EXPECT_EQ(got.back().is_number_integer(), want.back().is_number_integer()) << want;
}

// The case's ranges, cut into starts of tiles; a tile wholly behind the last row is none.
std::vector<int32_t> StartsBelowLimit(const GoldenCase& golden,
                                      const PrefillShape& shape,
                                      uint32_t tile) {
  const std::vector<int32_t>& ptr = golden.Expected("tile_start_ptr").ints;
  std::vector<int32_t> starts;
  for (int32_t i = ptr[tile]; i < ptr[tile + 1]; ++i) {
    const int32_t start = golden.Expected("tile_starts").ints[static_cast<size_t>(i)];
    if (start < static_cast<int32_t>(core::TileLimit(shape, tile))) {
      starts.push_back(start);
    }
  }
  return starts;
}

// The bytes of a malformed file.
std::string TextOf(const json& row) {
  if (row.contains("text")) {
    return row.at("text").get<std::string>();
  }
  const auto hex = row.at("hex").get<std::string>();
  std::string text;
  for (size_t i = 0; i < hex.size(); i += 2) {
    text.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return text;
}

engine::PatternLimits LimitsOf(const json& numbers) {
  engine::PatternLimits limits;
  if (!numbers.at("num_layers").is_null()) {
    limits.num_layers = numbers.at("num_layers").get<uint32_t>();
  }
  if (!numbers.at("num_heads").is_null()) {
    limits.num_heads = numbers.at("num_heads").get<uint32_t>();
  }
  return limits;
}

}  // namespace

void CheckConvertLines(const GoldenCase& golden, const Machine& /*machine*/) {
  const PrefillShape shape = ShapeOf(golden.params());
  const json& expected = golden.inline_expected();
  if (expected.contains("error")) {
    EXPECT_EQ(core::CheckShape(shape).code(), StatusCode::kInvalidArgument);
    return;
  }
  ASSERT_TRUE(core::CheckShape(shape).ok());
  const BuiltMask built(
      core::LineTiles(shape, golden.Input("verticals").ints, golden.Input("slashes").ints));
  testing::ExpectWellFormed(built);
  const uint32_t* columns = built.mask.columns;
  ExpectInts(
      golden, "verticals_clean", std::vector<int32_t>(columns, columns + built.mask.num_columns));
  std::vector<int32_t> ranges;
  std::vector<int32_t> intervals;
  std::vector<int32_t> columns_of_tiles;
  std::vector<int32_t> range_ptr = {0};
  std::vector<int32_t> column_ptr = {0};
  for (uint32_t tile = 0; tile < built.mask.num_tiles; ++tile) {
    std::vector<int32_t> starts;
    for (const MaskRange& range : built.Ranges(tile)) {
      ranges.insert(ranges.end(),
                    {static_cast<int32_t>(range.begin), static_cast<int32_t>(range.end)});
      for (uint32_t start = range.begin; start < range.end; start += kRowTile) {
        starts.push_back(static_cast<int32_t>(start));
      }
    }
    EXPECT_EQ(starts, StartsBelowLimit(golden, shape, tile)) << "tile " << tile;
    for (const ColumnInterval& gap : built.Intervals(tile)) {
      intervals.insert(intervals.end(),
                       {static_cast<int32_t>(gap.begin), static_cast<int32_t>(gap.end)});
    }
    const std::vector<int32_t> of_tile = built.Columns(tile);
    columns_of_tiles.insert(columns_of_tiles.end(), of_tile.begin(), of_tile.end());
    range_ptr.push_back(static_cast<int32_t>(ranges.size() / 2));
    column_ptr.push_back(static_cast<int32_t>(columns_of_tiles.size()));
  }
  ExpectInts(golden, "ranges", ranges);
  ExpectInts(golden, "range_ptr", range_ptr);
  ExpectInts(golden, "intervals", intervals);
  ExpectInts(golden, "columns", columns_of_tiles);
  ExpectInts(golden, "column_ptr", column_ptr);
  EXPECT_EQ(built.size.computed_tiles, expected.at("computed_tiles").get<uint64_t>());
  EXPECT_EQ(core::CausalTiles(shape), expected.at("causal_tiles").get<uint64_t>());
}

void CheckSelectLines(const GoldenCase& golden, const Machine& /*machine*/) {
  core::TopScores scratch;
  core::Lines lines;
  core::SelectLines(golden.Input("vertical").floats,
                    golden.Input("slash").floats,
                    {golden.Count("k_v"), golden.Count("k_s"), golden.Number("ratio")},
                    &scratch,
                    &lines);
  ExpectInts(golden, "verticals", lines.verticals);
  ExpectInts(golden, "slashes", lines.slashes);
}

void CheckSelectBlocks(const GoldenCase& golden, const Machine& /*machine*/) {
  const PrefillShape shape = ShapeOf(golden.params());
  core::TopScores scratch;
  const bool compat = golden.params().at("compat").get<bool>();
  const core::BlockLists lists =
      core::SelectBlocks(shape,
                         golden.Input("score").floats,
                         golden.Count("k_b"),
                         compat ? core::BlockMode::kCompat : core::BlockMode::kForced,
                         &scratch);
  ExpectInts(golden, "blocks", lists.blocks);
  ExpectInts(golden, "block_ptr", std::vector<int32_t>(lists.ptr.begin(), lists.ptr.end()));
  const BuiltMask built(core::BlockTiles(shape, {}, &lists));
  EXPECT_EQ(built.size.computed_tiles, lists.blocks.size());
}

void CheckFallback(const GoldenCase& golden, const Machine& /*machine*/) {
  for (const json& row : golden.inline_expected().at("rows")) {
    const PrefillShape shape = ShapeOf(row);
    const core::DenseRules rules = {row.at("starting_layer").get<int64_t>(),
                                    row.at("dense_up_to").get<uint32_t>(),
                                    row.at("cost_ratio").get<double>()};
    const auto computed = row.at("computed_tiles").get<uint64_t>();
    const auto layer = row.at("layer").get<int64_t>();
    const auto reason = row.at("reason").get<std::string>();
    EXPECT_EQ(core::DenseReasonName(core::WhyDense(shape, layer, computed, rules)), reason) << row;
    EXPECT_EQ(core::DenseReasonName(core::WhyDense(shape, layer, rules)),
              reason == "density" ? "" : reason)
        << row;
    EXPECT_EQ(core::CausalTiles(shape), row.at("causal_tiles").get<uint64_t>()) << row;
    EXPECT_EQ(core::Density(shape, computed), row.at("density").get<double>()) << row;
  }
}

// Of the patterns whose tiles do not depend on what keys and queries hold.
void CheckNudge(const GoldenCase& golden, const Machine& /*machine*/) {
  const Array& q = golden.Input("q");
  const Array& k = golden.Input("k");
  const PrefillShape shape = {static_cast<uint32_t>(q.shape[1]), static_cast<uint32_t>(k.shape[1])};
  const auto flops_of = [&](const HeadPattern& pattern) -> Result<double> {
    uint64_t tiles = 0;
    if (pattern.type == PatternType::kAShape) {
      tiles =
          BuiltMask(core::BlockTiles(shape, {pattern.a, pattern.b}, nullptr)).size.computed_tiles;
    } else {
      for (uint32_t tile = 0; tile < core::NumRowTiles(shape); ++tile) {
        tiles += std::min(pattern.a, core::OwnBlocksOf(shape, tile, kRowTile).last + 1);
      }
    }
    return core::KernelFlops(tiles, static_cast<uint32_t>(q.shape[2]));
  };
  for (const json& row : golden.inline_expected().at("rows")) {
    const HeadPattern pattern = PatternOf(row.at("pattern"));
    ASSERT_NE(pattern.type, PatternType::kVerticalSlash) << "its tiles need an estimate";
    const Result<HeadPattern> result = core::Nudge(pattern,
                                                   {row.at("target").get<double>(),
                                                    row.at("tolerance").get<double>(),
                                                    shape.kv_len,
                                                    row.at("step").get<uint32_t>()},
                                                   flops_of);
    ASSERT_TRUE(result.ok());
    EXPECT_EQ(ToJson(result.value()), row.at("result")) << row;
  }
}

void CheckRefine(const GoldenCase& golden, const Machine& /*machine*/) {
  for (const json& row : golden.inline_expected().at("rows")) {
    const uint32_t step = core::RefineStep(row.at("recall").get<double>());
    EXPECT_EQ(json({row.at("k_v").get<uint32_t>() + step, row.at("k_s").get<uint32_t>() + step}),
              row.at("result"))
        << row;
  }
}

void CheckConfigRead(const GoldenCase& golden, const Machine& /*machine*/) {
  const json& expected = golden.inline_expected();
  if (expected.contains("rows")) {
    for (const json& row : expected.at("rows")) {
      engine::PatternFault fault = engine::PatternFault::kNoFault;
      EXPECT_FALSE(engine::ParsePatterns(TextOf(row), LimitsOf(row), &fault).ok()) << row;
      EXPECT_EQ(engine::PatternFaultName(fault), row.at("error").get<std::string>()) << row;
    }
    return;
  }
  const Result<core::PatternTable> read =
      engine::ParsePatterns(golden.Bytes("config"), LimitsOf(golden.params()));
  ASSERT_TRUE(read.ok()) << read.status().message();
  const core::PatternTable& table = read.value();
  ASSERT_EQ(table.layers.size(), expected.at("layers").size());
  for (size_t layer = 0; layer < table.layers.size(); ++layer) {
    const json& want = expected.at("layers").at(layer);
    ASSERT_EQ(table.layers[layer].size(), want.size());
    size_t i = 0;
    for (const auto& [head, entry] : table.layers[layer]) {
      json got = ToJson(entry);
      got.insert(got.begin(), head);
      ExpectSameEntry(got, want.at(i++));
    }
  }
  const json& lookups = golden.params().at("lookups");
  for (size_t i = 0; i < lookups.size(); ++i) {
    const core::PatternEntry entry = table.Lookup(lookups.at(i).at(0).get<uint32_t>(),
                                                  lookups.at(i).at(1).get<uint32_t>(),
                                                  lookups.at(i).at(2).get<uint32_t>());
    ExpectSameEntry(ToJson(entry), expected.at("lookups").at(i));
    EXPECT_EQ(ToJson(entry.Pattern()), expected.at("patterns").at(i));
  }
  EXPECT_EQ(engine::ParsePatterns(engine::PatternText(table), {}).value(), table);
}

}  // namespace hipattn::golden
