// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// attend_rotated against the reference (SPEC D24), and its independence of threads, batch and
// tokens outside its ranges.
#include "base/status.h"
#include "tests/support/attention_bound.h"
#include "tests/support/compare.h"
#include "tests/support/kv_fixture.h"
#include "tests/support/op_tables.h"
#include "tests/support/rope_fixture.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace hipattn::testing {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Outputs {
  std::vector<float> out, lse;
};

struct Case {
  Case(const KvShape& kv_shape, uint32_t num_heads, uint32_t num_ranges, const RopeKind& rope_kind)
      : shape(kv_shape),
        group(num_heads),
        kind(rope_kind),
        pool(shape, 24, 9),
        text(pool.MakeText(20 * shape.block_tokens - 5)),
        ranges(RandomRanges(text, shape.block_tokens, num_ranges, &pool.random())),
        q(pool.random().Normals(size_t{group} * shape.head_dim)),
        scale(1.0F / std::sqrt(static_cast<float>(shape.head_dim))) {
    for (size_t i = 0; i < ranges.size(); ++i) {
      positions.push_back(static_cast<int64_t>(pool.random().Below(100'000)) - 20);
    }
    if (!positions.empty()) {
      positions.front() = -7;  // some tokens before 0, which stay at 0
    }
  }

  // The same job `copies` times in one call; the last one's outputs.
  Outputs Run(const device::OpTable& table,
              const device::OpContext& context,
              uint32_t copies = 1) const {
    const size_t size = q.size();
    std::vector<std::byte> out(copies * size * DTypeBytes(out_dtype), std::byte{0xff});
    std::vector<float> lse(size_t{copies} * group);
    std::vector<device::RotatedJob> jobs;
    for (uint32_t i = 0; i < copies; ++i) {
      jobs.push_back({ranges.data(),
                      positions.data(),
                      static_cast<uint32_t>(ranges.size()),
                      77'777,
                      q.data(),
                      out.data() + i * size * DTypeBytes(out_dtype),
                      &lse[i * group]});
    }
    table.attend_rotated(
        context, {pool.pool(), kind.rope(), jobs.data(), copies, group, scale, softcap, out_dtype});
    const size_t last = (copies - 1) * size;
    return {Widen(out.data() + last * DTypeBytes(out_dtype), out_dtype, size),
            {lse.end() - group, lse.end()}};
  }

  // The list cut before the ranges `cuts`, one call for each part.
  Outputs RunParts(const device::OpTable& table,
                   const device::OpContext& context,
                   const std::vector<uint32_t>& cuts) const {
    std::vector<std::byte> out(q.size() * DTypeBytes(out_dtype), std::byte{0xff});
    std::vector<float> lse(group);
    std::vector<float> state(device::RotatedStateFloats(group, shape.head_dim), kNan);
    for (size_t i = 0; i <= cuts.size(); ++i) {
      const uint32_t begin = i == 0 ? 0 : cuts[i - 1];
      const uint32_t end = i < cuts.size() ? cuts[i] : static_cast<uint32_t>(ranges.size());
      const device::RotatedJob job = {ranges.data() + begin,
                                      positions.data() + begin,
                                      end - begin,
                                      77'777,
                                      q.data(),
                                      out.data(),
                                      lse.data(),
                                      state.data(),
                                      i > 0 ? 1U : 0U,
                                      i < cuts.size() ? 1U : 0U};
      table.attend_rotated(context,
                           {pool.pool(), kind.rope(), &job, 1, group, scale, softcap, out_dtype});
    }
    return {Widen(out.data(), out_dtype, q.size()), lse};
  }

  // Normal numbers: |q_i k_i| sum to less than 2 d, |v| < 6.
  AttentionSize Size() const {
    const auto num_ranges = static_cast<uint32_t>(ranges.size());
    return {shape.head_dim, 2.0 * shape.head_dim * scale, 6, softcap, 16, 4 * num_ranges};
  }

  KvShape shape;
  uint32_t group;
  RopeKind kind;
  KvPool pool;
  Text text;
  std::vector<device::KvRange> ranges;
  std::vector<int64_t> positions;
  std::vector<float> q;
  float scale;
  float softcap = 0;
  DType out_dtype = DType::kF32;
};

class AttendRotated : public OpTableTest {
 protected:
  void CheckAgainstReference(const Case& test) const {
    const Outputs want = test.Run(reference(), context());
    const Outputs got = test.Run(table(), context());
    EXPECT_TRUE(Near(got.out, want.out, OutBound(test.Size(), test.out_dtype)));
    EXPECT_TRUE(Near(got.lse, want.lse, LseBound(test.Size())));
  }
};

TEST_P(AttendRotated, AllShapesMatchReference) {
  for (const uint32_t head_dim : {8U, 64U, 80U, 96U, 128U, 256U}) {
    for (const uint32_t block_tokens : {16U, 32U, 64U}) {
      for (const RopeKind& kind : RopeKinds(head_dim)) {
        SCOPED_TRACE(StrCat("head_dim ", head_dim, ", mode ", kind.mode));
        CheckAgainstReference(Case({DType::kBf16, head_dim, block_tokens}, 3, 12, kind));
      }
    }
  }
}

TEST_P(AttendRotated, AllTypesAndGroupsMatchReference) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBf16}) {
    for (const uint32_t group : {1U, 4U, 16U, 37U}) {
      for (const float softcap : {0.0F, 5.0F}) {
        Case test({dtype, 64, 16}, group, 12, MakeRope(1, 64));
        test.softcap = softcap;
        test.out_dtype = dtype;
        CheckAgainstReference(test);
      }
    }
  }
}

TEST_P(AttendRotated, PartsGiveTheBitsOfTheWhole) {
  for (const uint32_t group : {1U, 3U, 17U}) {
    Case test({DType::kBf16, 80, 16}, group, 23, MakeRope(1, 80));
    test.out_dtype = group == 3 ? DType::kF16 : DType::kF32;
    const Outputs want = test.Run(table(), context());
    const auto all = static_cast<uint32_t>(test.ranges.size());
    for (const std::vector<uint32_t>& cuts : std::vector<std::vector<uint32_t>>{
             {1}, {all - 1}, {0, all / 3, all / 3, all}, {all / 4, all / 4 + 1, all / 2}}) {
      if (&table() != &reference()) {  // whose parts are merged in f64
        const Outputs got = test.RunParts(table(), context(2), cuts);
        EXPECT_TRUE(SameBits(got.out, want.out));
        EXPECT_TRUE(SameBits(got.lse, want.lse));
      }
      const Outputs reference_got = test.RunParts(reference(), context(), cuts);
      EXPECT_TRUE(Near(reference_got.out, want.out, OutBound(test.Size(), test.out_dtype)));
      EXPECT_TRUE(Near(reference_got.lse, want.lse, LseBound(test.Size())));
    }
  }
}

TEST_P(AttendRotated, EmptyListGivesZero) {
  const Case test({DType::kF32, 64, 16}, 2, 0, MakeRope(1, 64));
  const Outputs got = test.Run(table(), context());
  EXPECT_TRUE(SameBits(got.out, std::vector<float>(128, 0.0F)));
  EXPECT_TRUE(SameBits(got.lse, std::vector<float>(2, -std::numeric_limits<float>::infinity())));
}

TEST_P(AttendRotated, BitsDoNotDependOnThreadsNorBatch) {
  const Case test({DType::kBf16, 64, 32}, 3, 15, MakeRope(2, 64));
  const Outputs want = test.Run(table(), context(1));
  for (const unsigned num_threads : {1U, 2U, 5U}) {
    const Outputs got = test.Run(table(), context(num_threads), 7);
    EXPECT_TRUE(SameBits(got.out, want.out));
    EXPECT_TRUE(SameBits(got.lse, want.lse));
  }
}

TEST_P(AttendRotated, TokensOutsideTheRangesChangeNothing) {
  Case test({DType::kF32, 64, 16}, 3, 12, MakeRope(1, 64));
  const Outputs want = test.Run(table(), context());
  const std::vector<float> bad(64, std::numeric_limits<float>::quiet_NaN());
  for (uint32_t token = 0; token < test.text.num_tokens; ++token) {
    const uint32_t slot = test.text.slots[token / 16];
    const bool is_used =
        std::any_of(test.ranges.begin(), test.ranges.end(), [&](const device::KvRange& range) {
          return range.slot == slot && range.begin <= token % 16 && token % 16 < range.end;
        });
    if (!is_used) {
      test.pool.SetToken(slot, token % 16, bad.data(), bad.data());
    }
  }
  const Outputs got = test.Run(table(), context());
  EXPECT_TRUE(SameBits(got.out, want.out));
  EXPECT_TRUE(SameBits(got.lse, want.lse));
}

HIPATTN_FOR_ALL_TABLES(AttendRotated);

}  // namespace
}  // namespace hipattn::testing
