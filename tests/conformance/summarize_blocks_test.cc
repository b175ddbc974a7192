// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// summarize_blocks has the bits of the reference on every instruction set, however the blocks
// arrive (SPEC D28-D30).
#include "base/status.h"
#include "tests/support/compare.h"
#include "tests/support/kv_fixture.h"
#include "tests/support/op_tables.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

namespace hipattn::testing {
namespace {

// All that a build leaves behind. Of the open nodes only those that have a child.
struct Tree {
  std::vector<uint8_t> summaries;
  std::vector<float> kept, open;
};

std::vector<float> OpenNodes(const SummaryStore& store, uint32_t num_blocks, uint32_t head_dim) {
  std::vector<float> numbers;
  for (uint32_t level = 1; level < kMaxLevels; ++level) {
    if ((num_blocks >> (3 * (level - 1))) % kFanOut != 0) {
      const float* open = store.open() + size_t{level - 1} * 3 * head_dim;
      numbers.insert(numbers.end(), open, open + size_t{3} * head_dim);
    }
  }
  return numbers;
}

Tree TreeOf(const SummaryStore& store, uint32_t num_blocks, uint32_t head_dim) {
  Tree tree;
  for (uint32_t level = 0; level < kMaxLevels; ++level) {
    const std::vector<uint8_t> bytes = store.LevelBytes(level);
    tree.summaries.insert(tree.summaries.end(), bytes.begin(), bytes.end());
  }
  tree.kept = store.Kept();
  tree.open = OpenNodes(store, num_blocks, head_dim);
  return tree;
}

void ExpectSame(const Tree& got, const Tree& want) {
  EXPECT_TRUE(SameBits(got.summaries, want.summaries));
  EXPECT_TRUE(SameBits(got.kept, want.kept));
  EXPECT_TRUE(SameBits(got.open, want.open));
}

struct Case {
  KvShape shape;
  Scorer scorer;
  uint32_t num_blocks;
};

class SummarizeBlocks : public OpTableTest {
 protected:
  static void Summarize(const device::OpTable& table,
                        const device::OpContext& context,
                        const Case& test,
                        const KvPool& pool,
                        const std::vector<device::SummarizeJob>& jobs) {
    table.summarize_blocks(
        context, {pool.pool(), test.scorer, jobs.data(), static_cast<uint32_t>(jobs.size())});
  }

  static device::SummarizeJob Job(const Text& text,
                                  const SummaryStore& store,
                                  uint32_t first,
                                  uint32_t count) {
    device::SummarizeJob job = {};
    job.slots = text.slots.data();
    job.first_block = first;
    job.num_blocks = count;
    store.Attach(&job);
    return job;
  }

  // All blocks, in calls of `step` blocks.
  static Tree Build(const device::OpTable& table,
                    const device::OpContext& context,
                    const Case& test,
                    const KvPool& pool,
                    const Text& text,
                    uint32_t step) {
    const SummaryStore store(test.shape, test.scorer, test.num_blocks);
    for (uint32_t first = 0; first < test.num_blocks; first += step) {
      const uint32_t count = std::min(step, test.num_blocks - first);
      Summarize(table, context, test, pool, {Job(text, store, first, count)});
    }
    return TreeOf(store, test.num_blocks, test.shape.head_dim);
  }

  static uint32_t Tokens(const Case& test) { return test.num_blocks * test.shape.block_tokens; }
};

constexpr Scorer kScorers[] = {Scorer::kRepresentative,
                               Scorer::kMean,
                               Scorer::kBounds,
                               Scorer::kCuboidMean,
                               Scorer::kFirst,
                               Scorer::kLast};

TEST_P(SummarizeBlocks, AllScorersAndTypesHaveTheBitsOfTheReference) {
  for (const Scorer scorer : kScorers) {
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBf16}) {
      for (const uint32_t head_dim : {8U, 64U, 80U}) {
        const Case test{{dtype, head_dim, 16}, scorer, 75};
        KvPool pool(test.shape, test.num_blocks, 1);
        const Text text = pool.MakeText(Tokens(test));
        SCOPED_TRACE(StrCat("scorer ", static_cast<uint32_t>(scorer), " head_dim ", head_dim));
        ExpectSame(Build(table(), context(), test, pool, text, 75),
                   Build(reference(), context(), test, pool, text, 75));
      }
    }
  }
}

TEST_P(SummarizeBlocks, AllShapesHaveTheBitsOfTheReference) {
  for (const uint32_t block_tokens : {16U, 32U, 64U}) {
    for (const uint32_t head_dim : {96U, 128U, 256U}) {
      const Case test{{DType::kBf16, head_dim, block_tokens}, Scorer::kCuboidMean, 66};
      KvPool pool(test.shape, test.num_blocks, 2);
      const Text text = pool.MakeText(Tokens(test));
      ExpectSame(Build(table(), context(), test, pool, text, 66),
                 Build(reference(), context(), test, pool, text, 66));
    }
  }
}

// More than one node of KeptLevel, and of the level above it: 8 * 512 + 512 + 1 blocks of 16.
TEST_P(SummarizeBlocks, ManyLevelsBitsDoNotDependOnThreadsNorOnSteps) {
  const Case test{{DType::kBf16, 8, 16}, Scorer::kBounds, 4609};
  KvPool pool(test.shape, test.num_blocks, 3);
  const Text text = pool.MakeText(Tokens(test));
  const Tree want = Build(reference(), context(), test, pool, text, test.num_blocks);
  for (const unsigned num_threads : {1U, 2U, 5U}) {
    ExpectSame(Build(table(), context(num_threads), test, pool, text, test.num_blocks), want);
  }
  for (const uint32_t step : {1U, 7U, 32U, 500U, 513U, 1500U}) {
    SCOPED_TRACE(StrCat("steps of ", step));
    ExpectSame(Build(table(), context(2), test, pool, text, step), want);
  }
}

TEST_P(SummarizeBlocks, JobsDoNotMix) {
  const Case test{{DType::kF32, 64, 32}, Scorer::kCuboidMean, 20};
  const Case longer{test.shape, test.scorer, 33};
  KvPool pool(test.shape, 53, 4);
  const Text text_a = pool.MakeText(Tokens(test));
  const Text text_b = pool.MakeText(Tokens(longer));
  const SummaryStore store_a(test.shape, test.scorer, test.num_blocks);
  const SummaryStore store_b(test.shape, test.scorer, longer.num_blocks);
  Summarize(
      table(), context(2), test, pool, {Job(text_a, store_a, 0, 20), Job(text_b, store_b, 0, 0)});
  Summarize(
      table(), context(2), test, pool, {Job(text_a, store_a, 20, 0), Job(text_b, store_b, 0, 33)});
  ExpectSame(TreeOf(store_a, 20, 64), Build(reference(), context(), test, pool, text_a, 20));
  ExpectSame(TreeOf(store_b, 33, 64), Build(reference(), context(), longer, pool, text_b, 33));
}

// After a truncate: the open nodes from the stored keys and the kept vectors alone, then on as if
// nothing had happened.
TEST_P(SummarizeBlocks, RebuildGivesTheOpenNodes) {
  for (const uint32_t block_tokens : {16U, 64U}) {
    const Case test{{DType::kBf16, 8, block_tokens}, Scorer::kMean, 1200};
    const uint32_t piece = 1U << (3 * device::KeptLevel(block_tokens));
    KvPool pool(test.shape, test.num_blocks, 5);
    const Text text = pool.MakeText(Tokens(test));
    const Tree want = Build(reference(), context(), test, pool, text, 1200);
    for (const uint32_t cut : {0U, 1U, 8U, 63U, 511U, 512U, 513U, 1024U, 1199U}) {
      SCOPED_TRACE(StrCat("cut at ", cut));
      const SummaryStore store(test.shape, test.scorer, test.num_blocks);
      Summarize(table(), context(), test, pool, {Job(text, store, 0, test.num_blocks)});
      std::fill_n(
          store.open(), size_t{kMaxLevels - 1} * 3 * 8, std::numeric_limits<float>::quiet_NaN());
      device::SummarizeJob job = Job(text, store, cut / piece * piece, cut % piece);
      job.rebuild = 1;
      Summarize(table(), context(2), test, pool, {job});
      const SummaryStore shorter(test.shape, test.scorer, test.num_blocks);
      Summarize(reference(), context(), test, pool, {Job(text, shorter, 0, cut)});
      EXPECT_TRUE(SameBits(OpenNodes(store, cut, 8), OpenNodes(shorter, cut, 8)));
      Summarize(table(), context(), test, pool, {Job(text, store, cut, test.num_blocks - cut)});
      ExpectSame(TreeOf(store, test.num_blocks, 8), want);
    }
  }
}

// A key that is not a number spoils no node that it is not in, and nothing crashes.
TEST_P(SummarizeBlocks, NanKeysStayInTheirNodes) {
  const Case test{{DType::kF32, 64, 16}, Scorer::kCuboidMean, 24};
  KvPool pool(test.shape, test.num_blocks, 6);
  const Text text = pool.MakeText(Tokens(test));
  const Tree clean = Build(table(), context(), test, pool, text, 24);
  std::vector<float> bad(64, std::numeric_limits<float>::quiet_NaN());
  bad[5] = std::numeric_limits<float>::infinity();
  pool.SetToken(text.slots[20], 3, bad.data(), bad.data());
  const Tree got = Build(table(), context(), test, pool, text, 24);
  ExpectSame(got, Build(reference(), context(), test, pool, text, 24));
  const uint64_t group_bytes = device::SummaryGroupBytes(64, true);
  EXPECT_EQ(std::memcmp(got.summaries.data(), clean.summaries.data(), 2 * group_bytes), 0);
}

TEST_P(SummarizeBlocks, EqualKeysAndZeros) {
  const Case test{{DType::kF32, 16, 16}, Scorer::kBounds, 8};
  KvPool pool(test.shape, test.num_blocks, 7);
  const Text text = pool.MakeText(Tokens(test));
  std::vector<float> key(16);
  for (uint32_t token = 0; token < Tokens(test); ++token) {
    std::fill(key.begin(), key.end(), token % 2 == 0 ? 0.0F : -0.0F);
    key[3] = token < 64 ? 1e-44F : 0.0F;
    pool.SetToken(text.slots[token / 16], token % 16, key.data(), key.data());
  }
  ExpectSame(Build(table(), context(), test, pool, text, 8),
             Build(reference(), context(), test, pool, text, 8));
}

HIPATTN_FOR_ALL_TABLES(SummarizeBlocks);

}  // namespace
}  // namespace hipattn::testing
