// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
// Acceptance tests of the brief on HiP (section 9) that concern configurations, partitions and
// positions, by their numbers. Those of whole calls are in tests/engine.
#include "core/plan.h"
#include "core/rope.h"
#include "core/search/config.h"
#include "core/search/staged_walk.h"
#include "device/registry.h"
#include "host/executors.h"
#include "tests/core/walk_support.h"
#include "tests/support/compare.h"

#include <gtest/gtest.h>

#include <limits>
#include <set>

namespace hipattn::core {
namespace {

constexpr uint32_t kBlock = 16;
constexpr uint32_t kDim = 64;
constexpr float kScale = 0.125F;

// Keys and values of one kv head in a pool and in plain arrays, attended by one head.
class SmallText {
 public:
  SmallText(uint32_t num_tokens, uint64_t seed)
      : pool_({DType::kF32, kDim, kBlock}, CeilDiv(num_tokens, kBlock), seed) {
    Random random(seed);
    keys_ = random.Normals(size_t{num_tokens} * kDim);
    values_ = random.Normals(size_t{num_tokens} * kDim);
    Store(keys_);
  }

  // Replaces the stored keys.
  void Store(const std::vector<float>& keys) {
    for (uint32_t token = 0; token < keys.size() / kDim; ++token) {
      if (token / kBlock == slots_.size()) {
        slots_.push_back(pool_.TakeSlot());
      }
      pool_.SetToken(slots_[token / kBlock],
                     token % kBlock,
                     keys.data() + size_t{token} * kDim,
                     values_.data() + size_t{token} * kDim);
    }
  }

  const device::BlockPool& pool() const { return pool_.pool(); }
  const std::vector<uint32_t>& slots() const { return slots_; }
  const std::vector<float>& keys() const { return keys_; }

  std::vector<device::KvRange> Ranges(std::span<const TokenRange> ranges) const {
    std::vector<device::KvRange> out;
    for (const TokenRange& range : ranges) {
      const auto block = static_cast<size_t>(range.begin / kBlock);
      const auto start = static_cast<int64_t>(block) * kBlock;
      out.push_back({slots_[block],
                     static_cast<uint16_t>(range.begin - start),
                     static_cast<uint16_t>(range.end - start)});
    }
    return out;
  }

  // out and, behind it, the lse of exact softmax attention over the tokens of a mask, in f64.
  std::vector<float> Dense(const std::vector<float>& q, const std::vector<bool>& mask) const {
    std::vector<double> sum(kDim);
    double total = 0;
    double top = -std::numeric_limits<double>::infinity();
    for (int pass = 0; pass < 2; ++pass) {
      for (size_t t = 0; t < mask.size(); ++t) {
        if (!mask[t]) {
          continue;
        }
        double score = 0;
        for (size_t d = 0; d < kDim; ++d) {
          score += double{q[d]} * keys_[t * kDim + d] * double{kScale};
        }
        if (pass == 0) {
          top = std::max(top, score);
          continue;
        }
        total += std::exp(score - top);
        for (size_t d = 0; d < kDim; ++d) {
          sum[d] += std::exp(score - top) * values_[t * kDim + d];
        }
      }
    }
    std::vector<float> result;
    for (const double x : sum) {
      result.push_back(total > 0 ? static_cast<float>(x / total) : 0.0F);
    }
    result.push_back(static_cast<float>(top + (total > 0 ? std::log(total) : 0)));
    return result;
  }

 private:
  testing::KvPool pool_;
  std::vector<uint32_t> slots_;
  std::vector<float> keys_;
  std::vector<float> values_;
};

device::OpContext Context() {
  static const std::unique_ptr<device::Executor> executor = host::CreateExecutor(1);
  return {executor.get(), nullptr};
}

// out and lse by sparse_decode.
std::vector<float> Attend(const device::OpTable& table,
                          const SmallText& text,
                          std::span<const TokenRange> tokens,
                          const std::vector<float>& q) {
  const std::vector<device::KvRange> ranges = text.Ranges(tokens);
  const auto num_ranges = static_cast<uint32_t>(ranges.size());
  std::vector<float> result(kDim + 1);
  const testing::AlignedBytes workspace(device::DecodeWorkspaceFloats(num_ranges, 1, kDim) *
                                        sizeof(float));
  const device::DecodeJob job{
      ranges.data(), nullptr, num_ranges, 0, q.data(), result.data(), result.data() + kDim};
  table.sparse_decode(Context(),
                      {text.pool(), &job, 1, 1, kScale, 0.0F, DType::kF32, workspace.floats()});
  return result;
}

std::vector<float> Merge(const device::OpTable& table,
                         std::vector<float> a,
                         const std::vector<float>& b) {
  device::MergeParams params{};
  params.num_rows = 1;
  params.head_dim = kDim;
  params.o_a = a.data();
  params.lse_a = a.data() + kDim;
  params.o_b = b.data();
  params.lse_b = b.data() + kDim;
  params.o = a.data();
  params.lse = a.data() + kDim;
  table.merge_states(Context(), params);
  return a;
}

std::vector<TokenRange> Inside(std::span<const TokenRange> ranges, int64_t begin, int64_t end) {
  std::vector<TokenRange> inside;
  for (const TokenRange& range : ranges) {
    const TokenRange part{std::max(range.begin, begin), std::min(range.end, end)};
    if (part.begin < part.end) {
      inside.push_back(part);
    }
  }
  return inside;
}

TEST(Acceptance, T2_EveryVisibleKeyIsInExactlyOneClass) {
  Random random(1);
  for (int trial = 0; trial < 2000; ++trial) {
    const int64_t pos = random.Below(90);
    const int64_t kv_len = random.Below(100);
    const PartitionSizes sizes{random.Below(40), random.Below(40)};
    const Partition part = SplitPartition(pos, kv_len, sizes);
    for (int64_t t = 0; t < kv_len; ++t) {
      const bool visible = t <= pos;
      const bool near = pos - t < sizes.window_tokens;
      ASSERT_EQ(t < part.sink_end, visible && !near && t < sizes.sink_tokens);
      ASSERT_EQ(t >= part.sink_end && t < part.window_begin,
                visible && !near && t >= sizes.sink_tokens);
      ASSERT_EQ(t >= part.window_begin && t < part.end, visible && near);
    }
  }
}

// Rounding: three merges of f32 states, each a few roundoffs; lse is of order log(tokens).
TEST(Acceptance, T2_MergedPartsOfTheClassesEqualOnePass) {
  Random random(2);
  const SmallText text(700, 3);
  for (const device::OpTable* table : device::CpuOpTables()) {
    for (int trial = 0; trial < 30; ++trial) {
      const Partition part =
          SplitPartition(random.Below(700), 700, {random.Below(80), random.Below(200)});
      std::vector<int32_t> leaves;
      for (int i = 0; i < 10; ++i) {
        leaves.push_back(static_cast<int32_t>(random.Below(700 / 8)));
      }
      const std::vector<float> q = random.Normals(kDim);
      std::vector<TokenRange> all;
      PlanRow(part, {leaves, 8}, kBlock, &all);
      std::vector<float> merged =
          Merge(*table,
                Attend(*table, text, Inside(all, 0, part.sink_end), q),
                Attend(*table, text, Inside(all, part.sink_end, part.window_begin), q));
      merged =
          Merge(*table, merged, Attend(*table, text, Inside(all, part.window_begin, part.end), q));
      EXPECT_TRUE(testing::Near(merged, Attend(*table, text, all, q), {1e-5, 1e-5})) << table->name;
    }
  }
}

TEST(Acceptance, T3_AnyLeafListEqualsDenseUnderTheSameMask) {
  Random random(4);
  const SmallText text(600, 5);
  for (const device::OpTable* table : device::CpuOpTables()) {
    for (int trial = 0; trial < 30; ++trial) {
      const uint32_t leaf = 2U << random.Below(6);
      const Partition part =
          SplitPartition(random.Below(600), 600, {random.Below(40), random.Below(100)});
      std::vector<int32_t> leaves;
      for (int i = 0; i < 12; ++i) {
        leaves.push_back(static_cast<int32_t>(random.Below(600 / leaf)));
        leaves.push_back(leaves[random.Below(static_cast<uint32_t>(leaves.size()))]);
      }
      std::vector<bool> mask(600);
      for (int64_t t = 0; t < part.end; ++t) {
        const bool listed =
            std::count(leaves.begin(), leaves.end(), static_cast<int32_t>(t / leaf)) > 0;
        mask[static_cast<size_t>(t)] = t < part.sink_end || t >= part.window_begin || listed;
      }
      const std::vector<float> q = random.Normals(kDim);
      std::vector<TokenRange> ranges;
      PlanRow(part, {leaves, leaf}, kBlock, &ranges);
      const std::vector<float> got = Attend(*table, text, ranges, q);
      EXPECT_TRUE(testing::Near(got, text.Dense(q, mask), {1e-5, 1e-5})) << table->name;
      random.Shuffle(&leaves);
      PlanRow(part, {leaves, leaf}, kBlock, &ranges);
      EXPECT_TRUE(testing::SameBits(got, Attend(*table, text, ranges, q))) << table->name;
    }
  }
}

// As amended by SPEC D25, D35: a window below the first chunk is fine, 777 is an ordinary one.
TEST(Acceptance, T8_BadConfigurationsAreRejected) {
  const auto staged = [](std::vector<Stage> stages, uint32_t window = 1024) {
    return ValidateStaged({std::move(stages), 16, window}).ok();
  };
  EXPECT_TRUE(staged({{64, 4, 256, 32768}, {64, 4, 32, 8192}, {64, 1, 8, 2048}}, 777));
  EXPECT_TRUE(staged({{64, 4, 256, 32768}}, 64)) << "window below the chunk";
  EXPECT_FALSE(staged({}));
  EXPECT_FALSE(staged({{64, 4, 48, 480}})) << "no power of two";
  EXPECT_FALSE(staged({{64, 4, 64, 100}})) << "keep is no multiple of the chunk";
  EXPECT_FALSE(staged({{64, 4, 64, 0}}));
  EXPECT_FALSE(staged({{64, 4, 64, 640}, {64, 1, 128, 128}})) << "chunk grows";
  EXPECT_FALSE(staged({{64, 4, 64, 640}, {64, 1, 8, 648}})) << "keep grows";
  EXPECT_FALSE(staged({{64, 4, 64, 640}, {32, 1, 8, 64}})) << "block_q differs";
  EXPECT_FALSE(staged({{64, 65, 64, 640}})) << "stride above block_q";
  EXPECT_FALSE(staged({{64, 0, 64, 640}}));
  EXPECT_FALSE(staged({{64, 4, 64, 640}}, 63)) << "window below block_q";
  const BeamConfig good{{64, 2, 16, 777}, 2, 512, 16, 1, Representative::kCenter};
  EXPECT_TRUE(ValidateBeam(good).ok());
  const auto beam = [&](auto change) {
    BeamConfig config = good;
    change(&config);
    return ValidateBeam(config).ok();
  };
  EXPECT_FALSE(beam([](BeamConfig* c) { c->leaf_tokens = 3; }));
  EXPECT_FALSE(beam([](BeamConfig* c) { c->budget_tokens = 520; }));
  EXPECT_FALSE(beam([](BeamConfig* c) { c->budget_tokens = 0; }));
  EXPECT_FALSE(beam([](BeamConfig* c) { c->key_stride = 3; }));
  EXPECT_FALSE(beam([](BeamConfig* c) { c->block_tokens = 0; }));
  EXPECT_FALSE(beam([](BeamConfig* c) { c->representative = Representative{}; }));
  EXPECT_FALSE(beam([](BeamConfig* c) { c->rows.query_stride = 65; }));
  EXPECT_FALSE(beam([](BeamConfig* c) { c->rows.window_tokens = 63; }));
  EXPECT_FALSE(beam([](BeamConfig* c) { c->rows.sink_tokens = UINT32_MAX; })) << "-1 in a caller";
  for (const std::vector<uint32_t>& intervals :
       std::vector<std::vector<uint32_t>>{{}, {16, 6, 4}, {8, 16}, {0}}) {
    EXPECT_FALSE(ValidateIntervals(intervals).ok());
  }
}

TEST(Acceptance, T19_RelativeScansIgnoreAbsolutePositions) {
  Random random(6);
  const Extension extension{128, ScanMode::kRelative};
  const StagedConfig config{{{8, 1, 64, 256}, {8, 1, 8, 64}}, 0, 96};
  const std::vector<float> scores = random.Normals(2000);
  StagedWalk near;
  near.Begin(config, extension, {0, 1900, 2000, 8});
  StagedWalk far;
  far.Begin(config, extension, {0, 1900, 900000, 8});
  while (!near.done()) {
    ASSERT_FALSE(far.done());
    EXPECT_EQ(near.pending().tokens, far.pending().tokens);
    EXPECT_EQ(near.pending().key_pos, far.pending().key_pos);
    EXPECT_EQ(near.pending().row_pos, far.pending().row_pos);
    std::vector<float> batch;
    for (const uint32_t token : near.pending().tokens) {
      batch.push_back(scores[token]);
    }
    near.Accept(batch);
    far.Accept(batch);
  }
  EXPECT_EQ(Copy(near.leaves()), Copy(far.leaves()));
}

TEST(Acceptance, T19_SelectedSlotsEndBeforeTheWindowAndStayNear) {
  Random random(7);
  for (int trial = 0; trial < 300; ++trial) {
    const PartitionSizes sizes{random.Below(30), 64 + random.Below(64)};
    const int64_t first = 900000 + random.Below(1000);
    const int64_t rows = 1 + random.Below(64);
    std::vector<int32_t> leaves;
    for (int i = 0; i < 20; ++i) {
      leaves.push_back(static_cast<int32_t>(random.Below(100000)));
    }
    const Partition last = SplitPartition(first + rows - 1, first + rows, sizes);
    const int64_t f = first - sizes.window_tokens + 1;
    std::vector<TokenRange> ranges;
    std::vector<int64_t> positions;
    PlanExtendedRow({last, last, sizes.sink_tokens, f}, {leaves, 8}, kBlock, &ranges, &positions);
    int64_t next = positions[0];
    int64_t far_tokens = 0;
    for (size_t i = 0; ranges[i].begin < last.window_begin; ++i) {
      EXPECT_EQ(positions[i], next) << "contiguous";
      next += ranges[i].end - ranges[i].begin;
      far_tokens += ranges[i].end - ranges[i].begin;
    }
    EXPECT_EQ(next, f) << "ending just before the first row's window";
    EXPECT_LE(first + rows - 1 - positions[0], far_tokens + sizes.window_tokens + rows);
  }
}

// The angle is the same f64 number on both ways; what differs is the order of f32 sums of 64
// products.
TEST(Acceptance, T20_KeysTurnedWhileReadEqualKeysStoredTurned) {
  const uint32_t tokens = 300;
  for (const device::OpTable* table : device::CpuOpTables()) {
    for (const RopeLayout layout : {RopeLayout::kHalf, RopeLayout::kInterleaved}) {
      for (const uint32_t dim : {64U, 32U, 24U}) {  // all dimensions, and parts of them
        SmallText text(tokens, 8);
        const std::vector<double> inv_freq = RopeInvFreq(dim, 10000.0);
        const device::Rope rope{static_cast<uint32_t>(layout), dim, inv_freq.data()};
        Random random(9);
        const std::vector<float> q = random.Normals(kDim);
        std::vector<TokenRange> all;
        PlanRow({0, 0, tokens}, {{}, kBlock}, kBlock, &all);
        const std::vector<device::KvRange> ranges = text.Ranges(all);
        std::vector<int64_t> positions;
        for (const TokenRange& range : all) {
          positions.push_back(range.begin);
        }
        std::vector<float> got(kDim + 1);
        const device::RotatedJob job{ranges.data(),
                                     positions.data(),
                                     static_cast<uint32_t>(ranges.size()),
                                     tokens - 1,
                                     q.data(),
                                     got.data(),
                                     got.data() + kDim};
        table->attend_rotated(Context(),
                              {text.pool(), rope, &job, 1, 1, kScale, 0.0F, DType::kF32});
        std::vector<float> turned = text.keys();
        for (uint32_t token = 0; token < tokens; ++token) {
          ApplyRope(layout, inv_freq, token, std::span(turned).subspan(size_t{token} * kDim, kDim));
        }
        std::vector<float> turned_q = q;
        ApplyRope(layout, inv_freq, tokens - 1, turned_q);
        text.Store(turned);
        EXPECT_TRUE(testing::Near(got, Attend(*table, text, all, turned_q), {1e-5, 1e-5}))
            << table->name << ", layout " << static_cast<uint32_t>(layout) << ", dim " << dim;
      }
    }
  }
}

}  // namespace
}  // namespace hipattn::core
