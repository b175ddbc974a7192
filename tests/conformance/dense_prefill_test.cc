// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// dense_prefill against the reference, and the independence of a row's bits from chunk, tile,
// threads, batch and everything behind its position.
#include "base/status.h"
#include "tests/support/attention_bound.h"
#include "tests/support/compare.h"
#include "tests/support/kv_fixture.h"
#include "tests/support/op_tables.h"

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

// Attention of all rows of a text, or of some: row r's query is the same whichever chunk it comes
// in.
struct Case {
  Case(const KvShape& kv_shape, uint32_t num_heads, uint32_t num_tokens, uint64_t seed = 1)
      : shape(kv_shape),
        group(num_heads),
        pool(shape, BlocksFor(num_tokens, shape.block_tokens) + 1, seed),
        text(pool.MakeText(num_tokens)),
        row_stride(uint64_t{num_heads} * shape.head_dim + 8),
        scale(1.0F / std::sqrt(static_cast<float>(shape.head_dim))),
        q(pool.random().Normals(num_tokens * row_stride)) {}

  // Rows [begin, end), out and lse of the others NaN.
  Outputs Run(const device::OpTable& table,
              const device::OpContext& context,
              uint32_t begin,
              uint32_t end) const {
    return RunChunks(table, context, {begin, end});
  }

  // Chunks [cuts[0], cuts[1]), [cuts[1], cuts[2]), ..., one call each.
  Outputs RunChunks(const device::OpTable& table,
                    const device::OpContext& context,
                    const std::vector<uint32_t>& cuts) const {
    std::vector<std::byte> out(text.num_tokens * row_stride * DTypeBytes(out_dtype),
                               std::byte{0xff});
    Outputs outputs;
    outputs.lse.assign(size_t{text.num_tokens} * (group + 1), kNan);
    for (size_t i = 0; i + 1 < cuts.size(); ++i) {
      const device::PrefillJob job = Job(cuts[i], cuts[i + 1], out.data(), outputs.lse.data());
      table.dense_prefill(context, Params(&job, 1));
    }
    outputs.out = Widen(out.data(), out_dtype, text.num_tokens * row_stride);
    return outputs;
  }

  // The rows [begin, end) in one chunk, their keys cut at `cuts`, one call for each part.
  Outputs RunParts(const device::OpTable& table,
                   const device::OpContext& context,
                   uint32_t begin,
                   uint32_t end,
                   const std::vector<uint32_t>& cuts) const {
    std::vector<std::byte> out(text.num_tokens * row_stride * DTypeBytes(out_dtype),
                               std::byte{0xff});
    Outputs outputs;
    outputs.lse.assign(size_t{text.num_tokens} * (group + 1), kNan);
    const uint64_t floats = device::PrefillStateFloats(end - begin, group, shape.head_dim);
    AlignedBytes state(floats * sizeof(float));
    std::memset(state.data(), 0xff, state.size());
    for (size_t i = 0; i <= cuts.size(); ++i) {
      device::PrefillJob job = Job(begin, end, out.data(), outputs.lse.data());
      job.state = state.floats();
      job.key_begin = i == 0 ? 0 : cuts[i - 1];
      job.key_end = i < cuts.size() ? cuts[i] : end;
      table.dense_prefill(context, Params(&job, 1));
    }
    outputs.out = Widen(out.data(), out_dtype, text.num_tokens * row_stride);
    return outputs;
  }

  device::PrefillJob Job(uint32_t begin, uint32_t end, std::byte* out, float* lse) const {
    return {text.slots.data(),
            q.data() + begin * row_stride,
            out + begin * row_stride * DTypeBytes(out_dtype),
            lse + size_t{begin} * (group + 1),
            begin,
            end - begin};
  }
  device::PrefillParams Params(const device::PrefillJob* jobs, uint32_t num_jobs) const {
    return {pool.pool(),
            jobs,
            num_jobs,
            group,
            row_stride,
            row_stride,
            group + 1U,
            scale,
            softcap,
            out_dtype};
  }

  // Normal numbers: |q_i k_i| sum to less than 2 d, |v| < 6.
  AttentionSize Size() const {
    return {
        shape.head_dim, 2.0 * shape.head_dim * scale, 6, softcap, 128, text.num_tokens / 64 + 1};
  }

  KvShape shape;
  uint32_t group;
  KvPool pool;
  Text text;
  uint64_t row_stride;
  float scale;
  float softcap = 0;
  DType out_dtype = DType::kF32;
  std::vector<float> q;
};

class DensePrefill : public OpTableTest {
 protected:
  void CheckAgainstReference(const Case& test, uint32_t begin, uint32_t end) const {
    const Outputs want = test.Run(reference(), context(), begin, end);
    const Outputs got = test.Run(table(), context(2), begin, end);
    EXPECT_TRUE(Near(got.out, want.out, OutBound(test.Size(), test.out_dtype)));
    EXPECT_TRUE(Near(got.lse, want.lse, LseBound(test.Size())));
  }
};

TEST_P(DensePrefill, AllShapesMatchReference) {
  for (const uint32_t head_dim : {8U, 64U, 72U, 80U, 96U, 128U, 136U, 256U}) {
    for (const uint32_t block_tokens : {16U, 32U, 64U}) {
      SCOPED_TRACE(StrCat("head_dim ", head_dim, ", blocks of ", block_tokens));
      CheckAgainstReference(Case({DType::kBf16, head_dim, block_tokens}, 3, 141), 0, 141);
    }
  }
}

TEST_P(DensePrefill, AllTypesMatchReference) {
  for (const DType kv_dtype : {DType::kF32, DType::kF16, DType::kBf16}) {
    for (const DType out_dtype : {DType::kF32, DType::kF16, DType::kBf16}) {
      SCOPED_TRACE(StrCat(DTypeName(kv_dtype), " to ", DTypeName(out_dtype)));
      Case test({kv_dtype, 64, 16}, 4, 200);
      test.out_dtype = out_dtype;
      CheckAgainstReference(test, 50, 200);
    }
  }
}

TEST_P(DensePrefill, AllLengthsMatchReference) {
  for (const uint32_t num_tokens :
       {1U, 2U, 7U, 15U, 16U, 17U, 63U, 64U, 65U, 127U, 128U, 129U, 700U}) {
    SCOPED_TRACE(StrCat("tokens ", num_tokens));
    CheckAgainstReference(Case({DType::kF32, 64, 16}, 1, num_tokens), 0, num_tokens);
  }
}

TEST_P(DensePrefill, AllGroupsMatchReference) {
  for (const uint32_t group : {1U, 2U, 3U, 5U, 8U, 13U, 16U, 71U}) {
    SCOPED_TRACE(StrCat("group ", group));
    CheckAgainstReference(Case({DType::kBf16, 128, 16}, group, 150), 133, 150);
  }
}

TEST_P(DensePrefill, SoftcapMatchesReference) {
  for (const float softcap : {0.5F, 30.0F}) {
    Case test({DType::kF16, 96, 16}, 3, 170);
    test.softcap = softcap;
    test.scale = 0.5F;
    CheckAgainstReference(test, 0, 170);
  }
}

// Scores up to +-600: all but one weight vanish, nothing overflows.
TEST_P(DensePrefill, LargeScoresMatchReference) {
  Case test({DType::kF32, 64, 16}, 3, 300);
  test.scale = 15;
  CheckAgainstReference(test, 0, 300);
}

TEST_P(DensePrefill, LseIsOptional) {
  const Case test({DType::kF32, 64, 16}, 3, 70);
  const Outputs want = test.Run(table(), context(), 0, 70);
  std::vector<std::byte> out(70 * test.row_stride * 4, std::byte{0xff});
  device::PrefillJob job = test.Job(0, 70, out.data(), nullptr);
  job.lse = nullptr;
  table().dense_prefill(context(), test.Params(&job, 1));
  EXPECT_TRUE(SameBits(Widen(out.data(), DType::kF32, 70 * test.row_stride), want.out));
}

TEST_P(DensePrefill, NoRows) {
  const Case test({DType::kF32, 64, 16}, 3, 70);
  const Outputs got = test.Run(table(), context(), 70, 70);
  EXPECT_TRUE(std::all_of(got.out.begin(), got.out.end(), [](float x) { return std::isnan(x); }));
}

TEST_P(DensePrefill, BitsDoNotDependOnChunks) {
  for (const uint32_t head_dim : {64U, 80U, 256U}) {
    const Case test({DType::kBf16, head_dim, 16}, 3, 421);
    const Outputs want = test.Run(table(), context(), 0, 421);
    for (const std::vector<uint32_t>& cuts : std::vector<std::vector<uint32_t>>{
             {0, 1, 2, 3, 64, 65, 421}, {0, 128, 256, 384, 421}, {0, 100, 129, 300, 420, 421}}) {
      const Outputs got = test.RunChunks(table(), context(2), cuts);
      EXPECT_TRUE(SameBits(got.out, want.out));
      EXPECT_TRUE(SameBits(got.lse, want.lse));
    }
    std::vector<uint32_t> ones(422);
    for (uint32_t i = 0; i < ones.size(); ++i) {
      ones[i] = i;
    }
    EXPECT_TRUE(SameBits(test.RunChunks(table(), context(), ones).out, want.out));
  }
}

TEST_P(DensePrefill, PartsGiveTheBitsOfTheWhole) {
  for (const uint32_t head_dim : {8U, 64U, 80U, 256U}) {
    for (const uint32_t begin : {0U, 130U, 640U}) {
      Case test({DType::kBf16, head_dim, 16}, 3, 777);
      test.softcap = begin == 130 ? 20.0F : 0.0F;
      test.out_dtype = head_dim == 64 ? DType::kF16 : DType::kF32;
      const Outputs want = test.Run(table(), context(2), begin, 777);
      for (const std::vector<uint32_t>& cuts : std::vector<std::vector<uint32_t>>{
               {128}, {640}, {256, 384}, {128, 256, 384, 512, 768}}) {
        if (&table() == &reference()) {  // whose parts are merged in f64
          break;
        }
        const Outputs got = test.RunParts(table(), context(2), begin, 777, cuts);
        EXPECT_TRUE(SameBits(got.out, want.out));
        EXPECT_TRUE(SameBits(got.lse, want.lse));
      }
      const Outputs reference_got = test.RunParts(reference(), context(), begin, 777, {128, 512});
      EXPECT_TRUE(Near(reference_got.out, want.out, OutBound(test.Size(), test.out_dtype)));
      EXPECT_TRUE(Near(reference_got.lse, want.lse, LseBound(test.Size())));
    }
  }
}

TEST_P(DensePrefill, BitsDoNotDependOnThreadsNorBatch) {
  const Case test({DType::kF32, 64, 32}, 5, 500);
  const Outputs want = test.Run(table(), context(1), 0, 500);
  for (const unsigned num_threads : {2U, 5U}) {
    EXPECT_TRUE(SameBits(test.Run(table(), context(num_threads), 0, 500).out, want.out));
  }
  // The same rows as three jobs of different lengths, together.
  std::vector<std::byte> out(500 * test.row_stride * 4, std::byte{0xff});
  std::vector<float> lse(want.lse.size(), kNan);
  const device::PrefillJob jobs[] = {test.Job(0, 200, out.data(), lse.data()),
                                     test.Job(200, 201, out.data(), lse.data()),
                                     test.Job(201, 500, out.data(), lse.data())};
  table().dense_prefill(context(5), test.Params(jobs, 3));
  EXPECT_TRUE(SameBits(Widen(out.data(), DType::kF32, 500 * test.row_stride), want.out));
  EXPECT_TRUE(SameBits(lse, want.lse));
}

// Each row in turn is the last one whose future has been overwritten by numbers that would show.
TEST_P(DensePrefill, WhatComesAfterARowChangesNothing) {
  for (const float poison : {kNan, std::numeric_limits<float>::infinity(), 1e30F}) {
    Case test({DType::kF32, 64, 16}, 3, 290);
    const Outputs want = test.Run(table(), context(), 0, 290);
    const std::vector<float> bad(64, poison);
    for (uint32_t token = 289; token > 120; token -= 13) {
      for (uint32_t later = token; later < 290; ++later) {
        test.pool.SetToken(test.text.slots[later / 16], later % 16, bad.data(), bad.data());
      }
      const Outputs got = test.Run(table(), context(), 0, 290);
      const size_t size = token * test.row_stride;
      EXPECT_TRUE(SameBits(std::span<const float>(got.out).first(size),
                           std::span<const float>(want.out).first(size)))
          << "from token " << token;
    }
  }
}

HIPATTN_FOR_ALL_TABLES(DensePrefill);

}  // namespace
}  // namespace hipattn::testing
