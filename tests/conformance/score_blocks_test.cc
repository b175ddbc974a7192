// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// pool_blocks and score_blocks against the references.
//
// A mean is a sum of 64 numbers below 6 and a product with a power of 2: 64 u 6. A score is a sum
// of d products, of means below 1 or of one and normal numbers, and a mass the lse of 64 such
// scores; the rounded mean of q of a pooled score adds less than the sum of the lse does. So the
// bound of an lse holds for all.
#include "base/status.h"
#include "tests/support/attention_bound.h"
#include "tests/support/compare.h"
#include "tests/support/kv_fixture.h"
#include "tests/support/op_tables.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace hipattn::testing {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr double kUnit = 0x1p-24;

class ScoreBlocks : public OpTableTest {
 protected:
  static std::vector<float> Pool(const device::OpTable& table,
                                 const device::OpContext& context,
                                 const KvPool& pool,
                                 const Text& text) {
    std::vector<float> panel(PanelFloats(pool, text), kNan);
    Extend(table, context, pool, text, 0, &panel);
    return panel;
  }
  static uint64_t PanelFloats(const KvPool& pool, const Text& text) {
    return device::ColumnPanelElements(CeilDiv(text.num_tokens, 64U), pool.pool().head_dim);
  }
  static void Extend(const device::OpTable& table,
                     const device::OpContext& context,
                     const KvPool& pool,
                     const Text& text,
                     uint32_t first_block,
                     std::vector<float>* panel) {
    const device::PoolJob job = {text.slots.data(), text.num_tokens, first_block, panel->data()};
    table.pool_blocks(context, {pool.pool(), &job, 1});
  }
};

TEST_P(ScoreBlocks, PoolsOfAllShapesMatchReference) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBf16}) {
    for (const uint32_t head_dim : {8U, 64U, 72U, 256U}) {
      for (const uint32_t tokens : {1U, 64U, 65U, 1024U, 1500U}) {
        SCOPED_TRACE(StrCat(DTypeName(dtype), ", head_dim ", head_dim, ", tokens ", tokens));
        KvPool pool({dtype, head_dim, 32}, BlocksFor(tokens, 32), 1);
        const Text text = pool.MakeText(tokens);
        EXPECT_TRUE(Near(Pool(table(), context(2), pool, text),
                         Pool(reference(), context(), pool, text),
                         {64 * kUnit * 6, kUnit}));
      }
    }
  }
}

// What has been pooled stays, and the rest is what a whole pool gives.
TEST_P(ScoreBlocks, PoolsGrow) {
  KvPool pool({DType::kBf16, 64, 16}, BlocksFor(3000, 16), 1);
  Text text = pool.MakeText(1200);
  std::vector<float> panel = Pool(table(), context(), pool, text);
  pool.Extend(&text, 1800);
  panel.resize(PanelFloats(pool, text), kNan);
  Extend(table(), context(2), pool, text, 16, &panel);
  EXPECT_TRUE(SameBits(panel, Pool(table(), context(), pool, text)));
}

TEST_P(ScoreBlocks, AllShapesMatchReference) {
  for (const uint32_t head_dim : {8U, 64U, 128U, 136U, 256U}) {
    for (const uint32_t tokens : {1U, 63U, 64U, 65U, 1100U}) {
      for (const uint32_t first : {0U, tokens / 3}) {
        SCOPED_TRACE(StrCat("head_dim ", head_dim, ", tokens ", tokens, ", first ", first));
        KvPool pool({DType::kF32, head_dim, 16}, BlocksFor(tokens, 16), 1);
        const Text text = pool.MakeText(tokens);
        const std::vector<float> panel = Pool(reference(), context(), pool, text);
        const uint64_t stride = head_dim + 8;
        const std::vector<float> q = pool.random().Normals((tokens - first) * stride);
        const uint32_t num_blocks = CeilDiv(tokens, 64U);
        const uint32_t tiles = CeilDiv(tokens - first, kRowTile);
        for (const auto score : {device::BlockScore::kPooled, device::BlockScore::kMass}) {
          const auto run = [&](const device::OpTable& ops, unsigned num_threads) {
            std::vector<float> scores(size_t{tiles} * num_blocks, kNan);
            const device::BlockScoreJob job = {
                q.data(), first, tokens - first, panel.data(), num_blocks, scores.data()};
            ops.score_blocks(context(num_threads), {&job, 1, stride, head_dim, 0.25F, score});
            return scores;
          };
          const AttentionSize size = {head_dim, 0.25 * head_dim, 1, 0, 64, 1};
          EXPECT_TRUE(Near(run(table(), 2), run(reference(), 1), LseBound(size)));
          EXPECT_TRUE(SameBits(run(table(), 3), run(table(), 1)));
        }
      }
    }
  }
}

TEST_P(ScoreBlocks, NoJobs) {
  const KvPool pool({DType::kF32, 64, 16}, 1, 1);
  table().pool_blocks(context(), {pool.pool(), nullptr, 0});
  table().score_blocks(context(), {nullptr, 0, 64, 64, 1, device::BlockScore::kMass});
}

HIPATTN_FOR_ALL_TABLES(ScoreBlocks);

}  // namespace
}  // namespace hipattn::testing
