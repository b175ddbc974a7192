// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// HiP's prefill has two ways to attend what its searches selected: masks, and row by row where a kv
// head has many q heads. A group of 8 that is 4 heads twice selects what the 4 do, so both ways can
// be compared.
//
// Bound: both kernels are within 1e-5 of f64 for these texts (acceptance_test.cc), values below 4.
#include "tests/engine/engine_fixture.h"

#include <gtest/gtest.h>

namespace hipattn::test {
namespace {

constexpr double kBound = 4 * 2e-5;
constexpr uint32_t kSeed = 75;
constexpr uint32_t kFew = 4;
constexpr uint32_t kMany = 8;

Geometry GroupOf(uint32_t q_heads) {
  Geometry geometry;
  geometry.q_heads = q_heads;
  geometry.kv_heads = 1;
  return geometry;
}

hipattn_attention_options_t HipOptions(uint32_t delta_interval) {
  hipattn_attention_options_t options = SparseOptions(64, 16, 96);
  options.prefill_mode = HIPATTN_PREFILL_HIP;
  options.prefill_delta_interval = delta_interval;
  return options;
}

// Rows [begin, begin + count) of the text, its 4 heads as many times as they fit into q_heads.
Rows Repeated(uint32_t q_heads, uint64_t begin, uint64_t count) {
  const Geometry few = GroupOf(kFew);
  const Geometry geometry = GroupOf(q_heads);
  const Rows text = MakeRows(few, kSeed, 0, begin, count);
  Rows rows(geometry, count);
  std::copy_n(text.k.data(), text.k.size(), rows.k.data());
  std::copy_n(text.v.data(), text.v.size(), rows.v.data());
  for (uint64_t row = 0; row < count; ++row) {
    for (uint32_t h = 0; h < q_heads; ++h) {
      std::copy_n(text.q.data() + row * few.q_row() + h % kFew * few.head_dim,
                  few.head_dim,
                  rows.q.data() + row * geometry.q_row() + h * geometry.head_dim);
    }
  }
  return rows;
}

void ExpectBothWaysAgree(uint32_t delta_interval, uint64_t cut) {
  SCOPED_TRACE(::testing::Message() << "interval " << delta_interval << ", cut at " << cut);
  constexpr uint64_t kTokens = 1300;
  const auto options = HipOptions(delta_interval);
  Engine by_masks(EngineOptionsOf(GroupOf(kFew)));
  Engine by_rows(EngineOptionsOf(GroupOf(kMany)));
  Sequence few(by_masks, options);
  Sequence many(by_rows, options);
  for (const auto& [begin, end] : {std::pair(uint64_t{0}, cut), std::pair(cut, kTokens)}) {
    Rows want = Repeated(kFew, begin, end - begin);
    Rows got = Repeated(kMany, begin, end - begin);
    ASSERT_EQ(TryAttend(by_masks, few, 0, want, kPrefill), HIPATTN_OK);
    ASSERT_EQ(TryAttend(by_rows, many, 0, got, kPrefill), HIPATTN_OK);
    const uint32_t head_dim = GroupOf(kFew).head_dim;
    double most = 0.0;
    for (uint64_t i = 0; i < got.num_rows * kMany; ++i) {
      const uint64_t same = i / kMany * kFew + i % kFew;
      most = std::max(most, std::abs(double{got.lse.data()[i]} - want.lse.data()[same]));
      for (uint32_t dim = 0; dim < head_dim; ++dim) {
        most = std::max(most,
                        std::abs(double{got.out.data()[i * head_dim + dim]} -
                                 want.out.data()[same * head_dim + dim]));
      }
    }
    EXPECT_LE(most, kBound);
  }
}

TEST(HipPrefill, RowsAndMasksAttendTheSame) {
  ExpectBothWaysAgree(0, 640);
  ExpectBothWaysAgree(0, 701);
}

TEST(HipPrefill, AndAreCorrectedAlike) {
  ExpectBothWaysAgree(48, 701);
}

}  // namespace
}  // namespace hipattn::test
