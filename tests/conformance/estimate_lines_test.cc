// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// estimate_lines against the reference.
//
// A weight exp(score - lse) errs by the error of its score and that of its row's lse, of which
// WeightError (tests/support/attention_bound.h) bounds each; a sum of n weights, all of one sign,
// adds n u. Weights below 2^-126 may be 0.
#include "base/status.h"
#include "tests/support/attention_bound.h"
#include "tests/support/compare.h"
#include "tests/support/kv_fixture.h"
#include "tests/support/op_tables.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

namespace hipattn::testing {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Lines {
  std::vector<float> vertical, slash, lse;
};

struct Case {
  Case(const KvShape& kv_shape, uint32_t tokens, uint32_t rows, uint64_t seed = 1)
      : shape(kv_shape),
        num_tokens(tokens),
        num_rows(rows),
        pool(shape, BlocksFor(tokens, shape.block_tokens) + 1, seed),
        text(pool.MakeText(tokens)),
        row_stride(shape.head_dim + 24),
        scale(1.0F / std::sqrt(static_cast<float>(shape.head_dim))),
        q(pool.random().Normals(num_rows * row_stride)) {}

  // A job whose results go to `lines`.
  device::LinesJob Job(Lines* lines, std::vector<float>* workspace) const {
    *lines = {std::vector<float>(num_tokens, kNan),
              std::vector<float>(num_tokens, kNan),
              std::vector<float>(num_rows, kNan)};
    workspace->assign(device::LinesWorkspaceFloats(num_tokens, num_rows), kNan);
    return {text.slots.data(),
            q.data(),
            num_tokens - num_rows,
            num_rows,
            lines->vertical.data(),
            lines->slash.data(),
            lines->lse.data(),
            workspace->data()};
  }
  device::LinesParams Params(const device::LinesJob* jobs, uint32_t num_jobs) const {
    return {pool.pool(), jobs, num_jobs, row_stride, scale, softcap};
  }
  Lines Run(const device::OpTable& table, const device::OpContext& context) const {
    Lines lines;
    std::vector<float> workspace;
    const device::LinesJob job = Job(&lines, &workspace);
    table.estimate_lines(context, Params(&job, 1));
    return lines;
  }

  // Normal numbers: |q_i k_i| sum to less than 2 d.
  AttentionSize Size() const {
    return {shape.head_dim, 2.0 * shape.head_dim * scale, 1, softcap, 64, num_tokens / 64 + 1};
  }
  Bound LineBound() const {
    return {num_rows * 0x1p-120, 3 * WeightError(Size()) + num_rows * Roundoff(DType::kF32)};
  }

  KvShape shape;
  uint32_t num_tokens, num_rows;
  KvPool pool;
  Text text;
  uint64_t row_stride;
  float scale;
  float softcap = 0;
  std::vector<float> q;
};

class EstimateLines : public OpTableTest {
 protected:
  void CheckAgainstReference(const Case& test) const {
    const Lines want = test.Run(reference(), context());
    const Lines got = test.Run(table(), context(2));
    EXPECT_TRUE(Near(got.vertical, want.vertical, test.LineBound()));
    EXPECT_TRUE(Near(got.slash, want.slash, test.LineBound()));
    EXPECT_TRUE(Near(got.lse, want.lse, LseBound(test.Size())));
  }
};

TEST_P(EstimateLines, T11AllShapesMatchReference) {
  for (const uint32_t head_dim : {8U, 64U, 72U, 128U, 136U, 256U}) {
    for (const uint32_t block_tokens : {16U, 64U}) {
      SCOPED_TRACE(StrCat("head_dim ", head_dim, ", blocks of ", block_tokens));
      CheckAgainstReference(Case({DType::kBf16, head_dim, block_tokens}, 333, 64));
    }
  }
}

TEST_P(EstimateLines, T11AllLengthsMatchReference) {
  for (const uint32_t tokens : {1U, 15U, 16U, 17U, 63U, 64U, 65U, 127U, 300U}) {
    for (const uint32_t rows : {1U, 3U, 13U, 63U, 64U, 65U, 128U, 300U}) {
      if (rows <= tokens) {
        SCOPED_TRACE(StrCat("tokens ", tokens, ", rows ", rows));
        CheckAgainstReference(Case({DType::kF32, 64, 16}, tokens, rows));
      }
    }
  }
}

TEST_P(EstimateLines, T11SegmentsMatchReference) {
  for (const uint32_t tokens : {4095U, 4096U, 4097U, 8300U}) {
    SCOPED_TRACE(StrCat("tokens ", tokens));
    CheckAgainstReference(Case({DType::kF16, 8, 32}, tokens, 70));
  }
}

// Scores of the first of three segments are kept, those of the others computed twice.
TEST_P(EstimateLines, T11KeptAndComputedScoresMatchReference) {
  constexpr uint32_t kTokens = 8300;
  constexpr uint32_t kRows = 450;
  ASSERT_EQ(device::LinesKeptSegments(kTokens, kRows), 1U);
  ASSERT_EQ(device::LinesSegments(kTokens), 3U);
  Case test({DType::kF16, 8, 32}, kTokens, kRows);
  test.softcap = 1.5F;
  CheckAgainstReference(test);
}

TEST_P(EstimateLines, SoftcapMatchesReference) {
  Case test({DType::kF32, 64, 16}, 200, 64);
  test.softcap = 1.5F;
  CheckAgainstReference(test);
}

// T10, within what f32 sums of the case's length may lose, and 1e-4.
TEST_P(EstimateLines, T10LinesSumToTheRows) {
  for (const uint32_t tokens : {64U, 1000U, 5000U}) {
    const Case test({DType::kBf16, 64, 16}, tokens, 64);
    const Lines got = test.Run(table(), context());
    EXPECT_NEAR(std::accumulate(got.vertical.begin(), got.vertical.end(), 0.0), 64, 64 * 1e-4);
    EXPECT_NEAR(std::accumulate(got.slash.begin(), got.slash.end(), 0.0), 64, 64 * 1e-4);
  }
}

TEST_P(EstimateLines, T20BitsDoNotDependOnThreadsNorBatch) {
  const Case test({DType::kBf16, 64, 16}, 9000, 130);
  const Lines want = test.Run(table(), context(1));
  for (const unsigned num_threads : {2U, 5U}) {
    const Lines got = test.Run(table(), context(num_threads));
    EXPECT_TRUE(SameBits(got.vertical, want.vertical));
    EXPECT_TRUE(SameBits(got.slash, want.slash));
    EXPECT_TRUE(SameBits(got.lse, want.lse));
  }
  Lines lines[2];
  std::vector<float> workspaces[2];
  device::LinesJob jobs[2] = {test.Job(&lines[0], &workspaces[0]),
                              test.Job(&lines[1], &workspaces[1])};
  jobs[1].first_pos = 20;
  table().estimate_lines(context(2), test.Params(jobs, 2));
  EXPECT_TRUE(SameBits(lines[0].vertical, want.vertical));
  EXPECT_TRUE(SameBits(lines[0].slash, want.slash));
}

// Neighbouring jobs of one text read its keys together, whatever tables name them and
// however many threads there are.
TEST_P(EstimateLines, T18JobsThatShareKeysGetTheBitsOfOne) {
  constexpr uint32_t kJobs = 9;
  constexpr uint32_t kOther = 5;  // the job of another text
  for (const uint32_t head_dim : {16U, 256U}) {
    Case test({DType::kBf16, head_dim, 16}, 4112, head_dim == 16 ? 70 : 9);
    const std::vector<uint32_t> copy = test.text.slots;
    const std::vector<uint32_t> other(copy.rbegin(), copy.rend());
    const std::vector<float> q = test.pool.random().Normals(kJobs * test.q.size());
    std::vector<float> workspaces[kJobs];
    device::LinesJob jobs[kJobs];
    const auto make_jobs = [&](Lines* lines) {
      for (uint32_t i = 0; i < kJobs; ++i) {
        jobs[i] = test.Job(&lines[i], &workspaces[i]);
        jobs[i].q = q.data() + i * test.q.size();
        jobs[i].slots = i == kOther  ? other.data()
                        : i % 2 == 0 ? test.text.slots.data()
                                     : copy.data();
      }
    };
    Lines want[kJobs];
    make_jobs(want);
    for (const device::LinesJob& job : jobs) {
      table().estimate_lines(context(1), test.Params(&job, 1));
    }
    for (const unsigned num_threads : {1U, 2U, 5U}) {
      Lines got[kJobs];
      make_jobs(got);
      table().estimate_lines(context(num_threads), test.Params(jobs, kJobs));
      for (uint32_t i = 0; i < kJobs; ++i) {
        SCOPED_TRACE(StrCat("head_dim ", head_dim, ", ", num_threads, " threads, job ", i));
        EXPECT_TRUE(SameBits(got[i].vertical, want[i].vertical));
        EXPECT_TRUE(SameBits(got[i].slash, want[i].slash));
        EXPECT_TRUE(SameBits(got[i].lse, want[i].lse));
      }
    }
  }
}

// The keys of a part alone, and the steps one by one; kept scores need none.
TEST_P(EstimateLines, PartsGiveTheBitsOfTheWhole) {
  for (const uint32_t rows : {70U, 450U, 4200U}) {
    Case test({DType::kF16, 8, 32}, 8300, rows);
    const Lines want = test.Run(table(), context(2));
    const uint32_t nan_block = test.pool.TakeSlot();  // never written
    for (const uint32_t segments : {1U, 2U}) {
      Lines got;
      std::vector<float> workspace;
      device::LinesJob job = test.Job(&got, &workspace);
      std::vector<uint32_t> slots(test.text.slots.size(), nan_block);
      job.slots = slots.data();
      device::LinesParams params = test.Params(&job, 1);
      const auto in_parts = [&](device::LinesStep step, uint64_t first) {
        params.step = step;
        for (uint32_t begin = 0; begin < 3; begin += segments) {
          job.segment_begin = begin;
          job.segment_end = begin + segments;
          for (size_t block = 0; block < slots.size(); ++block) {
            const bool given =
                block >= std::max<uint64_t>(begin, first) * 128 && block < (begin + segments) * 128;
            slots[block] = given ? test.text.slots[block] : nan_block;
          }
          table().estimate_lines(context(2), params);
        }
      };
      const auto at_once = [&](device::LinesStep step) {
        params.step = step;
        std::fill(slots.begin(), slots.end(), nan_block);
        table().estimate_lines(context(2), params);
      };
      in_parts(device::LinesStep::kSums, 0);
      at_once(device::LinesStep::kLse);
      in_parts(device::LinesStep::kLines, device::LinesKeptSegments(8300, rows));
      at_once(device::LinesStep::kSlash);
      EXPECT_TRUE(SameBits(got.vertical, want.vertical));
      EXPECT_TRUE(SameBits(got.slash, want.slash));
      EXPECT_TRUE(SameBits(got.lse, want.lse));
    }
  }
}

// Keys behind the last row may be anything, and so may those a row does not see.
TEST_P(EstimateLines, WhatComesAfterTheRowsChangesNothing) {
  Case test({DType::kF32, 64, 16}, 200, 64);
  const Lines want = test.Run(table(), context());
  const std::vector<float> bad(64, kNan);
  for (uint32_t key = 200; key < 208; ++key) {
    test.pool.SetToken(test.text.slots[key / 16], key % 16, bad.data(), bad.data());
  }
  const Lines got = test.Run(table(), context());
  EXPECT_TRUE(SameBits(got.vertical, want.vertical));
  EXPECT_TRUE(SameBits(got.slash, want.slash));
}

TEST_P(EstimateLines, NoJobs) {
  const Case test({DType::kF32, 64, 16}, 20, 1);
  table().estimate_lines(context(), test.Params(nullptr, 0));
}

HIPATTN_FOR_ALL_TABLES(EstimateLines);

}  // namespace
}  // namespace hipattn::testing
