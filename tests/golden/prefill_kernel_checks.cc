// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
// Golden cases of the sparse prefill's ops: attention over lines, estimates of lines and blocks.
#include "base/int_math.h"
#include "core/mask/line_tiles.h"
#include "tests/golden/checks.h"
#include "tests/support/compare.h"
#include "tests/support/kv_fixture.h"
#include "tests/support/mask_paint.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <vector>

namespace hipattn::golden {
namespace {

constexpr uint32_t kBlockTokens = 16;

// q [heads][rows][head_dim] of a case and, in blocks, its keys and values [kv heads][keys][..].
class Inputs {
 public:
  Inputs(const GoldenCase& golden, const Machine& machine)
      : q_(golden.Input("q")),
        num_kv_heads_(Length(golden.Input("k"), 0)),
        num_keys_(Length(golden.Input("k"), 1)),
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

  static uint32_t Length(const Array& array, size_t dim) {
    return static_cast<uint32_t>(array.shape[dim]);
  }
  uint32_t num_heads() const { return Length(q_, 0); }
  uint32_t num_rows() const { return Length(q_, 1); }
  uint32_t head_dim() const { return Length(q_, 2); }
  uint32_t num_keys() const { return num_keys_; }
  uint32_t first_pos() const { return num_keys_ - num_rows(); }
  const device::BlockPool& pool() const { return pool_.pool(); }
  uint32_t KvHead(uint32_t head) const { return head / (num_heads() / num_kv_heads_); }
  const uint32_t* slots(uint32_t head) const { return slots_[KvHead(head)].data(); }
  const float* Row(uint32_t head, uint32_t row) const {
    return q_.floats.data() + (size_t{head} * num_rows() + row) * head_dim();
  }
  float Scale(const GoldenCase& golden) const {
    const nlohmann::json& scale = golden.params().at("scale");
    return scale.is_null() ? 1.0F / std::sqrt(static_cast<float>(head_dim())) : scale.get<float>();
  }

 private:
  const Array& q_;
  uint32_t num_kv_heads_;
  uint32_t num_keys_;
  testing::KvPool pool_;
  std::vector<std::vector<uint32_t>> slots_;
};

void ExpectNear(const GoldenCase& golden,
                const Machine& machine,
                const std::string& name,
                std::span<const float> got) {
  const nlohmann::json& bound = golden.tolerances().at(name).at(machine.narrow() ? "bf16" : "fp32");
  EXPECT_TRUE(testing::Near(got,
                            golden.Expected(name).floats,
                            {bound.at("atol").get<double>(), bound.at("rtol").get<double>()}))
      << name;
}

// Item `head` of a list of lists, X and X_ptr.
std::span<const int32_t> ListOf(const GoldenCase& golden,
                                const std::string& name,
                                const std::string& ptr_name,
                                uint32_t head) {
  const std::vector<int32_t>& ptr = golden.Input(ptr_name).ints;
  const std::span<const int32_t> all(golden.Input(name).ints);
  const auto begin = static_cast<size_t>(ptr[head]);
  return all.subspan(begin, static_cast<size_t>(ptr[head + 1]) - begin);
}

// Attention of one head; out [rows][head_dim], lse [rows].
void AttendLines(const Machine& machine,
                 const Inputs& inputs,
                 const PrefillMask& mask,
                 uint32_t head,
                 float scale,
                 float* out,
                 float* lse) {
  const device::BlockPool& pool = inputs.pool();
  std::vector<std::byte> panel(device::ColumnPanelElements(mask.num_columns, pool.head_dim) *
                               DTypeBytes(pool.kv_dtype));
  const device::PackJob pack = {inputs.slots(head), mask.columns, mask.num_columns, panel.data()};
  machine.table->pack_columns(machine.context, {pool, &pack, 1});
  device::SparsePrefillJob job = {};
  job.slots = inputs.slots(head);
  job.q = inputs.Row(head, 0);
  job.out = out;
  job.lse = lse;
  job.first_pos = inputs.first_pos();
  job.num_rows = inputs.num_rows();
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
  params.scale = scale;
  params.out_dtype = DType::kF32;
  machine.table->sparse_prefill(machine.context, params);
}

}  // namespace

void CheckAttendLines(const GoldenCase& golden, const Machine& machine) {
  const Inputs inputs(golden, machine);
  const size_t head_floats = size_t{inputs.num_rows()} * inputs.head_dim();
  std::vector<float> out(inputs.num_heads() * head_floats);
  std::vector<float> lse(size_t{inputs.num_heads()} * inputs.num_rows());
  nlohmann::json tiles = nlohmann::json::array();
  for (uint32_t head = 0; head < inputs.num_heads(); ++head) {
    const testing::BuiltMask built(
        core::LineTiles({inputs.num_rows(), inputs.num_keys()},
                        ListOf(golden, "verticals", "vertical_ptr", head),
                        ListOf(golden, "slashes", "slash_ptr", head)));
    tiles.push_back(built.size.computed_tiles);
    AttendLines(machine,
                inputs,
                built.mask,
                head,
                inputs.Scale(golden),
                out.data() + head * head_floats,
                lse.data() + size_t{head} * inputs.num_rows());
  }
  EXPECT_EQ(tiles, golden.inline_expected().at("computed_tiles"));
  ExpectNear(golden, machine, "lse", lse);
  if (golden.Expects("out_rows")) {
    std::vector<float> some;
    for (uint32_t head = 0; head < inputs.num_heads(); ++head) {
      for (const int32_t row : golden.Expected("out_rows").ints) {
        const float* first =
            out.data() + head * head_floats + static_cast<size_t>(row) * inputs.head_dim();
        some.insert(some.end(), first, first + inputs.head_dim());
      }
    }
    out = some;
  }
  ExpectNear(golden, machine, "out", out);
}

void CheckEstimateLines(const GoldenCase& golden, const Machine& machine) {
  const Inputs inputs(golden, machine);
  const uint32_t num_rows = std::min(golden.Count("last_q"), inputs.num_rows());
  const uint32_t num_keys = inputs.num_keys();
  std::vector<float> vertical(size_t{inputs.num_heads()} * num_keys);
  std::vector<float> slash(vertical.size());
  std::vector<float> lse(num_rows);
  std::vector<float> workspace(device::LinesWorkspaceFloats(num_keys, num_rows));
  for (uint32_t head = 0; head < inputs.num_heads(); ++head) {
    const device::LinesJob job = {inputs.slots(head),
                                  inputs.Row(head, inputs.num_rows() - num_rows),
                                  num_keys - num_rows,
                                  num_rows,
                                  vertical.data() + size_t{head} * num_keys,
                                  slash.data() + size_t{head} * num_keys,
                                  lse.data(),
                                  workspace.data()};
    machine.table->estimate_lines(
        machine.context, {inputs.pool(), &job, 1, inputs.head_dim(), inputs.Scale(golden), 0.0F});
  }
  ExpectNear(golden, machine, "vertical", vertical);
  ExpectNear(golden, machine, "slash", slash);
}

void CheckEstimateBlocks(const GoldenCase& golden, const Machine& machine) {
  const Inputs inputs(golden, machine);
  const uint32_t num_blocks = CeilDiv(inputs.num_keys(), device::kPoolTokens);
  const size_t head_scores = size_t{CeilDiv(inputs.num_rows(), kRowTile)} * num_blocks;
  std::vector<float> scores(inputs.num_heads() * head_scores);
  std::vector<float> panel(device::ColumnPanelElements(num_blocks, inputs.head_dim()));
  for (uint32_t head = 0; head < inputs.num_heads(); ++head) {
    const device::PoolJob pool_job = {inputs.slots(head), inputs.num_keys(), 0, panel.data()};
    machine.table->pool_blocks(machine.context, {inputs.pool(), &pool_job, 1});
    const device::BlockScoreJob job = {inputs.Row(head, 0),
                                       inputs.first_pos(),
                                       inputs.num_rows(),
                                       panel.data(),
                                       num_blocks,
                                       scores.data() + head * head_scores};
    machine.table->score_blocks(
        machine.context,
        {&job, 1, inputs.head_dim(), inputs.head_dim(), 1.0F, device::BlockScore::kPooled});
  }
  ExpectNear(golden, machine, "score", scores);
}

}  // namespace hipattn::golden
