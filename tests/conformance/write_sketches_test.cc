// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// write_sketches has the bits of the reference on every instruction set, and the reference says of
// the keys what docs/search.md says it does.
//
// Bound. A code is the nearest of four levels, so where none of them is beyond the ends an element
// is within half a step of its level. The rotation adds and subtracts log2(head_dim) <= 8 times
// and multiplies once, in f32: 9 u |x| sqrt(head_dim) with u = 2^-24 and |x| <= 6 is 5e-5 at 256;
// deciding between two levels rounds a few times more, with numbers of that size. 2e-4 in all.
#include "base/status.h"
#include "tests/support/compare.h"
#include "tests/support/op_tables.h"
#include "tests/support/sketch_fixture.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <vector>

namespace hipattn::testing {
namespace {

using device::WriteSketchJob;

uint32_t SketchesOf(const KvShape& shape, uint32_t num_blocks) {
  return num_blocks * (shape.block_tokens / device::kSketchTokens);
}

class WriteSketches : public OpTableTest {
 protected:
  static void Write(const device::OpTable& table,
                    const KvPool& pool,
                    const std::vector<WriteSketchJob>& jobs,
                    unsigned num_threads = 1) {
    table.write_sketches(context(num_threads),
                         {pool.pool(), jobs.data(), static_cast<uint32_t>(jobs.size())});
  }
  // All blocks, in calls of `step` blocks.
  static std::vector<uint8_t> Build(const device::OpTable& table,
                                    const KvPool& pool,
                                    const Text& text,
                                    uint32_t step,
                                    unsigned num_threads = 1) {
    const auto blocks = static_cast<uint32_t>(text.slots.size());
    const KvShape shape = {pool.pool().kv_dtype, pool.pool().head_dim, pool.pool().block_tokens};
    const SketchStore store(shape.head_dim, SketchesOf(shape, blocks));
    for (uint32_t first = 0; first < blocks; first += step) {
      Write(table,
            pool,
            {{text.slots.data(), first, std::min(step, blocks - first), store.table()}},
            num_threads);
    }
    return store.Bytes();
  }
};
HIPATTN_FOR_ALL_TABLES(WriteSketches);

TEST_P(WriteSketches, HasTheBitsOfTheReference) {
  for (const uint32_t head_dim : {8U, 16U, 24U, 64U, 72U, 80U, 96U, 128U, 248U, 256U}) {
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBf16}) {
      for (const uint32_t block_tokens : {16U, 32U, 64U}) {
        const KvShape shape = {dtype, head_dim, block_tokens};
        KvPool pool(shape, 9, head_dim);
        const Text text = pool.MakeText(9 * block_tokens);
        EXPECT_TRUE(SameBits(Build(table(), pool, text, 9), Build(reference(), pool, text, 9)))
            << "head_dim " << head_dim << ", " << DTypeName(dtype) << ", blocks of "
            << block_tokens;
      }
    }
  }
}

TEST_P(WriteSketches, DoesNotDependOnHowBlocksArriveNorOnThreads) {
  const KvShape shape = {DType::kBf16, 64, 32};
  KvPool pool(shape, 100, 3);
  const Text text = pool.MakeText(100 * 32);
  const std::vector<uint8_t> want = Build(table(), pool, text, 100);
  EXPECT_TRUE(SameBits(Build(table(), pool, text, 1), want));
  EXPECT_TRUE(SameBits(Build(table(), pool, text, 7), want));
  for (const unsigned num_threads : {2U, 5U}) {
    EXPECT_TRUE(SameBits(Build(table(), pool, text, 100, num_threads), want));
  }
}

TEST_P(WriteSketches, WritesItsOwnBlocksOnlyAndManyJobs) {
  const KvShape shape = {DType::kF16, 80, 16};
  KvPool pool(shape, 60, 4);
  const Text a = pool.MakeText(30 * 16);
  const Text b = pool.MakeText(30 * 16);
  const SketchStore store_a(80, 30);
  const SketchStore store_b(80, 30);
  Write(table(),
        pool,
        {{a.slots.data(), 3, 20, store_a.table()},
         {a.slots.data(), 23, 0, store_a.table()},
         {b.slots.data(), 0, 30, store_b.table()}},
        3);
  const SketchStore want_a(80, 30);
  Write(reference(), pool, {{a.slots.data(), 3, 20, want_a.table()}});
  EXPECT_TRUE(SameBits(store_a.Bytes(), want_a.Bytes()));
  EXPECT_TRUE(SameBits(store_b.Bytes(), Build(reference(), pool, b, 30)));
}

TEST_P(WriteSketches, ElementsAreNearTheirLevels) {
  for (const uint32_t head_dim : {40U, 128U, 256U}) {
    const KvShape shape = {DType::kF32, head_dim, 16};
    KvPool pool(shape, 4, 5);
    const Text text = pool.MakeText(4 * 16);
    const SketchStore store(head_dim, 4);
    Write(table(), pool, {{text.slots.data(), 0, 4, store.table()}});
    uint32_t beyond = 0;
    for (uint32_t block = 0; block < 4; ++block) {
      const PlainSketch sketch = store.Read(block);
      for (uint32_t t = 0; t < 16; ++t) {
        std::vector<float> key(head_dim);
        for (uint32_t d = 0; d < head_dim; ++d) {
          key[d] = LoadElement(pool.block(text.slots[block]), DType::kF32, size_t{d} * 16 + t);
        }
        const std::vector<double> want = Rotated(key.data(), head_dim);
        for (uint32_t d = 0; d < head_dim; ++d) {
          const double code = sketch.codes[d * 16 + t];
          const double error = want[d] - (sketch.base[d] + sketch.step[d] * code);
          const double limit = sketch.step[d] / 2 + 2e-4;
          const bool below = code == 0 && error < -limit;
          const bool above = code == 3 && error > limit;
          beyond += below || above ? 1 : 0;
          EXPECT_TRUE(below || above || std::abs(error) <= limit) << "dimension " << d;
        }
      }
    }
    // Normal numbers lie beyond two steps of 1.25 mean distances from the mean, which is 2.0 of
    // their deviations, 4.6 times in a hundred; 1.5 for samples of 16 and for rounded levels.
    EXPECT_LT(beyond, 4 * 16 * head_dim * 69 / 1000);
  }
}

TEST_P(WriteSketches, EqualKeysAndNoNumbers) {
  const KvShape shape = {DType::kF32, 24, 16};
  KvPool pool(shape, 3, 6);
  const Text text = pool.MakeText(3 * 16);
  const std::vector<float> zero(24, 0.0F);
  const std::vector<float> same(24, 3.25F);
  const std::vector<float> none(24, std::numeric_limits<float>::quiet_NaN());
  for (uint32_t t = 0; t < 16; ++t) {
    pool.SetToken(text.slots[0], t, zero.data(), zero.data());
    pool.SetToken(text.slots[1], t, same.data(), same.data());
    pool.SetToken(text.slots[2], t, none.data(), none.data());
  }
  const SketchStore store(24, 3);
  Write(table(), pool, {{text.slots.data(), 0, 3, store.table()}});
  for (uint32_t sketch = 0; sketch < 3; ++sketch) {
    const PlainSketch plain = store.Read(sketch);
    for (uint32_t d = 0; d < 32; ++d) {
      EXPECT_GE(plain.whole_step[d], 0);
      EXPECT_GE(plain.whole_base[d], -127);
    }
  }
  const PlainSketch empty = store.Read(0);
  const PlainSketch equal = store.Read(1);
  const std::vector<double> want = Rotated(same.data(), 24);
  for (uint32_t d = 0; d < 24; ++d) {
    EXPECT_EQ(empty.base[d] + empty.step[d] * empty.codes[d * 16], 0.0);
    EXPECT_EQ(empty.step_exponent, device::kLeastSketchExponent);
    EXPECT_NEAR(equal.base[d] + equal.step[d] * equal.codes[d * 16], want[d], 0.06);
  }
  for (uint32_t d = 24; d < 32; ++d) {
    EXPECT_EQ(equal.whole_step[d], 0);
    EXPECT_EQ(equal.whole_base[d], 0);
    EXPECT_EQ(equal.codes[d * 16 + 5], 0U);
  }
}

}  // namespace
}  // namespace hipattn::testing
