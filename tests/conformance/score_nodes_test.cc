// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// score_nodes of every table against the reference, bit for bit: sums are of whole numbers, and
// what follows them has one order. The reference's rounding of q is held against f64 apart.
#include "base/fixed_point.h"
#include "tests/support/compare.h"
#include "tests/support/kv_fixture.h"
#include "tests/support/op_tables.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

namespace hipattn::testing {
namespace {

using device::QueryRows;
using device::ScoreJob;
using device::ScoreParams;

constexpr float kUnset = -12345.0F;

struct ScoreShape {
  uint32_t head_dim;
  Scorer scorer;
  uint32_t num_rows;
  uint32_t group;
};

// One search: summaries, a list of groups, queries.
class ScoreCase {
 public:
  ScoreCase(const ScoreShape& shape, uint32_t num_groups, uint64_t seed)
      : shape_(shape),
        random_(seed),
        store_({DType::kF32, shape.head_dim, 16}, shape.scorer, 8 * num_groups * 2),
        row_stride_(uint64_t{shape.group} * shape.head_dim + 24) {
    store_.FillRandom(&random_);
    if (!ScorerHasSpread(shape.scorer)) {
      RepeatScales(2 * num_groups);
    }
    q_ = random_.Normals(row_stride_ * shape.num_rows);
    for (uint32_t i = 0; i < num_groups; ++i) {
      const uint32_t kind = random_.Below(8);
      const uint32_t mask = kind == 0 ? 0 : kind == 1 ? random_.Below(256) : 0xff;
      groups_.push_back({2 * i + random_.Below(2), mask});
    }
  }

  ScoreJob Job(std::vector<float>* scores) const {
    scores->assign(groups_.size() * kFanOut, kUnset);
    ScoreJob job = {};
    job.level = store_.level(0);
    job.groups = groups_.data();
    job.num_groups = static_cast<uint32_t>(groups_.size());
    job.rows = QueryRows{q_.data(), row_stride_, shape_.num_rows, shape_.group};
    job.scores = scores->data();
    return job;
  }
  std::vector<float>& q() { return q_; }
  // The best score of a child in f64, q as it is, and by how much rounding q and the last three
  // operations may move it: half a step for every element times the vectors' sums of magnitudes,
  // and 4 roundings of the sums.
  std::pair<double, double> TrueScore(uint32_t at, uint32_t child) const {
    const bool has_spread = ScorerHasSpread(shape_.scorer);
    const uint64_t bytes = device::SummaryGroupBytes(shape_.head_dim, has_spread);
    const std::byte* data = device::SummaryGroupAddress(store_.level(0), bytes, groups_[at].index);
    const auto* scales = reinterpret_cast<const float*>(data);
    const auto* steps = reinterpret_cast<const int8_t*>(data + 2 * kFanOut * sizeof(float));
    std::pair<double, double> best = {-INFINITY, 0.0};
    for (uint32_t i = 0; i < shape_.num_rows * shape_.group; ++i) {
      const float* q = &q_[i / shape_.group * row_stride_ + i % shape_.group * shape_.head_dim];
      double score = 0;
      double magnitude = 0;
      double moved = 0;
      float largest = 0;
      for (uint32_t dim = 0; dim < shape_.head_dim; ++dim) {
        const double m =
            double{scales[child]} * steps[device::SummaryPlace(has_spread, 0, child, dim)];
        const double w = has_spread ? double{scales[kFanOut + child]} *
                                          steps[device::SummaryPlace(true, 1, child, dim)]
                                    : 0.0;
        score += double{q[dim]} * m + std::fabs(double{q[dim]}) * w;
        magnitude += std::fabs(double{q[dim]}) * (std::fabs(m) + w);
        moved += std::fabs(m) + w;
        largest = std::max(largest, std::fabs(q[dim]));
      }
      best.first = std::max(best.first, score);
      best.second = std::max(best.second,
                             moved * double{StepOfInt16(largest).step} / 2 + magnitude * 0x1p-22);
    }
    return best;
  }
  // Scales 1, steps -4 .. 4, whole q: every sum is exact.
  void MakeWhole() {
    const uint64_t bytes =
        device::SummaryGroupBytes(shape_.head_dim, ScorerHasSpread(shape_.scorer));
    for (const NodeGroup& group : groups_) {
      std::byte* data = device::SummaryGroupAddress(store_.level(0), bytes, group.index);
      std::fill_n(reinterpret_cast<float*>(data), 2 * kFanOut, 1.0F);
      auto* steps = reinterpret_cast<int8_t*>(data + 2 * kFanOut * sizeof(float));
      for (uint64_t i = 0; i < bytes - 2 * kFanOut * sizeof(float); ++i) {
        steps[i] = static_cast<int8_t>(static_cast<int>(random_.Below(9)) - 4);
      }
    }
    for (float& x : q_) {
      x = static_cast<float>(random_.Below(9)) - 4;
    }
  }

 private:
  // One vector per node: its scale stands twice (device/params.h).
  void RepeatScales(uint32_t num_groups) {
    const uint64_t bytes = device::SummaryGroupBytes(shape_.head_dim, false);
    for (uint32_t group = 0; group < num_groups; ++group) {
      auto* scales =
          reinterpret_cast<float*>(device::SummaryGroupAddress(store_.level(0), bytes, group));
      std::copy_n(scales, kFanOut, scales + kFanOut);
    }
  }

  ScoreShape shape_;
  Random random_;
  SummaryStore store_;
  uint64_t row_stride_;
  std::vector<float> q_;
  std::vector<NodeGroup> groups_;
};

class ScoreNodes : public OpTableTest {
 protected:
  static void Run(const device::OpTable& table,
                  const ScoreShape& shape,
                  const std::vector<ScoreJob>& jobs,
                  unsigned num_threads = 1) {
    ScoreParams params = {};
    params.jobs = jobs.data();
    params.num_jobs = static_cast<uint32_t>(jobs.size());
    params.head_dim = shape.head_dim;
    params.has_spread = ScorerHasSpread(shape.scorer) ? 1 : 0;
    table.score_nodes(context(num_threads), params);
  }
  void Check(const ScoreShape& shape, uint32_t num_groups, bool whole) {
    SCOPED_TRACE(::testing::Message()
                 << "head_dim " << shape.head_dim << " scorer " << static_cast<int>(shape.scorer)
                 << " rows " << shape.num_rows << " group " << shape.group);
    ScoreCase search(shape, num_groups, shape.head_dim + shape.group);
    if (whole) {
      search.MakeWhole();
    }
    std::vector<float> got;
    std::vector<float> want;
    Run(table(), shape, {search.Job(&got)});
    Run(reference(), shape, {search.Job(&want)});
    EXPECT_TRUE(SameBits(got, want));
  }
};
HIPATTN_FOR_ALL_TABLES(ScoreNodes);

TEST_P(ScoreNodes, EveryHeadDimAndGroup) {
  for (const uint32_t head_dim : {8U, 16U, 40U, 64U, 72U, 80U, 96U, 128U, 256U}) {
    for (const uint32_t group : {1U, 2U, 3U, 4U, 5U, 6U, 7U, 8U, 9U}) {
      const Scorer scorer = (head_dim / 8 + group) % 2 == 0 ? Scorer::kMean : Scorer::kCuboidMean;
      Check({head_dim, scorer, 1, group}, 1 + head_dim / 4 + group, false);
    }
  }
}

TEST_P(ScoreNodes, ManyRows) {
  for (const Scorer scorer : {Scorer::kRepresentative, Scorer::kBounds}) {
    Check({64, scorer, 64, 3}, 20, false);
    Check({128, scorer, 5, 4}, 150, false);
    Check({80, scorer, 3, 1}, 70, false);
  }
}

TEST_P(ScoreNodes, WholeNumbersAreExact) {
  for (const Scorer scorer : {Scorer::kMean, Scorer::kCuboidMean}) {
    Check({64, scorer, 1, 3}, 100, true);
    Check({256, scorer, 3, 8}, 10, true);
  }
}

TEST_P(ScoreNodes, RoundingOfTheQueryIsBounded) {
  const ScoreShape shape = {128, Scorer::kCuboidMean, 2, 3};
  ScoreCase search(shape, 60, 5);
  std::vector<float> got;
  const ScoreJob job = search.Job(&got);
  Run(table(), shape, {job});
  for (uint32_t i = 0; i < job.num_groups; ++i) {
    for (uint32_t child = 0; child < kFanOut; ++child) {
      if ((job.groups[i].mask >> child & 1U) != 0) {
        const auto [want, bound] = search.TrueScore(i, child);
        ASSERT_NEAR(got[i * kFanOut + child], want, bound) << i << ", " << child;
        ASSERT_LT(bound, 1e-3 * std::fabs(want) + 0.02) << "a bound that says something";
      }
    }
  }
}

// Queries behind one another in memory: what lies between the rows is never read.
TEST_P(ScoreNodes, BitsDependOnTheJobAlone) {
  const ScoreShape shape = {64, Scorer::kCuboidMean, 2, 3};
  std::vector<std::unique_ptr<ScoreCase>> searches;
  std::vector<std::vector<float>> want(5);
  std::vector<ScoreJob> jobs;
  for (uint32_t i = 0; i < want.size(); ++i) {
    searches.push_back(std::make_unique<ScoreCase>(shape, 1 + 63 * i, i));
    jobs.push_back(searches[i]->Job(&want[i]));
  }
  jobs.push_back(jobs[0]);
  jobs.back().num_groups = 0;
  Run(table(), shape, jobs);
  for (const unsigned num_threads : {1U, 2U, 5U}) {
    std::vector<std::vector<float>> got(want.size());
    std::vector<ScoreJob> again;
    for (uint32_t i = 0; i < want.size(); ++i) {
      std::vector<float>& q = searches[i]->q();
      std::fill_n(q.begin() + 3 * 64, 24, std::nanf(""));
      again.push_back(searches[i]->Job(&got[i]));
    }
    Run(table(), shape, again, num_threads);
    for (uint32_t i = 0; i < want.size(); ++i) {
      EXPECT_TRUE(SameBits(got[i], want[i]));
      Run(table(), shape, {searches[i]->Job(&got[i])}, num_threads);
      EXPECT_TRUE(SameBits(got[i], want[i]));
    }
  }
}

}  // namespace
}  // namespace hipattn::testing
