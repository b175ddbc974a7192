// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// score_antidiagonals against the reference.
//
// A score is a sum of stride * head_dim products, |q_i k_i| of which sum to less than 2 of each, so
// it is below 2 scale head_dim. A share errs by WeightError of its score and of its row's sum, and
// at most 16 row cells' shares make a mass.
#include "base/int_math.h"
#include "base/status.h"
#include "tests/support/attention_bound.h"
#include "tests/support/compare.h"
#include "tests/support/kv_fixture.h"
#include "tests/support/op_tables.h"

#include <gtest/gtest.h>

#include <limits>
#include <numeric>
#include <utility>
#include <vector>

namespace hipattn::testing {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

class ScoreAntidiagonals : public OpTableTest {};

struct Case {
  Case(const KvShape& shape, uint32_t num_keys, uint32_t num_rows, uint32_t cell)
      : keys(num_keys),
        rows(num_rows),
        stride(cell),
        pool(shape, BlocksFor(num_keys, shape.block_tokens) + 1, 7),
        text(pool.MakeText(num_keys)),
        row_stride(shape.head_dim + 8),
        q(pool.random().Normals(num_rows * row_stride)) {}

  uint32_t head_dim() const { return pool.pool().head_dim; }
  uint32_t num_blocks() const { return CeilDiv(keys, 128U); }
  std::vector<float> Run(const device::OpTable& table, const device::OpContext& context) const {
    std::vector<float> mass(size_t{CeilDiv(rows, 128U)} * num_blocks(), kNan);
    std::vector<float> workspace(
        device::AntidiagonalWorkspaceFloats(keys, rows, stride, head_dim()), kNan);
    const device::AntidiagonalJob job = {
        text.slots.data(), q.data(), keys - rows, rows, mass.data(), workspace.data()};
    table.score_antidiagonals(context, {pool.pool(), &job, 1, row_stride, stride, kScale});
    return mass;
  }
  Bound MassBound() const {
    const AttentionSize size = {stride * head_dim(), 2.0 * kScale * head_dim(), 1, 0, keys, 2};
    return {2 * 16 * WeightError(size), 0};
  }

  static constexpr float kScale = 0.125F;
  uint32_t keys, rows, stride;
  mutable KvPool pool;
  Text text;
  uint64_t row_stride;
  std::vector<float> q;
};

TEST_P(ScoreAntidiagonals, AllShapesMatchReference) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBf16}) {
    for (const uint32_t head_dim : {8U, 64U, 136U}) {
      for (const uint32_t keys : {1U, 9U, 128U, 700U}) {
        for (const uint32_t rows : {1U, keys / 2 + 1, keys}) {
          for (const uint32_t stride : {8U, 16U}) {
            SCOPED_TRACE(StrCat(DTypeName(dtype),
                                ", head_dim ",
                                head_dim,
                                ", keys ",
                                keys,
                                ", rows ",
                                rows,
                                ", stride ",
                                stride));
            const Case test({dtype, head_dim, 32}, keys, rows, stride);
            EXPECT_TRUE(Near(
                test.Run(table(), context(2)), test.Run(reference(), context()), test.MassBound()));
          }
        }
      }
    }
  }
}

// Every row cell's shares sum to 1, and none is behind the rows.
TEST_P(ScoreAntidiagonals, MassIsThatOfTheRowsAndCausal) {
  const Case test({DType::kF32, 64, 16}, 2048, 1024, 8);
  const std::vector<float> mass = test.Run(table(), context(3));
  for (uint32_t block = 0; block < 8; ++block) {
    const auto row = mass.begin() + block * test.num_blocks();
    EXPECT_NEAR(std::accumulate(row, row + test.num_blocks(), 0.0), 16, 1e-4) << block;
    EXPECT_TRUE(std::all_of(row + 8 + block + 1, row + test.num_blocks(), [](float share) {
      return share == 0;
    })) << block;
  }
  EXPECT_TRUE(SameBits(test.Run(table(), context(1)), mass));
}

// The keys of a part alone.
TEST_P(ScoreAntidiagonals, PartsGiveTheBitsOfTheWhole) {
  for (const uint32_t stride : {8U, 16U}) {
    const Case test({DType::kBf16, 16, 16}, 1700, 900, stride);
    const std::vector<float> want = test.Run(table(), context(2));
    const uint32_t nan_block = test.pool.TakeSlot();  // never written
    std::vector<float> got(want.size(), kNan);
    std::vector<float> workspace(device::AntidiagonalWorkspaceFloats(1700, 900, stride, 16), kNan);
    std::vector<uint32_t> slots(test.text.slots.size());
    device::AntidiagonalJob job = {
        slots.data(), test.q.data(), 800, 900, got.data(), workspace.data()};
    for (const auto& [begin, end] :
         std::vector<std::pair<uint32_t, uint32_t>>{{0, 512}, {512, 1536}, {1536, 2048}}) {
      job.key_begin = begin;
      job.key_end = end;
      for (uint32_t block = 0; block < slots.size(); ++block) {
        const bool given = block >= begin / 16 && block < end / 16;
        slots[block] = given ? test.text.slots[block] : nan_block;
      }
      table().score_antidiagonals(
          context(2), {test.pool.pool(), &job, 1, test.row_stride, stride, Case::kScale});
    }
    EXPECT_TRUE(SameBits(got, want));
  }
}

TEST_P(ScoreAntidiagonals, NoJobs) {
  const KvPool pool({DType::kF32, 64, 16}, 1, 1);
  table().score_antidiagonals(context(), {pool.pool(), nullptr, 0, 64, 8, 1});
}

HIPATTN_FOR_ALL_TABLES(ScoreAntidiagonals);

}  // namespace
}  // namespace hipattn::testing
