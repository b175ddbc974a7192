// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// score_nodes of every table against the f64 reference.
//
// Bound. u = 2^-24. A score sums 2 head_dim products (head_dim without spread) |q_d| scale 127 <=
// |q_d| 1.5 with partial sums up to sum |q_d| * 1.5, at most 310 for 256 draws of deviation 1; the
// running error bound of a sum is (number of terms) u (largest partial sum), the usual error its
// square root: sqrt(512) u 310 = 4e-4. q that are small whole numbers, with scales that are powers
// of two, must come out exact, so that ties are ties (SPEC D10).
#include "tests/support/compare.h"
#include "tests/support/kv_fixture.h"
#include "tests/support/op_tables.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
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
  void Check(const ScoreShape& shape, uint32_t num_groups, bool whole, Bound bound) {
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
    EXPECT_TRUE(Near(got, want, bound));
  }
};
HIPATTN_FOR_ALL_TABLES(ScoreNodes);

TEST_P(ScoreNodes, EveryHeadDimAndGroup) {
  for (const uint32_t head_dim : {8U, 16U, 40U, 64U, 72U, 80U, 96U, 128U, 256U}) {
    for (const uint32_t group : {1U, 2U, 3U, 4U, 5U, 6U, 7U, 8U, 9U}) {
      const Scorer scorer = (head_dim / 8 + group) % 2 == 0 ? Scorer::kMean : Scorer::kCuboidMean;
      Check({head_dim, scorer, 1, group}, 1 + head_dim / 4 + group, false, {4e-4, 0});
    }
  }
}

TEST_P(ScoreNodes, ManyRows) {
  for (const Scorer scorer : {Scorer::kRepresentative, Scorer::kBounds}) {
    Check({64, scorer, 64, 3}, 20, false, {4e-4, 0});
    Check({128, scorer, 5, 4}, 150, false, {4e-4, 0});
    Check({80, scorer, 3, 1}, 70, false, {4e-4, 0});
  }
}

TEST_P(ScoreNodes, WholeNumbersAreExact) {
  for (const Scorer scorer : {Scorer::kMean, Scorer::kCuboidMean}) {
    Check({64, scorer, 1, 3}, 100, true, {});
    Check({256, scorer, 3, 8}, 10, true, {});
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
