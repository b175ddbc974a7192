// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// load_q has the bits of the reference: angles are f64, and every f32 step is rounded on its own
// (SPEC D20).
#include "tests/support/compare.h"
#include "tests/support/kv_fixture.h"
#include "tests/support/op_tables.h"
#include "tests/support/rope_fixture.h"

#include <gtest/gtest.h>

#include <vector>

namespace hipattn::testing {
namespace {

class LoadQ : public OpTableTest {};

TEST_P(LoadQ, HasTheBitsOfTheReference) {
  constexpr uint32_t kHeads = 3;
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBf16}) {
    for (const uint32_t head_dim : {8U, 64U, 80U, 96U, 128U, 256U}) {
      for (const RopeKind& kind : RopeKinds(head_dim)) {
        for (const uint32_t num_rows : {0U, 1U, 3U, 130U}) {
          Random random(num_rows);
          const std::vector<float> numbers = random.Normals(size_t{num_rows} * kHeads * head_dim);
          const std::vector<std::byte> q = Narrow(numbers, dtype);
          std::vector<uint32_t> positions(num_rows);
          for (uint32_t& position : positions) {
            position = random.Below(2'000'000'000);
          }
          std::vector<float> want(numbers.size());
          device::LoadQParams params{q.data(),
                                     want.data(),
                                     positions.data(),
                                     kind.rope(),
                                     num_rows,
                                     kHeads,
                                     head_dim,
                                     dtype};
          reference().load_q(context(), params);
          for (const unsigned num_threads : {1U, 2U, 5U}) {
            std::vector<float> got(numbers.size());
            params.q_f32 = got.data();
            table().load_q(context(num_threads), params);
            EXPECT_TRUE(SameBits(got, want)) << head_dim << " " << kind.mode << " " << num_rows;
          }
        }
      }
    }
  }
}

HIPATTN_FOR_ALL_TABLES(LoadQ);

}  // namespace
}  // namespace hipattn::testing
