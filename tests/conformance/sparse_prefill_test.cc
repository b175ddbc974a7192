// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// sparse_prefill and pack_columns against the references, and the acceptance tests of masks that a
// kernel alone can answer: T2, T5-T8, T20 and T22.
//
// The error of a result is that of dense_prefill (tests/support/attention_bound.h): the sums are
// those of at most as many keys, and a bias of a mean is one more rounding of a score.
#include "base/status.h"
#include "device/range_panels.h"
#include "tests/support/attention_bound.h"
#include "tests/support/compare.h"
#include "tests/support/kv_fixture.h"
#include "tests/support/mask_fixture.h"
#include "tests/support/op_tables.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

namespace hipattn::testing {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Outputs {
  std::vector<float> out, lse;
};

// Rows [first_pos, num_tokens) of a text, num_heads q heads of one kv head.
struct Case {
  Case(const KvShape& kv_shape, uint32_t heads, uint32_t tokens, uint32_t first, uint64_t seed = 1)
      : shape(kv_shape),
        num_heads(heads),
        first_pos(first),
        num_rows(tokens - first),
        pool(shape, BlocksFor(tokens, shape.block_tokens) + 1, seed),
        text(pool.MakeText(tokens)),
        unwritten(pool.TakeSlot()),
        row_stride(uint64_t{heads} * shape.head_dim + 8),
        scale(1.0F / std::sqrt(static_cast<float>(shape.head_dim))),
        q(pool.random().Normals(num_rows * row_stride)) {}

  std::vector<std::byte> Pack(const device::OpTable& table,
                              const device::OpContext& context,
                              const TestMask& mask) const {
    const auto count = static_cast<uint32_t>(mask.columns().size());
    std::vector<std::byte> panel(
        device::ColumnPanelElements(count, shape.head_dim) * DTypeBytes(shape.dtype),
        std::byte{0xff});
    const device::PackJob job = {text.slots.data(), mask.columns().data(), count, panel.data()};
    table.pack_columns(context, {pool.pool(), &job, 1});
    return panel;
  }

  Outputs Run(const device::OpTable& table,
              const device::OpContext& context,
              const TestMask& mask,
              const device::PrunedMeans& means = {}) const {
    const std::vector<std::byte> panel = Pack(table, context, mask);
    std::vector<std::byte> out(num_rows * row_stride * DTypeBytes(out_dtype), std::byte{0xff});
    Outputs outputs;
    outputs.lse.assign(size_t{num_rows} * (num_heads + 1), kNan);
    const device::SparsePrefillJob job = {text.slots.data(),
                                          q.data(),
                                          out.data(),
                                          outputs.lse.data(),
                                          first_pos,
                                          num_rows,
                                          num_heads,
                                          mask.mask(),
                                          panel.data(),
                                          means};
    table.sparse_prefill(context, Params(&job, 1));
    outputs.out = Widen(out.data(), out_dtype, num_rows * row_stride);
    return outputs;
  }

  // One row tile; parts that end at the panels `cuts` and at the last.
  Outputs RunParts(const device::OpTable& table,
                   const device::OpContext& context,
                   const TestMask& mask,
                   const std::vector<uint32_t>& cuts) const {
    const std::vector<std::byte> panel = Pack(table, context, mask);
    std::vector<std::byte> out(num_rows * row_stride * DTypeBytes(out_dtype), std::byte{0xff});
    Outputs outputs;
    outputs.lse.assign(size_t{num_rows} * (num_heads + 1), kNan);
    AlignedBytes state(device::PrefillStateFloats(kRowTile, num_heads, shape.head_dim) *
                       sizeof(float));
    std::memset(state.data(), 0xff, state.size());
    const auto num_panels = static_cast<uint32_t>(device::NumRangePanels(mask.mask(), 0));
    EXPECT_GT(num_panels, cuts.back());
    for (size_t i = 0; i <= cuts.size(); ++i) {
      const uint32_t begin = i == 0 ? 0 : cuts[i - 1];
      const uint32_t end = i == cuts.size() ? num_panels : cuts[i];
      std::vector<uint32_t> slots(text.slots.size(), unwritten);
      uint32_t number = 0;
      device::ForEachPanelRun(mask.mask(), 0, [&](uint32_t first, uint32_t last) {
        for (uint32_t i_panel = first; i_panel <= last; ++i_panel, ++number) {
          if (number >= begin && number < end) {
            slots[i_panel] = text.slots[i_panel];  // blocks of 16
          }
        }
        return true;
      });
      for (const uint32_t column : mask.columns()) {  // which the reference reads
        if (end == num_panels) {
          slots[column / 16] = text.slots[column / 16];
        }
      }
      const device::SparsePrefillJob job = {slots.data(),
                                            q.data(),
                                            out.data(),
                                            outputs.lse.data(),
                                            first_pos,
                                            num_rows,
                                            num_heads,
                                            mask.mask(),
                                            panel.data(),
                                            {},
                                            state.floats(),
                                            begin,
                                            end};
      table.sparse_prefill(context, Params(&job, 1));
    }
    outputs.out = Widen(out.data(), out_dtype, num_rows * row_stride);
    return outputs;
  }

  device::SparsePrefillParams Params(const device::SparsePrefillJob* jobs,
                                     uint32_t num_jobs) const {
    return {pool.pool(),
            jobs,
            num_jobs,
            row_stride,
            row_stride,
            num_heads + 1U,
            scale,
            softcap,
            skip_threshold,
            out_dtype};
  }

  Outputs RunDense(const device::OpTable& table, const device::OpContext& context) const {
    Outputs outputs;
    outputs.out.assign(num_rows * row_stride, kNan);
    outputs.lse.assign(size_t{num_rows} * (num_heads + 1), kNan);
    const device::PrefillJob job = {
        text.slots.data(), q.data(), outputs.out.data(), outputs.lse.data(), first_pos, num_rows};
    table.dense_prefill(context,
                        {pool.pool(),
                         &job,
                         1,
                         num_heads,
                         row_stride,
                         row_stride,
                         num_heads + 1U,
                         scale,
                         softcap,
                         DType::kF32});
    return outputs;
  }

  // Normal numbers: |q_i k_i| sum to less than 2 d, |v| < 6. A tile folds 49 keys or more, or is
  // the last of its kind.
  AttentionSize Size() const {
    return {
        shape.head_dim, 2.0 * shape.head_dim * scale, 6, softcap, 128, text.num_tokens / 49 + 8};
  }

  KvShape shape;
  uint32_t num_heads, first_pos, num_rows;
  KvPool pool;
  Text text;
  uint32_t unwritten;  // a slot full of NaN
  uint64_t row_stride;
  float scale;
  float softcap = 0;
  float skip_threshold = 0;
  DType out_dtype = DType::kF32;
  std::vector<float> q;
};

class SparsePrefill : public OpTableTest {
 protected:
  void ExpectNear(const Case& test, const Outputs& got, const Outputs& want) const {
    EXPECT_TRUE(Near(got.out, want.out, OutBound(test.Size(), test.out_dtype)));
    EXPECT_TRUE(Near(got.lse, want.lse, LseBound(test.Size())));
  }
  void CheckAgainstReference(const Case& test, const TestMask& mask) const {
    ExpectNear(test, test.Run(table(), context(2), mask), test.Run(reference(), context(), mask));
  }
  void CheckAgainstDense(const Case& test, const TestMask& mask) const {
    ExpectNear(test, test.Run(table(), context(2), mask), test.RunDense(reference(), context()));
  }
};

std::vector<uint32_t> Descending(uint32_t count) {
  std::vector<uint32_t> numbers(count);
  std::iota(numbers.rbegin(), numbers.rend(), uint32_t{0});
  return numbers;
}

std::vector<uint32_t> Ascending(uint32_t count) {
  std::vector<uint32_t> numbers(count);
  std::iota(numbers.begin(), numbers.end(), uint32_t{0});
  return numbers;
}

TEST_P(SparsePrefill, AllShapesMatchReference) {
  for (const uint32_t head_dim : {8U, 64U, 72U, 80U, 96U, 128U, 136U, 256U}) {
    for (const uint32_t block_tokens : {16U, 32U, 64U}) {
      SCOPED_TRACE(StrCat("head_dim ", head_dim, ", blocks of ", block_tokens));
      Case test({DType::kBf16, head_dim, block_tokens}, 2, 333, 100);
      CheckAgainstReference(test, RandomMask(100, 233, &test.pool.random()));
    }
  }
}

TEST_P(SparsePrefill, AllTypesMatchReference) {
  for (const DType kv_dtype : {DType::kF32, DType::kF16, DType::kBf16}) {
    for (const DType out_dtype : {DType::kF32, DType::kF16, DType::kBf16}) {
      SCOPED_TRACE(StrCat(DTypeName(kv_dtype), " to ", DTypeName(out_dtype)));
      Case test({kv_dtype, 64, 16}, 1, 300, 50);
      test.out_dtype = out_dtype;
      test.softcap = out_dtype == DType::kF16 ? 3.0F : 0.0F;
      CheckAgainstReference(test, RandomMask(50, 250, &test.pool.random()));
    }
  }
}

TEST_P(SparsePrefill, AllLengthsAndHeadsMatchReference) {
  for (const uint32_t tokens : {1U, 2U, 15U, 16U, 17U, 63U, 64U, 65U, 127U, 128U, 129U, 700U}) {
    for (const uint32_t heads : {1U, 5U}) {
      SCOPED_TRACE(StrCat("tokens ", tokens, ", heads ", heads));
      Case test({DType::kF32, 64, 16}, heads, tokens, 0);
      CheckAgainstReference(test, RandomMask(0, tokens, &test.pool.random()));
    }
  }
}

TEST_P(SparsePrefill, PackColumnsMatchesReference) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBf16}) {
    for (const uint32_t block_tokens : {16U, 64U}) {
      const Case test({dtype, 72, block_tokens}, 1, 300, 299);
      for (const uint32_t stride : {1U, 3U, 19U, 299U}) {
        std::vector<uint32_t> columns;
        for (uint32_t key = 0; key < 300; key += stride) {
          columns.push_back(key);
        }
        const TestMask mask = LinesMask(299, 1, columns, {});
        EXPECT_TRUE(test.Pack(table(), context(2), mask) ==
                    test.Pack(reference(), context(), mask));
      }
    }
  }
}

// T2: with queries of 0 every weight is 1, the lse counts keys and out names them.
TEST_P(SparsePrefill, T2EveryKeyOfTheMaskExactlyOnce) {
  constexpr uint32_t kTokens = 240;
  constexpr uint32_t kHeadDim = 240;
  Case test({DType::kF32, kHeadDim, 16}, 1, kTokens, 0);
  std::fill(test.q.begin(), test.q.end(), 0.0F);
  for (uint32_t key = 0; key < kTokens; ++key) {
    std::vector<float> one_hot(kHeadDim, 0.0F);
    one_hot[key] = 1;
    test.pool.SetToken(test.text.slots[key / 16], key % 16, one_hot.data(), one_hot.data());
  }
  for (uint32_t round = 0; round < 20; ++round) {
    const TestMask mask = RandomMask(0, kTokens, &test.pool.random());
    const Outputs got = test.Run(table(), context(), mask);
    for (uint32_t row = 0; row < kTokens; ++row) {
      const float count = std::exp(got.lse[size_t{row} * 2]);
      for (uint32_t key = 0; key < kTokens; ++key) {
        const float times = got.out[row * test.row_stride + key] * count;
        ASSERT_NEAR(times, mask.Attends(row, row, key) ? 1.0F : 0.0F, 1e-4F)
            << "round " << round << ", row " << row << ", key " << key;
      }
    }
  }
}

TEST_P(SparsePrefill, T5AllSlashesOrAllVerticalsAreDense) {
  for (const uint32_t first : {0U, 1U, 90U, 299U}) {
    SCOPED_TRACE(StrCat("first_pos ", first));
    const Case test({DType::kBf16, 64, 16}, 2, 300, first);
    CheckAgainstDense(test, LinesMask(first, 300 - first, {}, Descending(300)));
    CheckAgainstDense(test, LinesMask(first, 300 - first, Ascending(300), {}));
    CheckAgainstDense(test, LinesMask(first, 300 - first, Ascending(300), {150, 64, 1, 0}));
  }
}

TEST_P(SparsePrefill, T6VerticalSlashIsSoftmaxOverWhatIsCovered) {
  for (const uint32_t tokens : {64U, 130U, 577U}) {
    for (const std::vector<uint32_t>& slashes :
         std::vector<std::vector<uint32_t>>{{0}, {200, 65, 64, 63, 0}, {400, 100, 7}, {}}) {
      Case test({DType::kF32, 64, 16}, 1, tokens, tokens / 3);
      std::vector<uint32_t> verticals;
      for (uint32_t key = 0; key < tokens; key += 1 + test.pool.random().Below(12)) {
        verticals.push_back(key);
      }
      CheckAgainstReference(test, LinesMask(test.first_pos, test.num_rows, verticals, slashes));
    }
  }
}

TEST_P(SparsePrefill, T7ShapesOfSinksAndWindow) {
  for (const uint32_t tokens : {63U, 64U, 65U, 129U, 1023U, 1025U}) {
    const Case test({DType::kF32, 64, 16}, 1, tokens, tokens / 2);
    for (const auto& [sinks, window] : std::vector<std::pair<uint32_t, uint32_t>>{
             {0, 1}, {1, 64}, {100, 800}, {128, 3968}, {5, 0}}) {
      SCOPED_TRACE(StrCat("tokens ", tokens, ", sinks ", sinks, ", window ", window));
      CheckAgainstReference(test, ShapeMask(test.first_pos, test.num_rows, sinks, window));
    }
    CheckAgainstDense(test, ShapeMask(test.first_pos, test.num_rows, 0, tokens));
  }
}

TEST_P(SparsePrefill, T8SinksThatMeetTheWindowCountOnce) {
  const Case test({DType::kF32, 64, 16}, 1, 300, 0);
  for (const uint32_t sinks : {150U, 201U, 299U, 300U}) {
    CheckAgainstReference(test, ShapeMask(0, 300, sinks, 200));
  }
  CheckAgainstDense(test, ShapeMask(0, 300, 300, 200));
}

TEST_P(SparsePrefill, RowsWithoutKeysAreZero) {
  const Case test({DType::kBf16, 64, 16}, 2, 200, 0);
  const TestMask mask(0, 200, [](uint32_t first, uint32_t) {
    return first == 64 ? std::vector<MaskRange>{{100, 128, 0}} : std::vector<MaskRange>{};
  });
  const Outputs got = test.Run(table(), context(), mask);
  for (uint32_t row = 0; row < 200; ++row) {
    const bool empty = row < 100 || row >= 128;
    EXPECT_EQ(std::isinf(got.lse[row * 3]), empty) << row;
    EXPECT_EQ(got.out[row * test.row_stride + 63] == 0.0F, empty) << row;
  }
  ExpectNear(test, got, test.Run(reference(), context(), mask));
}

TEST_P(SparsePrefill, NoRowsNoJobs) {
  const Case test({DType::kF32, 64, 16}, 1, 70, 70);
  EXPECT_TRUE(test.Run(table(), context(), LinesMask(70, 0, {}, {})).out.empty());
  table().sparse_prefill(context(), test.Params(nullptr, 0));
  table().pack_columns(context(), {test.pool.pool(), nullptr, 0});
}

TEST_P(SparsePrefill, LseIsOptional) {
  const Case test({DType::kF32, 64, 16}, 1, 100, 30);
  const TestMask mask = LinesMask(30, 70, {}, {20, 0});
  std::vector<std::byte> out(70 * test.row_stride * sizeof(float), std::byte{0xff});
  const device::SparsePrefillJob job = {test.text.slots.data(),
                                        test.q.data(),
                                        out.data(),
                                        nullptr,
                                        30,
                                        70,
                                        1,
                                        mask.mask(),
                                        nullptr,
                                        {}};
  table().sparse_prefill(context(), test.Params(&job, 1));
  EXPECT_TRUE(SameBits(Widen(out.data(), DType::kF32, 70 * test.row_stride),
                       test.Run(table(), context(), mask).out));
}

TEST_P(SparsePrefill, T20BitsDoNotDependOnThreadsNorBatchNorHeads) {
  Case test({DType::kBf16, 64, 32}, 7, 600, 100);
  const TestMask mask = RandomMask(100, 500, &test.pool.random());
  const Outputs want = test.Run(table(), context(1), mask);
  for (const unsigned num_threads : {1U, 2U, 5U}) {
    const Outputs got = test.Run(table(), context(num_threads), mask);
    EXPECT_TRUE(SameBits(got.out, want.out));
    EXPECT_TRUE(SameBits(got.lse, want.lse));
  }
  // The heads as two jobs, beside a third one.
  const std::vector<std::byte> panel = test.Pack(table(), context(), mask);
  std::vector<float> out(500 * test.row_stride, kNan);
  std::vector<float> lse(want.lse.size(), kNan);
  std::vector<float> other(out.size());
  device::SparsePrefillJob jobs[3];
  for (uint32_t i = 0; i < 3; ++i) {
    jobs[i] = {test.text.slots.data(),
               test.q.data(),
               out.data(),
               lse.data(),
               100,
               500,
               3,
               mask.mask(),
               panel.data(),
               {}};
  }
  jobs[1].num_heads = 4;
  jobs[1].q += size_t{3} * 64;
  jobs[1].out = out.data() + size_t{3} * 64;
  jobs[1].lse += 3;
  jobs[2].out = other.data();
  jobs[2].lse = nullptr;
  table().sparse_prefill(context(5), test.Params(jobs, 3));
  for (uint32_t row = 0; row < 500; ++row) {
    std::fill_n(
        out.begin() + static_cast<ptrdiff_t>(row * test.row_stride + 7 * 64), 8, want.out[7 * 64]);
  }
  EXPECT_TRUE(SameBits(out, want.out));
  EXPECT_TRUE(SameBits(lse, want.lse));
}

// One row tile in parts, each of which has the blocks of its own panels alone.
TEST_P(SparsePrefill, PartsGiveTheBitsOfTheWhole) {
  constexpr uint32_t kTokens = 9000;
  const auto ranges = [](uint32_t kind, uint32_t limit) {
    std::vector<MaskRange> all;
    switch (kind) {
      case 0:
        return std::vector<MaskRange>{{3, limit, 0}};
      case 1:  // some share panels, some end within one
        for (uint32_t begin = 5; begin + 40 < limit; begin += 24) {
          all.push_back({begin, begin + 1 + begin % 23, 0});
        }
        return all;
      default:
        return std::vector<MaskRange>{{0, 3005, 0}, {3005, limit, 1}};
    }
  };
  for (uint32_t kind = 0; kind < 3; ++kind) {
    for (const uint32_t head_dim : {64U, 136U}) {
      SCOPED_TRACE(StrCat("mask ", kind, ", head_dim ", head_dim));
      const bool is_reference = &table() == &reference();
      const uint32_t rows = is_reference ? 5 : 50;  // it takes its time
      Case test({DType::kBf16, head_dim, 16}, head_dim == 64 ? 5 : 1, kTokens, kTokens - rows);
      test.skip_threshold = kind == 1 ? 1e-4F : 0.0F;
      const TestMask mask(
          kTokens - rows,
          rows,
          [&](uint32_t, uint32_t limit) { return ranges(kind, limit); },
          kind == 0 ? std::vector<uint32_t>{0, 2} : std::vector<uint32_t>{},
          5990);
      const Outputs want = test.Run(table(), context(2), mask);
      for (const std::vector<uint32_t>& cuts :
           std::vector<std::vector<uint32_t>>{{256}, {512}, {256, 512}}) {
        const Outputs got = test.RunParts(table(), context(2), mask, cuts);
        if (is_reference) {  // whose parts are merged in f64
          ExpectNear(test, got, want);
        } else {
          EXPECT_TRUE(SameBits(got.out, want.out));
          EXPECT_TRUE(SameBits(got.lse, want.lse));
        }
      }
    }
  }
}

// A row's bits depend on its tile's part of the mask alone.
TEST_P(SparsePrefill, BitsDoNotDependOnOtherTiles) {
  const Case test({DType::kF32, 80, 16}, 1, 320, 0);
  const auto tail = [](uint32_t first, uint32_t limit) {
    return first < 256 ? std::vector<MaskRange>{}
                       : std::vector<MaskRange>{{3, 90, 0}, {200, limit, 0}};
  };
  const Outputs some = test.Run(table(), context(), TestMask(0, 320, tail));
  const Outputs all = test.Run(table(), context(2), TestMask(0, 320, [](uint32_t, uint32_t limit) {
                                 return limit > 200
                                            ? std::vector<MaskRange>{{3, 90, 0}, {200, limit, 0}}
                                            : std::vector<MaskRange>{{0, limit, 0}};
                               }));
  const size_t first = 256 * test.row_stride;
  EXPECT_TRUE(SameBits(std::span<const float>(some.out).subspan(first),
                       std::span<const float>(all.out).subspan(first)));
}

// Keys behind a row, and keys that the mask does not name, may hold anything.
TEST_P(SparsePrefill, WhatTheMaskDoesNotNameChangesNothing) {
  for (const float poison : {kNan, kInfinity, 1e30F}) {
    Case test({DType::kF32, 64, 16}, 2, 290, 0);
    const TestMask mask = LinesMask(0, 290, {1, 17, 130, 150, 151, 270}, {140, 70, 0});
    const Outputs want = test.Run(table(), context(), mask);
    const std::vector<float> bad(64, poison);
    for (uint32_t token = 289; token > 192; token -= 13) {
      Case spoilt({DType::kF32, 64, 16}, 2, 290, 0);
      for (uint32_t key = 0; key < 290; ++key) {
        bool read = false;
        for (uint32_t row = token / kRowTile * kRowTile; row < token; ++row) {
          read = read || mask.Attends(row, row, key);
        }
        if (!read) {
          spoilt.pool.SetToken(spoilt.text.slots[key / 16], key % 16, bad.data(), bad.data());
        }
      }
      const Outputs got = spoilt.Run(table(), context(), mask);
      const size_t first = token / kRowTile * kRowTile * test.row_stride;
      const size_t size = token * test.row_stride - first;
      EXPECT_TRUE(SameBits(std::span<const float>(got.out).subspan(first, size),
                           std::span<const float>(want.out).subspan(first, size)))
          << "from token " << token;
    }
  }
}

// A query that is no number stays none, with or without keys that it could see.
TEST_P(SparsePrefill, NanQueriesShow) {
  Case test({DType::kF32, 64, 16}, 1, 100, 0);
  std::fill(test.q.begin(), test.q.begin() + 64, kNan);
  const Outputs got = test.Run(table(), context(), LinesMask(0, 100, {}, {0}));
  EXPECT_TRUE(std::isnan(got.out[0]));
  EXPECT_TRUE(std::isnan(got.lse[0]));
  EXPECT_FALSE(std::isnan(got.out[test.row_stride]));
}

// T22: exp(lse_sparse - lse_full) is the mass of the mask. Twice the error of an lse, and 1e-4 is
// what is asked.
TEST_P(SparsePrefill, T22RecallFromLseIsMass) {
  Case test({DType::kF32, 64, 16}, 1, 500, 0);
  for (uint32_t round = 0; round < 3; ++round) {
    const TestMask mask = RandomMask(0, 500, &test.pool.random());
    const Outputs sparse = test.Run(table(), context(), mask);
    const Outputs dense = test.RunDense(table(), context());
    for (uint32_t row = 0; row < 500; row += 7) {
      double mass = 0;
      double all = 0;
      for (uint32_t key = 0; key <= row; ++key) {
        std::vector<float> k(64);
        double dot = 0;
        const std::byte* block = test.pool.block(test.text.slots[key / 16]);
        for (uint32_t dim = 0; dim < 64; ++dim) {
          dot += double{test.q[row * test.row_stride + dim]} *
                 double{LoadElement(block, DType::kF32, size_t{dim} * 16 + key % 16)};
        }
        const double weight = std::exp(dot * double{test.scale});
        all += weight;
        mass += mask.Attends(row, row, key) ? weight : 0;
      }
      const double recall = std::exp(double{sparse.lse[row * 2]} - double{dense.lse[row * 2]});
      EXPECT_NEAR(recall, mass / all, 1e-4) << "row " << row;
      EXPECT_LE(recall, 1 + 1e-3);
    }
  }
}

// Skipped weights are below the threshold times the largest: of n keys at most n * threshold of
// the sum, which moves out by no more than twice that, relative to the largest value.
TEST_P(SparsePrefill, SkippedTilesWeighLittle) {
  Case test({DType::kBf16, 64, 16}, 2, 1000, 500);
  for (uint64_t i = 0; i < test.q.size(); ++i) {
    test.q[i] *= 4;
  }
  const TestMask mask = LinesMask(500, 500, Ascending(1000), {300, 0});
  const Outputs want = test.Run(reference(), context(), mask);
  test.skip_threshold = 1e-6F;
  const Outputs got = test.Run(table(), context(), mask);
  AttentionSize size = test.Size();
  size.max_score *= 4;
  const double skipped = 1000 * 1e-6;
  EXPECT_TRUE(
      Near(got.out, want.out, {OutBound(size, DType::kF32).absolute + 2 * skipped * 6, 1e-6}));
  EXPECT_TRUE(Near(got.lse, want.lse, {LseBound(size).absolute + skipped, 1e-6}));
}

// A tile without a key that matters is left out: its values never reach the result. Every row has a
// key of its own that outweighs the rest.
TEST_P(SparsePrefill, SkippedTilesAreNotMultiplied) {
  Case test({DType::kF32, 64, 16}, 1, 512, 448);
  std::vector<float> strong(64, 1.0F);
  const std::vector<float> weak(64, -1.0F);
  const std::vector<float> bad(64, kInfinity);
  std::fill(test.q.begin(), test.q.end(), 4.0F);
  for (uint32_t key = 0; key < 512; ++key) {
    const bool first_tile = key < 128;
    test.pool.SetToken(test.text.slots[key / 16],
                       key % 16,
                       first_tile ? strong.data() : weak.data(),
                       first_tile ? strong.data() : bad.data());
  }
  const TestMask mask(448, 64, [](uint32_t, uint32_t) {
    return std::vector<MaskRange>{{0, 128, 0}, {200, 400, 0}};
  });
  EXPECT_FALSE(std::isfinite(test.Run(table(), context(), mask).out[0]));
  test.skip_threshold = 1e-3F;
  const Outputs got = test.Run(table(), context(), mask);
  if (&table() != &reference()) {
    EXPECT_EQ(got.out[0], 1.0F);
  }
}

TEST_P(SparsePrefill, PrunedMeansMatchReference) {
  for (const uint32_t head_dim : {64U, 128U, 256U}) {
    Case test({DType::kBf16, head_dim, 16}, 2, 700, 200);
    constexpr uint32_t kBlocks = 11;
    const std::vector<float> panel =
        test.pool.random().Normals(device::ColumnPanelElements(kBlocks, head_dim));
    std::vector<float> log_tokens(kBlocks, std::log(64.0F));
    std::vector<uint32_t> interval_ptr = {0};
    std::vector<ColumnInterval> intervals;
    for (uint32_t row = 200; row < 700; row += kRowTile) {
      intervals.push_back({1, row / kRowTile});
      if (row % 128 == 8) {
        intervals.push_back({row / kRowTile, row / kRowTile});
      }
      interval_ptr.push_back(static_cast<uint32_t>(intervals.size()));
    }
    const device::PrunedMeans means = {
        panel.data(), log_tokens.data(), interval_ptr.data(), intervals.data(), kBlocks};
    const TestMask mask = LinesMask(200, 500, {3, 5, 60}, {5, 0});
    const Outputs want = test.Run(reference(), context(), mask, means);
    ExpectNear(test, test.Run(table(), context(2), mask, means), want);
    test.softcap = 2;
    ExpectNear(test,
               test.Run(table(), context(), mask, means),
               test.Run(reference(), context(), mask, means));
  }
}

HIPATTN_FOR_ALL_TABLES(SparsePrefill);

}  // namespace
}  // namespace hipattn::testing
