// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "tests/golden/prefill_head.h"

#include "base/int_math.h"
#include "core/mask/block_tiles.h"
#include "core/mask/line_tiles.h"
#include "core/pattern/block_select.h"
#include "tests/support/compare.h"

#include <algorithm>
#include <cmath>

namespace hipattn::golden {
namespace {

constexpr uint32_t kBlockTokens = 16;

float ScaleOf(const GoldenCase& golden, uint32_t head_dim) {
  const nlohmann::json scale = golden.params().value("scale", nlohmann::json());
  return scale.is_null() ? 1.0F / std::sqrt(static_cast<float>(head_dim)) : scale.get<float>();
}

testing::Bound BoundOf(const GoldenCase& golden, const Machine& machine, const std::string& name) {
  const nlohmann::json& bound = golden.tolerances().at(name).at(machine.narrow() ? "bf16" : "fp32");
  return {bound.at("atol").get<double>(), bound.at("rtol").get<double>()};
}

}  // namespace

core::HeadPattern PatternOf(const nlohmann::json& entry) {
  const auto name = entry.at(0).get<std::string>();
  const core::PatternType type = name == "stream_llm"           ? core::PatternType::kAShape
                                 : name == "vertical_and_slash" ? core::PatternType::kVerticalSlash
                                                                : core::PatternType::kBlockSparse;
  return {type, entry.at(1).get<uint32_t>(), entry.at(2).get<uint32_t>()};
}

PrefillText::PrefillText(const GoldenCase& golden, const Machine& machine)
    : machine_(machine),
      q_(golden.Input("q")),
      num_kv_heads_(Length(golden.Input("k"), 0)),
      num_keys_(Length(golden.Input("k"), 1)),
      scale_(ScaleOf(golden, head_dim())),
      pool_({machine.kv_dtype, head_dim(), kBlockTokens},
            num_kv_heads_ * testing::BlocksFor(num_keys_, kBlockTokens),
            1),
      slots_(num_kv_heads_) {
  const std::vector<float>& keys = golden.Input("k").floats;
  const std::vector<float>& values = golden.HasInput("v") ? golden.Input("v").floats : keys;
  for (uint32_t i = 0; i < num_kv_heads_ * num_keys_; ++i) {
    const uint32_t key = i % num_keys_;
    std::vector<uint32_t>& slots = slots_[i / num_keys_];
    if (key % kBlockTokens == 0) {
      slots.push_back(pool_.TakeSlot());
    }
    const size_t begin = size_t{i} * head_dim();
    pool_.SetToken(slots.back(), key % kBlockTokens, &keys[begin], &values[begin]);
  }
}

LineSums EstimateLines(const PrefillText& text, uint32_t head, uint32_t last_q) {
  const uint32_t num_rows = std::min(last_q, text.num_rows());
  const uint32_t num_keys = text.num_keys();
  LineSums sums = {std::vector<float>(num_keys), std::vector<float>(num_keys)};
  std::vector<float> lse(num_rows);
  std::vector<float> workspace(device::LinesWorkspaceFloats(num_keys, num_rows));
  const device::LinesJob job = {text.slots(head),
                                text.Row(head, text.num_rows() - num_rows),
                                num_keys - num_rows,
                                num_rows,
                                sums.vertical.data(),
                                sums.slash.data(),
                                lse.data(),
                                workspace.data()};
  text.machine().table->estimate_lines(text.machine().context,
                                       {text.pool(), &job, 1, text.head_dim(), text.scale(), 0.0F});
  return sums;
}

std::vector<float> EstimateBlocks(const PrefillText& text, uint32_t head) {
  const device::OpTable& ops = *text.machine().table;
  const uint32_t num_blocks = CeilDiv(text.num_keys(), device::kPoolTokens);
  std::vector<float> scores(size_t{core::NumRowTiles(text.shape())} * num_blocks);
  std::vector<float> panel(device::ColumnPanelElements(num_blocks, text.head_dim()));
  const device::PoolJob pool_job = {text.slots(head), text.num_keys(), 0, panel.data()};
  ops.pool_blocks(text.machine().context, {text.pool(), &pool_job, 1});
  const device::BlockScoreJob job = {text.Row(head, 0),
                                     text.first_pos(),
                                     text.num_rows(),
                                     panel.data(),
                                     num_blocks,
                                     scores.data()};
  ops.score_blocks(text.machine().context,
                   {&job, 1, text.head_dim(), text.head_dim(), 1.0F, device::BlockScore::kPooled});
  return scores;
}

std::unique_ptr<HeadChoice> ChooseHead(const PrefillText& text,
                                       uint32_t head,
                                       const core::HeadPattern& pattern,
                                       const ChoiceRules& rules) {
  auto choice = std::make_unique<HeadChoice>();
  core::TopScores scratch;
  if (pattern.type == core::PatternType::kAShape) {
    choice->source = std::make_unique<core::BlockTiles>(
        text.shape(), core::MaskEnds{pattern.a, pattern.b}, nullptr);
  } else if (pattern.type == core::PatternType::kVerticalSlash) {
    const LineSums sums = EstimateLines(text, head, rules.last_q);
    core::SelectLines(
        sums.vertical, sums.slash, {pattern.a, pattern.b, rules.ratio}, &scratch, &choice->lines);
    choice->source = std::make_unique<core::LineTiles>(
        text.shape(), choice->lines.verticals, choice->lines.slashes);
  } else {
    choice->blocks =
        core::SelectBlocks(text.shape(),
                           EstimateBlocks(text, head),
                           pattern.a,
                           rules.compat ? core::BlockMode::kCompat : core::BlockMode::kForced,
                           &scratch);
    choice->source =
        std::make_unique<core::BlockTiles>(text.shape(), core::MaskEnds{}, &choice->blocks);
  }
  return choice;
}

void AttendMask(
    const PrefillText& text, const PrefillMask& mask, uint32_t head, float* out, float* lse) {
  const device::BlockPool& pool = text.pool();
  const Machine& machine = text.machine();
  std::vector<std::byte> panel(device::ColumnPanelElements(mask.num_columns, pool.head_dim) *
                               DTypeBytes(pool.kv_dtype));
  const device::PackJob pack = {text.slots(head), mask.columns, mask.num_columns, panel.data()};
  machine.table->pack_columns(machine.context, {pool, &pack, 1});
  device::SparsePrefillJob job = {};
  job.slots = text.slots(head);
  job.q = text.Row(head, 0);
  job.out = out;
  job.lse = lse;
  job.first_pos = text.first_pos();
  job.num_rows = text.num_rows();
  job.num_heads = 1;
  job.mask = mask;
  job.columns = panel.data();
  device::SparsePrefillParams params = {};
  params.pool = pool;
  params.jobs = &job;
  params.num_jobs = 1;
  params.q_row_stride = pool.head_dim;
  params.out_row_stride = pool.head_dim;
  params.lse_row_stride = 1;
  params.scale = text.scale();
  params.out_dtype = DType::kF32;
  machine.table->sparse_prefill(machine.context, params);
}

void AttendAll(const PrefillText& text, uint32_t head, float* out, float* lse) {
  const device::PrefillJob job = {
      text.slots(head), text.Row(head, 0), out, lse, text.first_pos(), text.num_rows()};
  const uint64_t width = text.head_dim();
  text.machine().table->dense_prefill(
      text.machine().context,
      {text.pool(), &job, 1, 1, width, width, 1, text.scale(), 0.0F, DType::kF32});
}

void ExpectNear(const GoldenCase& golden,
                const Machine& machine,
                const std::string& name,
                std::span<const float> got) {
  EXPECT_TRUE(testing::Near(got, golden.Expected(name).floats, BoundOf(golden, machine, name)))
      << name;
}

void ExpectNumbers(const GoldenCase& golden,
                   const Machine& machine,
                   const std::string& name,
                   std::span<const float> got) {
  const auto want = golden.inline_expected().at(name).get<std::vector<float>>();
  EXPECT_TRUE(testing::Near(got, want, BoundOf(golden, machine, name))) << name;
}

void ExpectRows(const GoldenCase& golden, const PrefillText& text, const HeadRows& got) {
  ExpectNear(golden, text.machine(), "lse", got.lse);
  if (!golden.Expects("out_rows")) {
    ExpectNear(golden, text.machine(), "out", got.out);
    return;
  }
  std::vector<float> some;
  for (uint32_t head = 0; head < text.num_heads(); ++head) {
    for (const int32_t row : golden.Expected("out_rows").ints) {
      const float* first =
          got.out.data() + head * got.out_width + static_cast<size_t>(row) * text.head_dim();
      some.insert(some.end(), first, first + text.head_dim());
    }
  }
  ExpectNear(golden, text.machine(), "out", some);
}

}  // namespace hipattn::golden
