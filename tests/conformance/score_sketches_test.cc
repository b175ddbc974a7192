// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// score_sketches has the bits of the reference on every instruction set, and the reference is the
// log-sum-exp that docs/search.md promises.
//
// Bound of the latter, in units of log2 with c = scale / ln 2, q rotated. Per dimension the weight
// q step is off by half of max |q| max step / 127 and multiplied by a code of at most 3; q itself
// by half of max |q| / 32767, times |base| <= max base. Errors of the d dimensions add up like
// those of random numbers, times at most 5 of their deviations (1 / sqrt(12) for a rounding):
//   5 c sqrt(d / 12) (3 max |q| max step / 127 + max |q| max |base| / 32767)
// The powers of two are within .3 % (.005 of log2), the logarithm within .009: .015 in all; blocks
// of several sketches take both once more.
#include "tests/support/compare.h"
#include "tests/support/op_tables.h"
#include "tests/support/sketch_fixture.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numbers>
#include <vector>

namespace hipattn::testing {
namespace {

using device::ScoreSketchJob;
using device::ScoreSketchParams;
using device::WriteSketchJob;

constexpr float kUnset = -12345.0F;

struct SketchShape {
  uint32_t head_dim;
  uint32_t block_tokens;
  uint32_t num_rows;
  uint32_t group;
};

// A text with sketches by the reference, a list of its blocks, queries.
class SketchCase {
 public:
  SketchCase(const SketchShape& shape, uint32_t num_blocks, uint64_t seed)
      : shape_(shape),
        pool_({DType::kBf16, shape.head_dim, shape.block_tokens}, num_blocks, seed),
        store_(shape.head_dim, num_blocks * (shape.block_tokens / 16)),
        row_stride_(uint64_t{shape.group} * shape.head_dim + 24) {
    const Text text = pool_.MakeText(num_blocks * shape.block_tokens);
    const WriteSketchJob job = {text.slots.data(), 0, num_blocks, store_.table()};
    host::ReferenceOps().write_sketches({}, {pool_.pool(), &job, 1});
    q_ = pool_.random().Normals(row_stride_ * shape.num_rows);
    for (uint32_t i = 0; i < num_blocks; ++i) {
      if (pool_.random().Below(3) != 0) {
        blocks_.push_back(static_cast<int32_t>(i));
      }
    }
  }

  // The listed blocks.
  ScoreSketchJob Listed(std::vector<float>* scores) const {
    scores->assign(blocks_.size() + 1, kUnset);
    return {store_.table(),
            blocks_.data(),
            0,
            static_cast<uint32_t>(blocks_.size()),
            {q_.data(), row_stride_, shape_.num_rows, shape_.group},
            scores->data(),
            0};
  }
  // All blocks of [first, first + count).
  ScoreSketchJob Range(uint32_t first, uint32_t count, std::vector<float>* scores) const {
    scores->assign(count + 1, kUnset);
    return {store_.table(),
            nullptr,
            first,
            count,
            {q_.data(), row_stride_, shape_.num_rows, shape_.group},
            scores->data(),
            0};
  }
  const SketchShape& shape() const { return shape_; }
  const SketchStore& store() const { return store_; }
  const std::vector<int32_t>& blocks() const { return blocks_; }
  const float* Q(uint32_t row, uint32_t head) const {
    return q_.data() + row * row_stride_ + size_t{head} * shape_.head_dim;
  }
  std::vector<float>& q() { return q_; }

 private:
  SketchShape shape_;
  KvPool pool_;
  SketchStore store_;
  uint64_t row_stride_;
  std::vector<float> q_;
  std::vector<int32_t> blocks_;
};

constexpr float kScale = 0.25F;

class ScoreSketches : public OpTableTest {
 protected:
  static void Run(const device::OpTable& table,
                  const SketchShape& shape,
                  const std::vector<ScoreSketchJob>& jobs,
                  unsigned num_threads = 1) {
    table.score_sketches(context(num_threads),
                         {jobs.data(),
                          static_cast<uint32_t>(jobs.size()),
                          shape.head_dim,
                          shape.block_tokens,
                          kScale});
  }
  void Check(const SketchShape& shape, uint32_t num_blocks) {
    SCOPED_TRACE(::testing::Message()
                 << "head_dim " << shape.head_dim << " block " << shape.block_tokens << " rows "
                 << shape.num_rows << " group " << shape.group);
    const SketchCase search(shape, num_blocks, shape.head_dim + shape.group);
    std::vector<float> got;
    std::vector<float> want;
    Run(table(), shape, {search.Listed(&got)});
    Run(reference(), shape, {search.Listed(&want)});
    EXPECT_TRUE(SameBits(got, want));
  }
};
HIPATTN_FOR_ALL_TABLES(ScoreSketches);

TEST_P(ScoreSketches, EveryHeadDimAndGroup) {
  for (const uint32_t head_dim : {8U, 16U, 24U, 40U, 64U, 72U, 80U, 96U, 128U, 248U, 256U}) {
    for (const uint32_t group : {1U, 2U, 3U, 4U, 5U, 6U, 7U, 8U, 9U}) {
      Check({head_dim, 16, 1, group}, 10 + group + head_dim / 8);
    }
  }
}

TEST_P(ScoreSketches, LargerBlocksAndManyRows) {
  for (const uint32_t block_tokens : {16U, 32U, 64U}) {
    Check({64, block_tokens, 1, 3}, 70);
    Check({128, block_tokens, 16, 4}, 20);
    Check({80, block_tokens, 5, 1}, 33);
  }
}

TEST_P(ScoreSketches, ARangeIsTheListOfItsBlocks) {
  const SketchCase search({64, 16, 1, 3}, 300, 7);
  std::vector<float> listed;
  std::vector<float> range;
  Run(table(), search.shape(), {search.Listed(&listed)});
  Run(table(), search.shape(), {search.Range(0, 300, &range)});
  for (size_t i = 0; i < search.blocks().size(); ++i) {
    EXPECT_EQ(listed[i], range[static_cast<size_t>(search.blocks()[i])]);
  }
  std::vector<float> part;
  Run(table(), search.shape(), {search.Range(37, 101, &part)});
  EXPECT_EQ(part.back(), kUnset);
  part.pop_back();
  EXPECT_TRUE(SameBits(part, std::vector<float>(range.begin() + 37, range.begin() + 138)));
}

// One vector after another gives what each gives by itself, and touches nothing between them.
TEST_P(ScoreSketches, WithAStrideEveryQueryHasItsScores) {
  for (const SketchShape& shape :
       {SketchShape{64, 16, 1, 3}, SketchShape{128, 32, 3, 4}, SketchShape{80, 64, 1, 9}}) {
    const SketchCase search(shape, 150, 13);
    std::vector<float> unused;
    const uint32_t num_queries = shape.num_rows * shape.group;
    for (ScoreSketchJob job : {search.Listed(&unused), search.Range(11, 107, &unused)}) {
      const uint64_t stride = job.num_blocks + 2;
      std::vector<float> got(num_queries * stride, kUnset);
      job.scores = got.data();
      job.query_stride = stride;
      Run(table(), shape, {job}, 2);
      for (uint32_t i = 0; i < num_queries; ++i) {
        std::vector<float> want(stride, kUnset);
        ScoreSketchJob alone = job;
        alone.rows = {search.Q(i / shape.group, i % shape.group), 0, 1, 1};
        alone.scores = want.data();
        alone.query_stride = 0;
        Run(reference(), shape, {alone});
        const float* const scores = got.data() + i * stride;
        EXPECT_TRUE(SameBits(std::vector<float>(scores, scores + stride), want)) << "query " << i;
      }
    }
  }
}

TEST_P(ScoreSketches, BitsDependOnTheJobAlone) {
  const SketchShape shape = {64, 32, 2, 3};
  std::vector<std::unique_ptr<SketchCase>> searches;
  std::vector<std::vector<float>> want(4);
  std::vector<ScoreSketchJob> jobs;
  for (uint32_t i = 0; i < want.size(); ++i) {
    searches.push_back(std::make_unique<SketchCase>(shape, 2 + 63 * i, i));
    jobs.push_back(searches[i]->Listed(&want[i]));
  }
  jobs.push_back(jobs[0]);
  jobs.back().num_blocks = 0;
  Run(table(), shape, jobs);
  for (const unsigned num_threads : {1U, 2U, 5U}) {
    std::vector<std::vector<float>> got(want.size());
    std::vector<ScoreSketchJob> again;
    for (uint32_t i = 0; i < want.size(); ++i) {
      std::vector<float>& q = searches[i]->q();
      std::fill_n(q.begin() + 3 * 64, 24, std::nanf(""));  // between the rows
      again.push_back(searches[i]->Listed(&got[i]));
    }
    Run(table(), shape, again, num_threads);
    for (uint32_t i = 0; i < want.size(); ++i) {
      EXPECT_TRUE(SameBits(got[i], want[i]));
      Run(table(), shape, {searches[i]->Listed(&got[i])}, num_threads);
      EXPECT_TRUE(SameBits(got[i], want[i]));
    }
  }
}

// log2 of the sum of exp(scale q.k) over a block's sketched keys, in f64.
double PlainScore(const SketchCase& search, uint32_t block, const float* q) {
  const SketchShape& shape = search.shape();
  const std::vector<double> rotated = Rotated(q, shape.head_dim);
  double sum = 0;
  for (uint32_t i = 0; i < shape.block_tokens / 16; ++i) {
    const PlainSketch sketch = search.store().Read(block * (shape.block_tokens / 16) + i);
    for (uint32_t t = 0; t < 16; ++t) {
      double dot = 0;
      for (uint32_t d = 0; d < shape.head_dim; ++d) {
        dot += rotated[d] * (sketch.base[d] + sketch.step[d] * sketch.codes[d * 16 + t]);
      }
      sum += std::exp(double{kScale} * dot);
    }
  }
  return std::log2(sum);
}

double Bound(const SketchCase& search, uint32_t block, const float* q) {
  const uint32_t head_dim = search.shape().head_dim;
  double most_q = 0;
  for (const double x : Rotated(q, head_dim)) {
    most_q = std::max(most_q, std::abs(x));
  }
  double most_step = 0;
  double most_base = 0;
  const uint32_t per_block = search.shape().block_tokens / 16;
  for (uint32_t i = 0; i < per_block; ++i) {
    const PlainSketch sketch = search.store().Read(block * per_block + i);
    for (uint32_t d = 0; d < head_dim; ++d) {
      most_step = std::max(most_step, sketch.step[d]);
      most_base = std::max(most_base, std::abs(sketch.base[d]));
    }
  }
  return 5 * double{kScale} / std::numbers::ln2 * std::sqrt(head_dim / 12.0) * most_q *
             (3 * most_step / 127 + most_base / 32767) +
         (per_block > 1 ? 0.03 : 0.015);
}

TEST_P(ScoreSketches, IsTheLogSumExpOfTheSketchedKeys) {
  for (const SketchShape& shape :
       {SketchShape{64, 16, 1, 3}, SketchShape{80, 32, 2, 2}, SketchShape{128, 64, 1, 1}}) {
    const SketchCase search(shape, 12, 11);
    std::vector<float> scores;
    Run(table(), shape, {search.Listed(&scores)});
    for (size_t i = 0; i < search.blocks().size(); ++i) {
      const auto block = static_cast<uint32_t>(search.blocks()[i]);
      double want = -1e300;
      double bound = 0;
      for (uint32_t row = 0; row < shape.num_rows; ++row) {
        for (uint32_t head = 0; head < shape.group; ++head) {
          const float* q = search.Q(row, head);
          want = std::max(want, PlainScore(search, block, q));
          bound = std::max(bound, Bound(search, block, q));
        }
      }
      EXPECT_LT(bound, 1.5) << "says nothing";
      EXPECT_NEAR(scores[i], want, bound) << "block " << block;
    }
  }
}

}  // namespace
}  // namespace hipattn::testing
