// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// merge_states against the reference (SPEC D4).
#include "tests/support/compare.h"
#include "tests/support/kv_fixture.h"
#include "tests/support/op_tables.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <vector>

namespace hipattn::testing {
namespace {

constexpr float kAbsent = -std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct States {
  uint32_t head_dim = 0;
  std::vector<float> o_a, lse_a, o_b, lse_b;
};

States RandomStates(uint32_t num_rows, uint32_t head_dim, uint64_t seed) {
  Random random(seed);
  const size_t size = size_t{num_rows} * head_dim;
  States states{head_dim,
                random.Normals(size),
                random.Normals(num_rows),
                random.Normals(size),
                random.Normals(num_rows)};
  for (uint32_t row = 0; row < num_rows; ++row) {  // from equal shares to none at all
    states.lse_b[row] = states.lse_a[row] + 30 * states.lse_b[row] * static_cast<float>(row % 4);
  }
  return states;
}

struct Merged {
  std::vector<float> o, lse;
};

Merged Merge(const device::OpTable& table, const device::OpContext& context, const States& states) {
  Merged merged{std::vector<float>(states.o_a.size(), kNan),
                std::vector<float>(states.lse_a.size(), kNan)};
  table.merge_states(context,
                     {states.lse_a.size(),
                      states.head_dim,
                      states.o_a.data(),
                      states.lse_a.data(),
                      states.o_b.data(),
                      states.lse_b.data(),
                      merged.o.data(),
                      merged.lse.data()});
  return merged;
}

class MergeStates : public OpTableTest {};

// Weights are rounded differences (|difference| u, where the weight still counts: at most 17 u of
// the sum) and exponentials of 2 ulp (4 u); two products, a sum and a division add 4 u: 32 u of
// |o_a| + |o_b| <= 10 covers them.
TEST_P(MergeStates, MatchesReference) {
  const double u = Roundoff(DType::kF32);
  for (const uint32_t head_dim : {8U, 64U, 80U, 96U, 128U, 256U}) {
    for (const uint32_t num_rows : {0U, 1U, 7U, 16U, 17U, 600U}) {
      const States states = RandomStates(num_rows, head_dim, num_rows + head_dim);
      const Merged got = Merge(table(), context(2), states);
      const Merged want = Merge(reference(), context(), states);
      EXPECT_TRUE(Near(got.o, want.o, {10 * 32 * u, 32 * u})) << head_dim << " " << num_rows;
      EXPECT_TRUE(Near(got.lse, want.lse, {32 * u, 4 * u})) << head_dim << " " << num_rows;
    }
  }
}

TEST_P(MergeStates, AbsentSideChangesNothing) {
  for (const uint32_t head_dim : {8U, 64U, 80U}) {
    States states = RandomStates(40, head_dim, 5);
    for (uint32_t row = 0; row < 40; ++row) {
      const bool a_is_absent = row % 4 == 1 || row % 4 == 3;
      const bool b_is_absent = row % 4 == 2 || row % 4 == 3;
      if (a_is_absent) {
        states.lse_a[row] = kAbsent;
        std::fill_n(&states.o_a[row * head_dim], head_dim, kNan);
      }
      if (b_is_absent) {
        states.lse_b[row] = kAbsent;
        std::fill_n(&states.o_b[row * head_dim], head_dim, kNan);
      }
    }
    const Merged got = Merge(table(), context(), states);
    for (uint32_t row = 0; row < 40; ++row) {
      std::vector<float> want(head_dim, 0.0F);
      float want_lse = kAbsent;
      if (row % 4 == 0) {
        continue;
      }
      if (row % 4 != 3) {
        const std::vector<float>& side = row % 4 == 1 ? states.o_b : states.o_a;
        want.assign(&side[row * head_dim], &side[row * head_dim] + head_dim);
        want_lse = row % 4 == 1 ? states.lse_b[row] : states.lse_a[row];
      }
      EXPECT_TRUE(SameBits({&got.o[row * head_dim], head_dim}, std::span<const float>(want)));
      EXPECT_EQ(got.lse[row], want_lse);
    }
  }
}

TEST_P(MergeStates, OutputMayBeSideA) {
  States states = RandomStates(37, 64, 6);
  states.lse_b[3] = kAbsent;
  states.lse_a[4] = kAbsent;
  const Merged want = Merge(table(), context(), states);
  table().merge_states(context(),
                       {37,
                        64,
                        states.o_a.data(),
                        states.lse_a.data(),
                        states.o_b.data(),
                        states.lse_b.data(),
                        states.o_a.data(),
                        states.lse_a.data()});
  EXPECT_TRUE(SameBits(states.o_a, want.o));
  EXPECT_TRUE(SameBits(states.lse_a, want.lse));
}

TEST_P(MergeStates, BitsDoNotDependOnThreads) {
  const States states = RandomStates(3000, 64, 7);
  const Merged want = Merge(table(), context(1), states);
  for (const unsigned num_threads : {2U, 5U}) {
    const Merged got = Merge(table(), context(num_threads), states);
    EXPECT_TRUE(SameBits(got.o, want.o));
    EXPECT_TRUE(SameBits(got.lse, want.lse));
  }
}

HIPATTN_FOR_ALL_TABLES(MergeStates);

}  // namespace
}  // namespace hipattn::testing
