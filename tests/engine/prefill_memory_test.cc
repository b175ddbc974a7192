// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What prefill by masks takes beside keys, values, queries and results: P5 and P6 of the acceptance
// list in docs/testing.md, by counting what the program allocates, or where buffers are so large
// that they are mapped by what is in memory; and T18, that q heads of a group do not have keys of
// their own.
#include "tests/engine/counting_memory.h"
#include "tests/engine/engine_fixture.h"
#include "tests/support/resident_memory.h"
#include "tests/support/structured_head.h"

#include <gtest/gtest.h>

namespace hipattn::test {
namespace {

using hipattn::testing::HeadPlan;
using hipattn::testing::StructuredHead;

constexpr uint32_t kSeed = 91;
constexpr uint32_t kMasked[] = {HIPATTN_PREFILL_A_SHAPE,
                                HIPATTN_PREFILL_VERTICAL_SLASH,
                                HIPATTN_PREFILL_BLOCK_SPARSE,
                                HIPATTN_PREFILL_FLEX,
                                HIPATTN_PREFILL_XATTENTION,
                                HIPATTN_PREFILL_FLASH_V2};

hipattn_attention_options_t MaskOptions(uint32_t mode) {
  hipattn_attention_options_t options = HIPATTN_ATTENTION_OPTIONS_INIT;
  options.decode_mode = HIPATTN_DECODE_DENSE;
  options.prefill_mode = mode;
  if (mode == HIPATTN_PREFILL_A_SHAPE || mode == HIPATTN_PREFILL_VERTICAL_SLASH) {
    options.prefill_sizes[0] = 60;
    options.prefill_sizes[1] = 120;
  } else if (mode == HIPATTN_PREFILL_BLOCK_SPARSE) {
    options.prefill_sizes[0] = 8;
  }
  return options;
}

// The most that one chunk of `tokens` takes.
int64_t PeakOf(const Geometry& geometry, uint32_t mode, uint64_t tokens) {
  Engine engine(EngineOptionsOf(geometry, HIPATTN_BF16, 1, 2));
  Sequence sequence(engine, MaskOptions(mode));
  Rows rows = MakeRows(geometry, kSeed, 0, 0, tokens);
  const int64_t before = BeginCounting();
  EXPECT_EQ(TryAttend(engine, sequence, 0, rows, kPrefill), HIPATTN_OK)
      << hipattn_last_error_message();
  return MostInUse() - before;
}

// Four times the heads differ by their block tables and jobs, a few bytes each.
TEST(PrefillMemory, P6_DoesNotGrowWithTheNumberOfHeads) {
  constexpr uint64_t kTokens = 2304;
  constexpr int64_t kTables = 16 << 10;
  for (const uint32_t mode : kMasked) {
    const int64_t eight = PeakOf({8, 2, 32}, mode, kTokens);
    EXPECT_GT(eight, 8 << 10) << mode;
    EXPECT_LE(PeakOf({32, 8, 32}, mode, kTokens), eight + eight / 8 + kTables) << mode;
  }
}

// Eight q heads of one kv head take no copies of its keys: keys and values of one are 2304 tokens
// of 128 numbers in bf16 and f32 means of every 64, and eight copies of them would be 4.5 MB.
TEST(PrefillMemory, T18_HeadsOfAGroupShareTheirKeys) {
  constexpr uint64_t kTokens = 2304;
  constexpr int64_t kKeysBytes = int64_t{kTokens} * 2 * 64 * 2;
  for (const uint32_t mode : {HIPATTN_PREFILL_A_SHAPE, HIPATTN_PREFILL_BLOCK_SPARSE}) {
    EXPECT_LT(PeakOf({8, 1, 64}, mode, kTokens), 4 * kKeysBytes) << mode;
  }
}

// One head of a million tokens, in the label `long`: it finishes, and takes less than 2 GB (P6) and
// 64 MB: the estimate's sums and workspace, the selection's order, a slice's mask.
TEST(LongPrefillMemory, P5_AMillionTokensOfOneHead) {
  HeadPlan plan;
  plan.num_tokens = 1 << 20;
  plan.sink = 12;
  plan.num_columns = 500;
  plan.column = 9;
  plan.offsets = {0, 100000, 300000};
  plan.slash = 10;
  plan.slash_width = 2500;
  const StructuredHead head(plan);
  const Geometry geometry = {1, 1, StructuredHead::kDim};
  hipattn_engine_options_t engine_options = EngineOptionsOf(geometry, HIPATTN_BF16, 1, 2);
  engine_options.softmax_scale = 1;
  engine_options.device_kv_bytes = uint64_t{1} << 30;
  Engine engine(engine_options);
  hipattn_attention_options_t options = MaskOptions(HIPATTN_PREFILL_VERTICAL_SLASH);
  options.prefill_sizes[0] = 1000;
  options.prefill_sizes[1] = 6096;
  Sequence sequence(engine, options);
  std::vector<float> out(head.q().size());
  std::vector<float> lse(head.num_tokens());
  const int64_t before = hipattn::testing::BeginResident();
  engine.Attend<float>(
      0, sequence, {.q = head.q(), .k = head.k(), .v = head.v(), .out = out, .lse = lse});
  const int64_t most = hipattn::testing::MostResident() - before;
  const hipattn_stats_t stats = engine.Stats();
  const int64_t peak = most - static_cast<int64_t>(stats.device_bytes);
  const double density =
      static_cast<double>(stats.prefill_tiles) / static_cast<double>(stats.prefill_dense_tiles);
  const StructuredHead::RowMass last = head.Mass(head.num_tokens() - 1);
  const double recall = std::exp(lse.back() - last.lse);
  RecordProperty("peak_bytes", std::to_string(peak));
  RecordProperty("density", std::to_string(density));
  RecordProperty("recall_of_the_last_row", std::to_string(recall));
  RecordProperty("search_ns", std::to_string(stats.search_ns));
  RecordProperty("attend_ns", std::to_string(stats.attend_ns));
  EXPECT_LE(peak, int64_t{64} << 20);
  EXPECT_LT(density, 0.05);
  EXPECT_GT(recall, 0.8);
}

}  // namespace
}  // namespace hipattn::test
