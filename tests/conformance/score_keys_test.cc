// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// score_keys against the reference, and its independence of threads and of what it must not read.
#include "tests/support/compare.h"
#include "tests/support/kv_fixture.h"
#include "tests/support/op_tables.h"
#include "tests/support/rope_fixture.h"

#include <gtest/gtest.h>

#include <vector>

namespace hipattn::testing {
namespace {

constexpr uint32_t kRows = 3;
constexpr uint32_t kTextTokens = 150;

// Two jobs over one text; the second has one token and one row.
struct Scored {
  std::vector<float> many, one;
};

struct Case {
  Case(const KvShape& shape, uint32_t group, const RopeKind& rope_kind)
      : pool(shape, 16, 3), text(pool.MakeText(kTextTokens)), num_heads(group), kind(rope_kind) {
    q = pool.random().Normals(size_t{kRows} * (group * shape.head_dim + 8));
    for (uint32_t i = 0; i < 70; ++i) {
      tokens.push_back(pool.random().Below(kTextTokens));
      key_pos.push_back(pool.random().Below(1'000'000));
    }
    for (uint32_t row = 0; row < kRows; ++row) {
      row_pos.push_back(pool.random().Below(1'000'000));
    }
  }

  Scored Run(const device::OpTable& table, const device::OpContext& context) const {
    const uint32_t head_dim = pool.pool().head_dim;
    const uint64_t stride = num_heads * head_dim + 8;
    const bool rotates = kind.mode != 0;
    Scored scored{std::vector<float>(tokens.size()), std::vector<float>(1)};
    const device::ScoreKeysJob jobs[] = {{text.slots.data(),
                                          tokens.data(),
                                          rotates ? key_pos.data() : nullptr,
                                          static_cast<uint32_t>(tokens.size()),
                                          {q.data(), stride, kRows, num_heads},
                                          rotates ? row_pos.data() : nullptr,
                                          scored.many.data()},
                                         {text.slots.data(),
                                          tokens.data(),
                                          rotates ? key_pos.data() : nullptr,
                                          1,
                                          {q.data(), stride, 1, num_heads},
                                          rotates ? row_pos.data() : nullptr,
                                          scored.one.data()}};
    table.score_keys(context, {pool.pool(), kind.rope(), jobs, 2});
    return scored;
  }

  KvPool pool;
  Text text;
  uint32_t num_heads;
  RopeKind kind;
  std::vector<float> q;
  std::vector<uint32_t> tokens, key_pos, row_pos;
};

class ScoreKeys : public OpTableTest {};

// A dot product of d terms is within d u sum |q_i k_i| of the exact one; rotated numbers are the
// same on both sides. With normal numbers sum |q_i k_i| <= 2 d.
TEST_P(ScoreKeys, MatchesReference) {
  for (const uint32_t head_dim : {8U, 64U, 80U, 96U, 128U, 256U}) {
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBf16}) {
      for (const RopeKind& kind : RopeKinds(head_dim)) {
        const Case test(
            {dtype, head_dim, head_dim == 80 ? 64U : 16U}, head_dim == 64 ? 16 : 3, kind);
        const Scored want = test.Run(reference(), context());
        for (const unsigned num_threads : {1U, 5U}) {
          const Scored got = test.Run(table(), context(num_threads));
          const double bound = 2.0 * head_dim * head_dim * Roundoff(DType::kF32);
          EXPECT_TRUE(Near(got.many, want.many, {bound, 0})) << head_dim << " " << kind.mode;
          EXPECT_TRUE(Near(got.one, want.one, {bound, 0})) << head_dim << " " << kind.mode;
        }
      }
    }
  }
}

// Whole numbers make every sum exact, so that ties are ties on every instruction set.
TEST_P(ScoreKeys, WholeNumbersAreExact) {
  Case test({DType::kBf16, 64, 16}, 3, {0, {}});
  std::vector<float> k(64);
  for (uint32_t token = 0; token < kTextTokens; ++token) {
    for (float& number : k) {
      number = static_cast<float>(test.pool.random().Below(17)) - 8;
    }
    test.pool.SetToken(test.text.slots[token / 16], token % 16, k.data(), k.data());
  }
  for (float& number : test.q) {
    number = static_cast<float>(test.pool.random().Below(17)) - 8;
  }
  EXPECT_TRUE(SameBits(test.Run(table(), context(2)).many, test.Run(reference(), context()).many));
}

TEST_P(ScoreKeys, BitsDoNotDependOnThreads) {
  const Case test({DType::kBf16, 128, 32}, 4, MakeRope(2, 64));
  const Scored want = test.Run(table(), context(1));
  for (const unsigned num_threads : {2U, 5U}) {
    EXPECT_TRUE(SameBits(test.Run(table(), context(num_threads)).many, want.many));
  }
}

HIPATTN_FOR_ALL_TABLES(ScoreKeys);

}  // namespace
}  // namespace hipattn::testing
