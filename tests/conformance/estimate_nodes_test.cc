// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// estimate_nodes of every table against the f64 reference.
//
// Bound. u = 2^-24. The exponent scale q.m + scale^2 / 2 sum q^2 w^2 sums head_dim products each,
// with partial sums up to 20 here (scale 1/sqrt(head_dim), |m|, |w| <= 1.5 and q of deviation 1),
// so its error is below sqrt(2 head_dim) u 20 = 3e-5 at head_dim 256; the log of a sum moves by no
// more than the exponents do, and the running sums add less than 1e-6.
#include "tests/support/compare.h"
#include "tests/support/kv_fixture.h"
#include "tests/support/op_tables.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <vector>

namespace hipattn::testing {
namespace {

using device::EstimateJob;
using device::EstimateParams;

struct EstimateShape {
  uint32_t head_dim;
  uint32_t group;
  float softcap;
};

class EstimateCase {
 public:
  EstimateCase(const EstimateShape& shape, uint32_t num_groups, uint64_t seed)
      : random_(seed),
        store_({DType::kF32, shape.head_dim, 16}, Scorer::kCuboidMean, 16 * num_groups + 8),
        q_(random_.Normals(size_t{shape.group} * shape.head_dim)),
        group_(shape.group) {
    store_.FillRandom(&random_);
    for (uint32_t i = 0; i < num_groups; ++i) {
      const uint32_t kind = random_.Below(8);
      groups_.push_back({2 * i + random_.Below(2),
                         kind == 0   ? 0
                         : kind == 1 ? random_.Below(256)
                                     : 0xff});
      for (uint32_t child = 0; child < kFanOut; ++child) {
        tokens_.push_back(random_.Below(4) == 0 ? 0.0F
                                                : 1.0F + static_cast<float>(random_.Below(1024)));
      }
    }
  }
  EstimateJob Job(std::vector<float>* log_mass) const {
    log_mass->assign(group_, std::nanf(""));
    EstimateJob job = {};
    job.level = store_.level(0);
    job.groups = groups_.data();
    job.tokens = tokens_.data();
    job.num_groups = static_cast<uint32_t>(groups_.size());
    job.q = q_.data();
    job.log_mass = log_mass->data();
    return job;
  }
  std::vector<float>& tokens() { return tokens_; }

 private:
  Random random_;
  SummaryStore store_;
  std::vector<float> q_;
  uint32_t group_;
  std::vector<NodeGroup> groups_;
  std::vector<float> tokens_;
};

class EstimateNodes : public OpTableTest {
 protected:
  static void Run(const device::OpTable& table,
                  const EstimateShape& shape,
                  const std::vector<EstimateJob>& jobs,
                  unsigned num_threads = 1) {
    EstimateParams params = {};
    params.jobs = jobs.data();
    params.num_jobs = static_cast<uint32_t>(jobs.size());
    params.head_dim = shape.head_dim;
    params.group = shape.group;
    params.scale = 1 / std::sqrt(static_cast<float>(shape.head_dim));
    params.softcap = shape.softcap;
    table.estimate_nodes(context(num_threads), params);
  }
};
HIPATTN_FOR_ALL_TABLES(EstimateNodes);

TEST_P(EstimateNodes, EveryHeadDimAndGroup) {
  for (const uint32_t head_dim : {8U, 16U, 40U, 64U, 72U, 80U, 96U, 128U, 256U}) {
    for (const uint32_t group : {1U, 2U, 3U, 4U, 5U, 7U, 8U, 9U}) {
      SCOPED_TRACE(::testing::Message() << "head_dim " << head_dim << " group " << group);
      const EstimateShape shape = {head_dim, group, group % 3 == 0 ? 5.0F : 0.0F};
      const EstimateCase search(shape, 1 + head_dim, head_dim + group);
      std::vector<float> got;
      std::vector<float> want;
      Run(table(), shape, {search.Job(&got)});
      Run(reference(), shape, {search.Job(&want)});
      EXPECT_TRUE(Near(got, want, {4e-5, 0}));
    }
  }
}

TEST_P(EstimateNodes, NothingPrunedIsMinusInfinity) {
  const EstimateShape shape = {64, 3, 0};
  EstimateCase search(shape, 40, 1);
  std::fill(search.tokens().begin(), search.tokens().end(), 0.0F);
  std::vector<float> left_out;
  std::vector<float> empty;
  EstimateJob none = search.Job(&empty);
  none.num_groups = 0;
  Run(table(), shape, {search.Job(&left_out), none});
  const std::vector<float> want(3, -std::numeric_limits<float>::infinity());
  EXPECT_EQ(left_out, want);
  EXPECT_EQ(empty, want);
}

TEST_P(EstimateNodes, BitsDependOnTheJobAlone) {
  const EstimateShape shape = {64, 5, 0};
  std::vector<std::unique_ptr<EstimateCase>> searches;
  std::vector<std::vector<float>> want(4);
  for (uint32_t i = 0; i < want.size(); ++i) {
    searches.push_back(std::make_unique<EstimateCase>(shape, 1 + 50 * i, i));
    Run(table(), shape, {searches[i]->Job(&want[i])});
  }
  for (const unsigned num_threads : {1U, 2U, 5U}) {
    std::vector<std::vector<float>> got(want.size());
    std::vector<EstimateJob> jobs;
    for (uint32_t i = 0; i < want.size(); ++i) {
      jobs.push_back(searches[i]->Job(&got[i]));
    }
    Run(table(), shape, jobs, num_threads);
    for (uint32_t i = 0; i < want.size(); ++i) {
      EXPECT_TRUE(SameBits(got[i], want[i]));
    }
  }
}

}  // namespace
}  // namespace hipattn::testing
