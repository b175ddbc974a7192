// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
// Golden cases of whole prefill chunks, put together by hand and read by the engine, and of the
// pattern search.
#include "core/mask/density.h"
#include "core/pattern/candidate_score.h"
#include "core/pattern/pattern_cost.h"
#include "engine/patterns.h"
#include "engine/prefill_options.h"
#include "tests/golden/checks.h"
#include "tests/golden/expect.h"
#include "tests/golden/prefill_engine.h"
#include "tests/golden/prefill_head.h"
#include "tests/support/compare.h"
#include "tests/support/mask_paint.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

namespace hipattn::golden {
namespace {

using core::DenseReason;
using core::HeadPattern;
using core::PatternType;
using nlohmann::json;

// The arguments of one of the case's guards; absent ones have the library's defaults.
struct Guard {
  int64_t layer;
  core::DenseRules rules;

  explicit Guard(const json& numbers) : layer(numbers.value("layer", int64_t{0})) {
    rules.starting_layer = numbers.value("starting_layer", rules.starting_layer);
    rules.dense_up_to = numbers.value("dense_up_to", rules.dense_up_to);
    rules.cost_ratio = numbers.value("cost_ratio", rules.cost_ratio);
  }
};

void ExpectChoice(const GoldenCase& golden, uint32_t head, const HeadChoice& choice) {
  const std::string prefix = StrCat("h", head, "_");
  if (golden.Expects(prefix + "verticals")) {
    ExpectInts(golden, prefix + "verticals", choice.lines.verticals);
    ExpectInts(golden, prefix + "slashes", choice.lines.slashes);
  }
  if (golden.Expects(prefix + "blocks")) {
    const std::vector<uint32_t>& ptr = choice.blocks.ptr;
    ExpectInts(golden, prefix + "blocks", choice.blocks.blocks);
    ExpectInts(golden, prefix + "block_ptr", std::vector<int32_t>(ptr.begin(), ptr.end()));
  }
}

// Each case has one fault, and the library says where it stands: heads in the engine's options,
// types and sizes in the pattern file. A file may lack heads (SPEC 8.7), so a pattern too few is no
// error there, and means the default.
void CheckRefusal(const GoldenCase& golden) {
  const json& patterns = golden.params().at("patterns");
  const std::vector<size_t>& q_shape = golden.Input("q").shape;
  engine::EngineOptions options;
  options.num_layers = 1;
  options.num_q_heads = static_cast<uint32_t>(q_shape[0]);
  options.num_kv_heads = static_cast<uint32_t>(golden.Input("k").shape[0]);
  options.head_dim = static_cast<uint32_t>(q_shape[2]);
  options.device_kv_bytes = uint64_t{1} << 20;
  json layer = json::object();
  for (size_t head = 0; head < patterns.size(); ++head) {
    json entry = patterns.at(head);
    entry.push_back(1);
    layer[std::to_string(head)] = entry;
  }
  const auto engine_options = engine::ResolveEngineOptions(options);
  const auto table = engine::ParsePatterns(json::array({layer}).dump(), {1, options.num_q_heads});
  const bool lacks_heads = patterns.size() < q_shape[0];
  EXPECT_EQ(!engine_options.ok() || !table.ok(), !lacks_heads);
  EXPECT_TRUE(engine_options.ok() ||
              engine_options.status().code() == StatusCode::kInvalidArgument);
  EXPECT_TRUE(table.ok() || table.status().code() == StatusCode::kCorrupt);
  if (lacks_heads) {
    const auto missing = static_cast<uint32_t>(patterns.size());
    EXPECT_EQ(table.value().Lookup(0, missing).Pattern(), HeadPattern());
  }
}

// Whether the engine's options can say what the head attends: no size is 0, which means "default",
// and its own rules come to the case's result.
bool EngineAttends(const GoldenCase& golden,
                   const PrefillText& text,
                   const HeadPattern& pattern,
                   uint64_t tiles,
                   bool dense) {
  const bool sized = pattern.a > 0 && (pattern.b > 0 || pattern.type == PatternType::kBlockSparse);
  const bool plain = golden.Number("ratio") == 1.0 && !golden.params().at("compat").get<bool>();
  const bool engine_dense =
      core::WhyDense(text.shape(), 0, tiles, engine::kPrefillDenseRules) != DenseReason::kNone;
  return sized && plain && text.num_rows() > 1 && engine_dense == dense;
}

}  // namespace

void CheckPrefill(const GoldenCase& golden, const Machine& machine) {
  const json& expected = golden.inline_expected();
  if (expected.contains("error")) {
    CheckRefusal(golden);
    return;
  }
  const json& params = golden.params();
  const Guard guard(params.at("guard"));
  const ChoiceRules rules = {
      golden.Count("last_q"), golden.Number("ratio"), params.at("compat").get<bool>()};
  const PrefillText text(golden, machine);
  const std::unique_ptr<PrefillEngine> engine = PrefillEngine::Create(golden, text);
  ASSERT_NE(engine, nullptr);
  HeadRows got(text);
  json reasons = json::array();
  json tiles = json::array();
  for (uint32_t head = 0; head < text.num_heads(); ++head) {
    SCOPED_TRACE(head);
    const HeadPattern pattern = PatternOf(params.at("patterns").at(head));
    const std::unique_ptr<HeadChoice> choice = ChooseHead(text, head, pattern, rules);
    ExpectChoice(golden, head, *choice);
    const testing::BuiltMask built(*choice->source);
    const DenseReason reason =
        core::WhyDense(text.shape(), guard.layer, built.size.computed_tiles, guard.rules);
    const bool dense = reason != DenseReason::kNone;
    reasons.push_back(core::DenseReasonName(reason));
    tiles.push_back(built.size.computed_tiles);
    if (dense) {
      AttendAll(text, head, got.Out(head), got.Lse(head));
    } else {
      AttendMask(text, built.mask, head, got.Out(head), got.Lse(head));
    }
    if (EngineAttends(golden, text, pattern, built.size.computed_tiles, dense)) {
      HeadRows through(text, 1);
      engine->Attend(pattern, rules.last_q, head, &through);
      EXPECT_TRUE(testing::SameBits<float>(through.out, {got.Out(head), got.out_width}));
      EXPECT_TRUE(testing::SameBits<float>(through.lse, {got.Lse(head), got.lse_width}));
    }
  }
  EXPECT_EQ(reasons, expected.at("reasons"));
  EXPECT_EQ(tiles, expected.at("computed_tiles"));
  EXPECT_EQ(core::CausalTiles(text.shape()), expected.at("causal_tiles").get<uint64_t>());
  ExpectRows(golden, text, got);
}

void CheckPatternSearch(const GoldenCase& golden, const Machine& machine) {
  const json& expected = golden.inline_expected();
  const PrefillText text(golden, machine);
  const uint32_t head = golden.Count("head");
  HeadRows dense(text, 1);
  AttendAll(text, head, dense.Out(0), dense.Lse(0));
  std::vector<core::CandidateScore> scores;
  std::vector<float> recalls;
  std::vector<float> errors;
  json tiles = json::array();
  for (const json& candidate : golden.params().at("candidates")) {
    const HeadPattern pattern = PatternOf(candidate);
    const std::unique_ptr<HeadChoice> choice = ChooseHead(text, head, pattern, {});
    const testing::BuiltMask built(*choice->source);
    HeadRows sparse(text, 1);
    AttendMask(text, built.mask, head, sparse.Out(0), sparse.Lse(0));
    tiles.push_back(built.size.computed_tiles);
    scores.push_back(
        {core::KernelFlops(built.size.computed_tiles, text.head_dim()) +
             core::EstimateFlops(pattern, text.shape(), text.head_dim()),
         core::LseRecall(text.shape(), sparse.lse, dense.lse, golden.Count("first_row")),
         core::OutputError(sparse.out, dense.out)});
    recalls.push_back(static_cast<float>(scores.back().recall));
    errors.push_back(static_cast<float>(scores.back().error));
  }
  EXPECT_EQ(tiles, expected.at("tiles"));
  for (size_t i = 0; i < scores.size(); ++i) {
    EXPECT_EQ(scores[i].cost, expected.at("cost").at(i).get<double>()) << i;
  }
  ExpectNumbers(golden, machine, "recall", recalls);
  ExpectNumbers(golden, machine, "error", errors);
  if (machine.narrow()) {
    return;  // the case's scores are apart by f32's tolerance alone
  }
  json chosen = json::array();
  for (const json& query : golden.params().at("queries")) {
    const auto mode = query.at(0).get<std::string>();
    const core::ChooseBy by = mode == "error"    ? core::ChooseBy::kError
                              : mode == "recall" ? core::ChooseBy::kRecall
                                                 : core::ChooseBy::kCost;
    chosen.push_back(core::ChooseCandidate(scores, by, query.at(1).get<double>()));
  }
  EXPECT_EQ(chosen, expected.at("chosen"));
}

}  // namespace hipattn::golden
