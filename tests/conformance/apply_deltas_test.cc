// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// apply_deltas has the bits of the reference: every step is one f32 operation, rounded on its own.
#include "tests/support/compare.h"
#include "tests/support/kv_fixture.h"
#include "tests/support/op_tables.h"

#include <gtest/gtest.h>

#include <vector>

namespace hipattn::testing {
namespace {

constexpr uint32_t kHeads = 3;

// Rows of kHeads heads, and what dense attention gives to their anchors.
struct Case {
  uint32_t num_rows, head_dim;
  DType dtype;
  std::vector<uint32_t> anchors;
  std::vector<float> dense, deltas;  // [anchor][head][head_dim], [head][head_dim]
  std::vector<std::byte> out;        // [row][head][head_dim]
};

Case RandomCase(uint32_t num_rows, uint32_t head_dim, DType dtype, uint32_t interval) {
  Random random(num_rows + head_dim + interval);
  Case made{num_rows, head_dim, dtype, {}, {}, {}, {}};
  for (uint32_t row = interval / 2; row < num_rows; row += interval) {
    made.anchors.push_back(row);
  }
  const size_t width = size_t{kHeads} * head_dim;
  made.dense = random.Normals(made.anchors.size() * width);
  made.deltas = random.Normals(width);
  made.out = Narrow(random.Normals(num_rows * width), dtype);
  return made;
}

void Correct(const device::OpTable& table, const device::OpContext& context, Case* data) {
  const size_t width = size_t{kHeads} * data->head_dim;
  std::vector<device::DeltaJob> jobs;
  for (uint32_t h = 0; h < kHeads; ++h) {
    const size_t at = size_t{h} * data->head_dim;
    jobs.push_back({data->dense.data() + at,
                    data->out.data() + at * DTypeBytes(data->dtype),
                    data->deltas.data() + at});
  }
  table.apply_deltas(context,
                     {jobs.data(),
                      kHeads,
                      data->anchors.data(),
                      static_cast<uint32_t>(data->anchors.size()),
                      data->num_rows,
                      data->head_dim,
                      width,
                      width,
                      data->dtype});
}

class ApplyDeltas : public OpTableTest {};

TEST_P(ApplyDeltas, HasTheBitsOfTheReference) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBf16}) {
    for (const uint32_t head_dim : {8U, 64U, 80U, 256U}) {
      for (const uint32_t num_rows : {0U, 1U, 5U, 700U}) {
        for (const uint32_t interval : {1U, 4U, 2000U}) {
          const Case given = RandomCase(num_rows, head_dim, dtype, interval);
          Case want = given;
          Correct(reference(), context(), &want);
          for (const unsigned num_threads : {1U, 3U}) {
            Case got = given;
            Correct(table(), context(num_threads), &got);
            EXPECT_EQ(got.out, want.out) << head_dim << " " << num_rows << " " << interval;
            EXPECT_TRUE(SameBits(got.deltas, want.deltas));
          }
        }
      }
    }
  }
}

// What it is for, in numbers that f32 has exactly.
TEST_P(ApplyDeltas, RowsGainTheLastAnchorsDelta) {
  std::vector<float> out = {10, 20, 30, 40, 50};  // one number in each of 8 dimensions
  const std::vector<uint32_t> anchors = {1, 3};
  std::vector<float> rows, dense, delta(8, 5.0F);
  for (const float x : out) {
    rows.insert(rows.end(), 8, x);
  }
  for (const float x : {21.0F, 37.0F}) {
    dense.insert(dense.end(), 8, x);
  }
  const device::DeltaJob job = {dense.data(), rows.data(), delta.data()};
  table().apply_deltas(context(), {&job, 1, anchors.data(), 2, 5, 8, 8, 8, DType::kF32});
  const float want[] = {15, 21, 31, 37, 47};
  for (size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(rows[i], want[i / 8]) << i;
  }
  EXPECT_EQ(delta, std::vector<float>(8, -3.0F));
}

HIPATTN_FOR_ALL_TABLES(ApplyDeltas);

}  // namespace
}  // namespace hipattn::testing
