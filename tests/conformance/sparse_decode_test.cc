// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// sparse_decode of every table against the f64 reference, which reads the same stored numbers: so
// the bound does not depend on the storage type.
//
// Bound. u = 2^-24. A score is a sum of head_dim products whose partial sums stay near max|score|
// = 4 for these inputs (q, k of deviation 1, scale 1/sqrt(head_dim)); the roundings are
// independent, so their sum is about sqrt(head_dim) u 4 / 2, 4e-6 in the worst of 1e5 draws at
// head_dim 256. exp adds 2 ulp, the sums over at most 512 tokens in a piece and 8 pieces in a split
// another sqrt(512) u = 1.4e-6 of the largest |v|. Together less than 1e-5 of the largest |out| of
// the call, which is what issue 4 allows; a narrower out_dtype adds its own rounding. A table with
// dot products of bf16 may round the weights of bf16 V to bf16, for 5 heads and more: that moves
// out by at most 2^-9 of the largest |v|, below 5 for these inputs, and leaves lse alone.
#include "base/dtype.h"
#include "tests/support/compare.h"
#include "tests/support/kv_fixture.h"
#include "tests/support/op_tables.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <string_view>
#include <vector>

namespace hipattn::testing {
namespace {

using device::DecodeJob;
using device::DecodeParams;
using device::KvRange;

struct DecodeShape {
  KvShape kv;
  uint32_t group = 1;
  float softcap = 0;
  DType out_dtype = DType::kF32;
};

struct DecodeResult {
  std::vector<uint8_t> out;
  std::vector<float> lse;
};

// Jobs over one pool, with memory for their results.
class DecodeCall {
 public:
  DecodeCall(const DecodeShape& shape, const KvPool& pool) : shape_(shape), pool_(pool) {}

  void AddRanges(const std::vector<KvRange>& ranges, const std::vector<float>& q) {
    DecodeJob job = {};
    job.ranges = ranges.data();
    job.num_ranges = static_cast<uint32_t>(ranges.size());
    Add(job, q);
  }
  void AddText(const Text& text, const std::vector<float>& q) {
    DecodeJob job = {};
    job.slots = text.slots.data();
    job.num_ranges = static_cast<uint32_t>(text.slots.size());
    job.num_tokens = text.num_tokens;
    Add(job, q);
  }

  std::vector<DecodeResult> Run(const device::OpTable& table, const device::OpContext& context) {
    std::vector<DecodeResult> results(jobs_.size());
    uint64_t workspace_floats = 0;
    for (size_t i = 0; i < jobs_.size(); ++i) {
      const size_t count = size_t{shape_.group} * shape_.kv.head_dim;
      results[i].out.resize(count * DTypeBytes(shape_.out_dtype), uint8_t{0xff});
      results[i].lse.resize(shape_.group, std::nanf(""));
      jobs_[i].out = results[i].out.data();
      jobs_[i].lse = results[i].lse.data();
      workspace_floats +=
          device::DecodeWorkspaceFloats(jobs_[i].num_ranges, shape_.group, shape_.kv.head_dim);
    }
    AlignedBytes workspace((workspace_floats + 1) * sizeof(float));
    std::memset(workspace.data(), 0xff, workspace.size());
    DecodeParams params = {};
    params.pool = pool_.pool();
    params.jobs = jobs_.data();
    params.num_jobs = static_cast<uint32_t>(jobs_.size());
    params.group = shape_.group;
    params.scale = 1 / std::sqrt(static_cast<float>(shape_.kv.head_dim));
    params.softcap = shape_.softcap;
    params.out_dtype = shape_.out_dtype;
    params.workspace = workspace.floats();
    table.sparse_decode(context, params);
    return results;
  }

  void AddJob(DecodeJob job, const std::vector<float>& q) { Add(job, q); }

 private:
  void Add(DecodeJob job, const std::vector<float>& q) {
    job.q = q.data();
    jobs_.push_back(job);
  }

  DecodeShape shape_;
  const KvPool& pool_;
  std::vector<DecodeJob> jobs_;
};

float MaxAbs(const std::vector<float>& numbers) {
  float max = 0;
  for (const float x : numbers) {
    max = std::max(max, std::fabs(x));
  }
  return max;
}

void ExpectNear(const device::OpTable& table,
                const DecodeShape& shape,
                const DecodeResult& got,
                const DecodeResult& want) {
  const size_t count = size_t{shape.group} * shape.kv.head_dim;
  const std::vector<float> got_out = Widen(got.out.data(), shape.out_dtype, count);
  const std::vector<float> want_out = Widen(want.out.data(), shape.out_dtype, count);
  const double rounding = shape.out_dtype == DType::kF32 ? 0 : 2 * Roundoff(shape.out_dtype);
  const bool rounds_weights = std::string_view(table.name) == "avx512bf16" &&
                              shape.kv.dtype == DType::kBf16 && shape.group >= 5;
  const double absolute = 1e-5 * double{MaxAbs(want_out)} + (rounds_weights ? 0x1p-9 * 5 : 0);
  EXPECT_TRUE(Near(got_out, want_out, {absolute, rounding}));
  EXPECT_TRUE(Near(got.lse, want.lse, {1e-5, 1e-6}));
}

void ExpectSame(const DecodeResult& got, const DecodeResult& want) {
  EXPECT_TRUE(SameBits(got.out, want.out));
  EXPECT_TRUE(SameBits(got.lse, want.lse));
}

class SparseDecode : public OpTableTest {
 protected:
  // The whole text as a dense list and random ranges of it, against the reference.
  void CheckShape(const DecodeShape& shape, uint32_t num_tokens) {
    SCOPED_TRACE(::testing::Message()
                 << DTypeName(shape.kv.dtype) << " head_dim " << shape.kv.head_dim << " block "
                 << shape.kv.block_tokens << " group " << shape.group << " tokens " << num_tokens);
    KvPool pool(shape.kv, BlocksFor(num_tokens, shape.kv.block_tokens), num_tokens);
    const Text text = pool.MakeText(num_tokens);
    const std::vector<KvRange> ranges =
        RandomRanges(text, shape.kv.block_tokens, 1 + pool.random().Below(200), &pool.random());
    const auto q = pool.random().Normals(size_t{shape.group} * shape.kv.head_dim);
    DecodeCall call(shape, pool);
    call.AddText(text, q);
    call.AddRanges(ranges, q);
    const auto want = call.Run(reference(), context());
    const auto got = call.Run(table(), context());
    ExpectNear(table(), shape, got[0], want[0]);
    ExpectNear(table(), shape, got[1], want[1]);
  }
};
HIPATTN_FOR_ALL_TABLES(SparseDecode);

constexpr DType kDTypes[] = {DType::kF32, DType::kF16, DType::kBf16};

TEST_P(SparseDecode, EveryHeadDimAndGroup) {
  for (const uint32_t head_dim : {8U, 16U, 40U, 64U, 72U, 80U, 96U, 128U, 256U}) {
    for (const uint32_t group : {1U, 2U, 3U, 4U, 5U, 6U, 7U, 8U, 9U, 17U}) {
      const DType dtype = kDTypes[(head_dim / 8 + group) % 3];
      CheckShape({{dtype, head_dim, 16}, group}, 200 + head_dim + group);
    }
  }
}

TEST_P(SparseDecode, EveryTextLength) {
  for (const uint32_t num_tokens : {1U, 7U, 15U, 16U, 17U, 63U, 64U, 65U, 1024U, 1040U, 4097U}) {
    for (const DType dtype : kDTypes) {
      CheckShape({{dtype, 64, 16}, 3}, num_tokens);
      CheckShape({{dtype, 128, 32}, 4}, num_tokens);
      CheckShape({{dtype, 80, 64}, 8}, num_tokens);
      CheckShape({{dtype, 64, 16}, 6}, num_tokens);
    }
  }
}

TEST_P(SparseDecode, SoftcapAndOutputTypes) {
  for (const DType out_dtype : kDTypes) {
    CheckShape({{DType::kF32, 64, 16}, 3, 0.0F, out_dtype}, 1500);
    CheckShape({{DType::kF32, 72, 16}, 2, 1.5F, out_dtype}, 700);
    CheckShape({{DType::kBf16, 64, 16}, 4, 30.0F, out_dtype}, 700);
  }
}

// T27: slots of a pool of 11.25 million tokens for each of 8 kv heads, at the end of which 32-bit
// numbers of elements and bytes would have overflown.
TEST_P(SparseDecode, T27SlotsOfAPoolOfNinetyMillionTokens) {
  const DecodeShape shape = {{DType::kBf16, 128, 16}, 4};
  KvPool pool(shape.kv, 40, 27);
  Text text = pool.MakeText(600);
  std::vector<KvRange> ranges = RandomRanges(text, 16, 20, &pool.random());
  const auto q = pool.random().Normals(size_t{4} * 128);
  const auto run = [&] {
    DecodeCall call(shape, pool);
    call.AddText(text, q);
    call.AddRanges(ranges, q);
    return call.Run(table(), context());
  };
  const auto want = run();
  const uint32_t moved = pool.MoveBehind(11'250'000 / 16);  // slabs of 8 slots
  for (uint32_t& slot : text.slots) {
    slot += moved;
  }
  for (KvRange& range : ranges) {
    range.slot += moved;
  }
  const auto got = run();
  ExpectSame(got[0], want[0]);
  ExpectSame(got[1], want[1]);
}

// Scores up to a few hundred: one key takes nearly all weight, nothing overflows.
TEST_P(SparseDecode, LargeScores) {
  const DecodeShape shape = {{DType::kF32, 64, 16}, 2};
  KvPool pool(shape.kv, 70, 3);
  const Text text = pool.MakeText(1100);
  std::vector<float> q = pool.random().Normals(128);
  for (float& x : q) {
    x *= 50;
  }
  DecodeCall call(shape, pool);
  call.AddText(text, q);
  const DecodeResult want = call.Run(reference(), context())[0];
  const DecodeResult got = call.Run(table(), context())[0];
  // Scores are 50 times larger, and so are their errors.
  const auto got_out = Widen(got.out.data(), DType::kF32, 128);
  const auto want_out = Widen(want.out.data(), DType::kF32, 128);
  EXPECT_TRUE(Near(got_out, want_out, {50e-5 * double{MaxAbs(want_out)}, 0}));
  EXPECT_TRUE(Near(got.lse, want.lse, {0, 1e-5}));
}

TEST_P(SparseDecode, EmptyListGivesZeroAndMinusInfinity) {
  for (const DType out_dtype : kDTypes) {
    const DecodeShape shape = {{DType::kBf16, 72, 16}, 3, 0.0F, out_dtype};
    KvPool pool(shape.kv, 8, 1);
    const Text text = pool.MakeText(40);
    const std::vector<KvRange> none;
    const auto q = pool.random().Normals(size_t{shape.group} * shape.kv.head_dim);
    DecodeCall call(shape, pool);
    call.AddRanges(none, q);
    call.AddText(text, q);
    call.AddText({}, q);
    const auto got = call.Run(table(), context());
    for (const size_t empty : {size_t{0}, size_t{2}}) {
      EXPECT_EQ(got[empty].out, std::vector<uint8_t>(got[empty].out.size(), uint8_t{0}));
      EXPECT_EQ(got[empty].lse,
                std::vector<float>(shape.group, -std::numeric_limits<float>::infinity()));
    }
    ExpectNear(table(), shape, got[1], call.Run(reference(), context())[1]);
  }
}

// Unwritten space of the pool is NaN already; here written tokens outside the ranges become NaN.
TEST_P(SparseDecode, TokensOutsideTheRangesDoNotMatter) {
  for (const uint32_t block_tokens : {16U, 32U, 64U}) {
    for (const DType dtype : kDTypes) {
      const DecodeShape shape = {{dtype, 40, block_tokens}, 3 + block_tokens / 8};
      KvPool pool(shape.kv, 30, block_tokens);
      const Text text = pool.MakeText(29 * block_tokens + 5);
      const auto ranges = RandomRanges(text, block_tokens, 20, &pool.random());
      const auto q = pool.random().Normals(size_t{shape.group} * shape.kv.head_dim);
      DecodeCall call(shape, pool);
      call.AddRanges(ranges, q);
      const auto before = call.Run(table(), context());
      const std::vector<float> nan(shape.kv.head_dim, std::numeric_limits<float>::quiet_NaN());
      for (const KvRange& range : ranges) {
        for (uint32_t token = 0; token < block_tokens; ++token) {
          if (token < range.begin || token >= range.end) {
            pool.SetToken(range.slot, token, nan.data(), nan.data());
          }
        }
      }
      ExpectSame(call.Run(table(), context())[0], before[0]);
    }
  }
}

TEST_P(SparseDecode, BitsDependOnTheListAlone) {
  const DecodeShape shape = {{DType::kBf16, 64, 16}, 11};
  KvPool pool(shape.kv, 600, 5);
  std::vector<Text> texts;
  std::vector<std::vector<float>> queries;
  std::vector<std::vector<KvRange>> lists;
  for (const uint32_t num_tokens : {1U, 900U, 1024U, 1025U, 5000U}) {
    texts.push_back(pool.MakeText(num_tokens));
    queries.push_back(pool.random().Normals(size_t{shape.group} * shape.kv.head_dim));
    lists.push_back(RandomRanges(texts.back(), 16, 1000, &pool.random()));
  }
  DecodeCall batch(shape, pool);
  for (size_t i = 0; i < texts.size(); ++i) {
    batch.AddText(texts[i], queries[i]);
    batch.AddRanges(lists[i], queries[i]);
  }
  const auto want = batch.Run(table(), context(1));
  for (const unsigned num_threads : {2U, 5U}) {
    const auto got = batch.Run(table(), context(num_threads));
    for (size_t i = 0; i < want.size(); ++i) {
      ExpectSame(got[i], want[i]);
    }
  }
  for (size_t i = 0; i < texts.size(); ++i) {
    DecodeCall alone(shape, pool);
    alone.AddText(texts[i], queries[i]);
    ExpectSame(alone.Run(table(), context(2))[0], want[2 * i]);
    std::vector<KvRange> whole;
    for (uint32_t block = 0; block < texts[i].slots.size(); ++block) {
      const uint32_t left = texts[i].num_tokens - 16 * block;
      whole.push_back({texts[i].slots[block], 0, static_cast<uint16_t>(std::min(left, 16U))});
    }
    DecodeCall as_ranges(shape, pool);
    as_ranges.AddRanges(whole, queries[i]);
    ExpectSame(as_ranges.Run(table(), context())[0], want[2 * i]);
  }
}

// The rule of lists in parts: cut at whole splits, merged by the last part.
TEST_P(SparseDecode, PartsGiveTheBitsOfTheWhole) {
  constexpr uint32_t kSplit = device::kPieceBlocks * device::kSplitPieces;
  for (const uint32_t group : {1U, 3U, 7U, 9U}) {
    const DecodeShape shape = {{DType::kBf16, 72, 16}, group, group == 3 ? 10.0F : 0.0F};
    KvPool pool(shape.kv, 280, group);
    const Text text = pool.MakeText(16 * 270 + 5);
    const std::vector<KvRange> ranges = RandomRanges(text, 16, 5 * kSplit - 3, &pool.random());
    const auto q = pool.random().Normals(size_t{group} * 72);
    DecodeCall whole(shape, pool);
    whole.AddText(text, q);
    whole.AddRanges(ranges, q);
    const std::vector<DecodeResult> want = whole.Run(table(), context());
    for (const std::vector<uint32_t>& cuts : std::vector<std::vector<uint32_t>>{
             {kSplit}, {4 * kSplit}, {kSplit, 2 * kSplit, 4 * kSplit}}) {
      const auto parts = [&](const device::OpTable& ops) {
        AlignedBytes memory((size_t{5} * group * (72 + 16)) * sizeof(float));
        std::vector<DecodeResult> results(2);
        for (const bool by_ranges : {false, true}) {
          std::memset(memory.data(), 0xff, memory.size());
          const auto all = static_cast<uint32_t>(by_ranges ? ranges.size() : text.slots.size());
          for (size_t i = 0; i <= cuts.size(); ++i) {
            const uint32_t begin = i == 0 ? 0 : cuts[i - 1];
            const uint32_t end = i < cuts.size() ? cuts[i] : all;
            DecodeJob job = {};
            job.ranges = by_ranges ? ranges.data() + begin : nullptr;
            job.slots = text.slots.data() + begin;
            job.num_ranges = end - begin;
            job.num_tokens = std::min(text.num_tokens, end * 16) - begin * 16;
            job.states = memory.floats();
            job.splits_before = begin / kSplit;
            job.more = i < cuts.size() ? 1 : 0;
            DecodeCall call(shape, pool);
            call.AddJob(job, q);
            results[by_ranges ? 1 : 0] = call.Run(ops, context(2))[0];
          }
        }
        return results;
      };
      if (&table() != &reference()) {  // whose parts are merged in f64
        const std::vector<DecodeResult> got = parts(table());
        ExpectSame(got[0], want[0]);
        ExpectSame(got[1], want[1]);
      }
      const std::vector<DecodeResult> reference_got = parts(reference());
      ExpectNear(table(), shape, want[0], reference_got[0]);
      ExpectNear(table(), shape, want[1], reference_got[1]);
    }
  }
}

TEST_P(SparseDecode, WithoutLse) {
  const DecodeShape shape = {{DType::kF32, 64, 16}, 2};
  KvPool pool(shape.kv, 300, 9);
  const auto q = pool.random().Normals(128);
  for (const uint32_t num_tokens : {0U, 100U, 3000U}) {
    const Text text = pool.MakeText(num_tokens);
    std::vector<float> out(128);
    DecodeJob job = {};
    job.slots = text.slots.data();
    job.num_ranges = static_cast<uint32_t>(text.slots.size());
    job.num_tokens = num_tokens;
    job.q = q.data();
    job.out = out.data();
    AlignedBytes workspace((device::DecodeWorkspaceFloats(job.num_ranges, 2, 64) + 1) *
                           sizeof(float));
    DecodeParams params = {};
    params.pool = pool.pool();
    params.jobs = &job;
    params.num_jobs = 1;
    params.group = 2;
    params.scale = 0.125F;
    params.out_dtype = DType::kF32;
    params.workspace = workspace.floats();
    table().sparse_decode(context(2), params);
    DecodeCall call(shape, pool);
    call.AddText(text, q);
    EXPECT_TRUE(SameBits(out, Widen(call.Run(table(), context())[0].out.data(), DType::kF32, 128)));
  }
}

// 2^20 tokens: 16384 blocks of 64 in 256 splits. Their merge adds sqrt(256) u to the bound above;
// the outputs are means of a million values, so errors are measured against the largest |v|, 5.
TEST_P(SparseDecode, AMillionTokens) {
  const DecodeShape shape = {{DType::kBf16, 8, 64}, 2};
  constexpr uint32_t kTokens = uint32_t{1} << 20;
  static const auto pool = std::make_unique<KvPool>(shape.kv, kTokens / 64, 11);
  static const Text text = pool->MakeText(kTokens);
  static const auto q = pool->random().Normals(16);
  DecodeCall call(shape, *pool);
  call.AddText(text, q);
  static const DecodeResult want = call.Run(reference(), context())[0];
  const DecodeResult got = call.Run(table(), context(2))[0];
  const auto got_out = Widen(got.out.data(), DType::kF32, 16);
  EXPECT_TRUE(Near(got_out, Widen(want.out.data(), DType::kF32, 16), {5e-6, 0}));
  EXPECT_TRUE(Near(got.lse, want.lse, {1e-5, 0}));
}

}  // namespace
}  // namespace hipattn::testing
