// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Texts whose blocks lie in the host tier beside the same texts with everything resident: every bit
// of every output is the same, whatever the device budget, from the least that hipattn_memory_need
// names upward.
#include "tests/engine/batch_fixture.h"
#include "tests/support/temporary_folder.h"

#include <utility>

namespace hipattn::test {
namespace {

constexpr Geometry kGeometry = {4, 2, 64};

// Dense prefill and every decode step go through the least of budgets in parts.
hipattn_attention_options_t Attention() {
  hipattn_attention_options_t options = SparseOptions(256, 32, 64);
  options.prefill_mode = HIPATTN_PREFILL_DENSE;
  return options;
}

struct TierCase {
  hipattn_engine_options_t engine = EngineOptionsOf(kGeometry, HIPATTN_BF16, 2, 2);
  hipattn_attention_options_t attention = Attention();
  uint64_t tokens = 3000;  // read by prefill
  uint64_t chunk = 700;
  uint64_t steps = 20;
  uint64_t host_kv_bytes = uint64_t{64} << 20;
};

hipattn_memory_need_t NeedOf(const TierCase& test, uint64_t tokens, uint32_t num_sequences = 1) {
  hipattn_engine_options_t engine = test.engine;
  engine.host_kv_bytes = test.host_kv_bytes;
  hipattn_memory_need_t need = HIPATTN_MEMORY_NEED_INIT;
  EXPECT_EQ(hipattn_memory_need(&engine, &test.attention, tokens, num_sequences, &need), HIPATTN_OK)
      << hipattn_last_error_message();
  return need;
}

// device_kv_bytes 0: everything resident, without tiers.
hipattn_engine_options_t WithBudget(const TierCase& test, uint64_t device_kv_bytes) {
  hipattn_engine_options_t engine = test.engine;
  if (device_kv_bytes != 0) {
    engine.device_kv_bytes = device_kv_bytes;
    engine.host_kv_bytes = test.host_kv_bytes;
  } else {
    engine.disk_kv_bytes = 0;
    engine.disk_path = nullptr;
  }
  return engine;
}

// All rows of a text that is prefilled and then decoded, layer by layer.
std::vector<Rows> RunText(const TierCase& test, uint64_t device_kv_bytes, hipattn_stats_t* stats) {
  Engine engine(WithBudget(test, device_kv_bytes));
  Sequence sequence(engine, test.attention);
  std::vector<Rows> all;
  const auto call = [&](uint32_t layer, uint64_t at, uint64_t count, uint32_t phase) {
    all.push_back(MakeRows(kGeometry, 7, layer, at, count));
    ASSERT_EQ(TryAttend(engine, sequence, layer, all.back(), phase), HIPATTN_OK)
        << hipattn_last_error_message();
  };
  for (uint64_t at = 0; at < test.tokens; at += test.chunk) {
    for (uint32_t layer = 0; layer < test.engine.num_layers; ++layer) {
      call(layer, at, std::min(test.chunk, test.tokens - at), kPrefill);
    }
  }
  for (uint64_t step = 0; step < test.steps; ++step) {
    for (uint32_t layer = 0; layer < test.engine.num_layers; ++layer) {
      call(layer, test.tokens + step, 1, kDecode);
    }
  }
  *stats = engine.Stats();
  if (device_kv_bytes != 0) {
    EXPECT_LE(stats->device_bytes_peak, device_kv_bytes);
  }
  return all;
}

constexpr uint64_t kSlab = uint64_t{256} << 10;  // docs/offload.md

enum class Budgets { kLeast, kAll };

void ExpectSameText(const TierCase& test, Budgets budgets = Budgets::kLeast) {
  hipattn_stats_t stats = HIPATTN_STATS_INIT;
  const std::vector<Rows> want = RunText(test, 0, &stats);
  EXPECT_EQ(stats.blocks_fetched, 0U);
  const hipattn_memory_need_t need = NeedOf(test, test.tokens + test.steps);
  EXPECT_LT(need.device_bytes_min, need.device_bytes_full);
  std::vector<uint64_t> all = {need.device_bytes_min};
  if (budgets == Budgets::kAll) {
    all = {need.device_bytes_min,
           need.device_bytes_min + kSlab,
           (need.device_bytes_min + need.device_bytes_full) / 2,
           need.device_bytes_full};
  }
  for (const uint64_t budget : all) {
    SCOPED_TRACE(::testing::Message() << "device_kv_bytes " << budget);
    const std::vector<Rows> got = RunText(test, budget, &stats);
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < want.size(); ++i) {
      SCOPED_TRACE(::testing::Message() << "call " << i);
      ExpectSameRows(got[i], want[i]);
      if (::testing::Test::HasFailure()) {
        return;
      }
    }
    EXPECT_LE(stats.host_bytes, need.host_bytes);
    if (budget == need.device_bytes_full) {
      EXPECT_EQ(stats.blocks_fetched, 0U);
    } else if (budget == need.device_bytes_min) {
      EXPECT_GT(stats.blocks_fetched, 0U);
      EXPECT_GT(stats.blocks_evicted, 0U);
    }
    // Every block that got full moved to its home once.
    const uint64_t block_bytes = 2 * 16 * 64 * 2;
    EXPECT_EQ(stats.bytes_device_to_host,
              (test.tokens + test.steps) / 16 * block_bytes * 2 * test.engine.num_layers);
    EXPECT_EQ(stats.bytes_host_to_device, stats.blocks_fetched * block_bytes);
  }
}

TEST(Tiers, TreeSearch) {
  ExpectSameText({}, Budgets::kAll);
}

TEST(Tiers, SketchesAndAudits) {
  TierCase test;
  test.attention.rerank_tokens = 512;
  test.attention.audit_interval = 4;
  test.attention.budget_tokens = 128;
  ExpectSameText(test);
}

TEST(Tiers, MinRecallAndVerifyRecall) {
  TierCase test;
  test.attention.rerank_tokens = 512;
  test.attention.min_recall = 0.9F;
  test.attention.verify_recall = 1;
  test.steps = 5;
  ExpectSameText(test);
}

TEST(Tiers, DenseDecodeGoesThroughATextLargerThanTheDevice) {
  TierCase test;
  test.attention.decode_mode = HIPATTN_DECODE_DENSE;
  ExpectSameText(test, Budgets::kAll);
}

TEST(Tiers, OneChunkLargerThanTheDevice) {
  TierCase test;
  test.chunk = 4000;  // rows in two slices
  test.tokens = 4000;
  test.steps = 3;
  ExpectSameText(test);
}

TEST(Tiers, Searches) {
  for (const uint32_t search : {HIPATTN_SEARCH_FLAT, HIPATTN_SEARCH_STAGED, HIPATTN_SEARCH_BEAM}) {
    SCOPED_TRACE(search);
    TierCase test;
    test.attention.search = search;
    test.attention.rerank_tokens = 0;
    test.steps = 5;
    test.tokens = 2000;
    ExpectSameText(test);
  }
}

TEST(Tiers, Scorers) {
  for (const uint32_t scorer : {HIPATTN_SCORER_REPRESENTATIVE,
                                HIPATTN_SCORER_FIRST,
                                HIPATTN_SCORER_LAST,
                                HIPATTN_SCORER_EXACT}) {
    SCOPED_TRACE(scorer);
    TierCase test;
    test.attention.scorer = scorer;
    test.steps = 3;
    test.tokens = 2000;
    ExpectSameText(test);
  }
}

TEST(Tiers, PrefillModes) {
  for (const uint32_t mode : {HIPATTN_PREFILL_AUTO,
                              HIPATTN_PREFILL_A_SHAPE,
                              HIPATTN_PREFILL_VERTICAL_SLASH,
                              HIPATTN_PREFILL_BLOCK_SPARSE,
                              HIPATTN_PREFILL_HIP,
                              HIPATTN_PREFILL_FLEX,
                              HIPATTN_PREFILL_XATTENTION,
                              HIPATTN_PREFILL_FLASH_V2}) {
    SCOPED_TRACE(mode);
    TierCase test;
    test.attention.prefill_mode = mode;
    test.attention.window_tokens = 128;
    test.chunk = 2048;
    test.tokens = 6144;
    test.steps = 1;
    test.engine.num_layers = 1;
    ExpectSameText(test);
  }
}

// Of the estimate's two segments one keeps its scores, and the other is read again.
TEST(Tiers, EstimatesThatReadKeysTwice) {
  TierCase test;
  test.attention.prefill_mode = HIPATTN_PREFILL_VERTICAL_SLASH;
  test.attention.prefill_last_q = 512;
  test.attention.prefill_sizes[0] = 100;
  test.attention.prefill_sizes[1] = 200;
  test.chunk = 2048;
  test.tokens = 6144;
  test.steps = 1;
  test.engine.num_layers = 1;
  ExpectSameText(test);
}

// The last rows' tiles name 330 panels each, more than the device has room for.
TEST(Tiers, MasksThatNameMoreThanTheDeviceHolds) {
  TierCase test;
  test.attention.prefill_mode = HIPATTN_PREFILL_A_SHAPE;
  test.attention.window_tokens = 5200;
  test.chunk = 2048;
  test.tokens = 6144;
  test.steps = 1;
  test.engine.num_layers = 1;
  const hipattn_memory_need_t need = NeedOf(test, test.tokens + test.steps);
  // docs/offload.md: 256 blocks of 4 KB, a last block per head, in slabs of 256 KB.
  EXPECT_EQ(need.device_bytes_min - need.device_index_bytes, 5 * kSlab);
  ExpectSameText(test);
}

TEST(Tiers, PositionsBeyondTheTrainedLength) {
  TierCase test;
  test.engine.rope_mode = 1;
  test.engine.rope_theta = 10000;
  test.engine.trained_tokens = 700;
  test.engine.num_layers = 1;
  test.attention.budget_tokens = 64;
  test.attention.search = HIPATTN_SEARCH_STAGED;
  test.attention.rerank_tokens = 0;
  test.tokens = 1100;
  test.chunk = 1000;
  test.steps = 3;
  ExpectSameText(test);
}

// A host tier of one slab, what is beyond it on disk: no byte more than is needed there, and room
// for blocks that move between the two.
TEST(Tiers, Disk) {
  TierCase test;
  hipattn_stats_t stats = HIPATTN_STATS_INIT;
  const std::vector<Rows> want = RunText(test, 0, &stats);
  const TemporaryFolder folder;
  const std::string path = folder.Path(".");
  test.engine.disk_path = path.c_str();
  test.engine.disk_kv_bytes = uint64_t{16} << 20;
  // Half of it is kept for the index.
  test.host_kv_bytes = uint64_t{4400} << 10;
  const hipattn_memory_need_t roomy = NeedOf(test, test.tokens + test.steps);
  for (const uint64_t disk_bytes : {uint64_t{16} << 20, roomy.disk_bytes}) {
    test.engine.disk_kv_bytes = disk_bytes;
    const hipattn_memory_need_t need = NeedOf(test, test.tokens + test.steps);
    EXPECT_GT(need.disk_bytes, 0U);
    EXPECT_LE(need.disk_bytes, disk_bytes);
    const std::vector<Rows> got = RunText(test, need.device_bytes_min, &stats);
    for (size_t i = 0; i < want.size(); ++i) {
      ExpectSameRows(got[i], want[i]);
    }
    EXPECT_GE(stats.disk_bytes, need.disk_bytes);
    EXPECT_LE(stats.disk_bytes, disk_bytes);
    EXPECT_LE(stats.host_bytes, need.host_bytes);
    EXPECT_LE(need.host_bytes, test.host_kv_bytes);
    EXPECT_GT(stats.bytes_disk_read, 0U);
    EXPECT_GT(stats.bytes_disk_written, 0U);
    EXPECT_EQ(folder.NumFiles(), 0U);
  }
  test.engine.disk_kv_bytes = uint64_t{16} << 20;
  test.host_kv_bytes = 0;  // a disk alone: all of the index is on the device
  const hipattn_memory_need_t alone = NeedOf(test, test.tokens + test.steps);
  EXPECT_GT(alone.device_index_bytes, roomy.device_index_bytes);
  EXPECT_EQ(alone.host_bytes, 0U);
  const std::vector<Rows> all = RunText(test, alone.device_bytes_min, &stats);
  for (size_t i = 0; i < want.size(); ++i) {
    ExpectSameRows(all[i], want[i]);
  }
  EXPECT_EQ(stats.host_bytes, 0U);
}

TEST(Tiers, OtherBlocksAndTypes) {
  for (const uint32_t block_tokens : {32U, 64U}) {
    TierCase test;
    test.engine.block_tokens = block_tokens;
    test.engine.num_threads = block_tokens == 32 ? 1 : 3;
    hipattn_stats_t stats = HIPATTN_STATS_INIT;
    const std::vector<Rows> want = RunText(test, 0, &stats);
    const std::vector<Rows> got =
        RunText(test, NeedOf(test, test.tokens + test.steps).device_bytes_min, &stats);
    for (size_t i = 0; i < want.size(); ++i) {
      ExpectSameRows(got[i], want[i]);
    }
    EXPECT_GT(stats.blocks_fetched, 0U);
  }
}

class TiersBatch : public ::testing::TestWithParam<uint32_t> {};
INSTANTIATE_TEST_SUITE_P(Texts, TiersBatch, ::testing::Values(1, 2, 8));

// T26: several texts, some decoding and some prefilling, in every call.
TEST_P(TiersBatch, T26_SharesTheBudget) {
  const uint32_t num_texts = GetParam();
  TierCase test;
  test.attention.rerank_tokens = 512;
  const auto run = [&](uint64_t device_kv_bytes) {
    Engine engine(WithBudget(test, device_kv_bytes));
    std::vector<Sequence> sequences;
    for (size_t i = 0; i < num_texts; ++i) {
      sequences.emplace_back(engine, test.attention);
    }
    std::vector<Floats> outs;
    std::vector<uint64_t> lengths(num_texts, 0);
    for (uint32_t step = 0; step < 24; ++step) {
      std::vector<BatchPart> parts;
      for (uint32_t i = 0; i < num_texts; ++i) {
        const uint32_t count = (step + i) % 3 == 0 ? 150 + 400 / num_texts * i : 1;
        parts.push_back({sequences[i].get(), i, lengths[i], count});
        lengths[i] += count;
      }
      for (uint32_t layer = 0; layer < 2; ++layer) {
        outs.push_back(AttendBatch(engine, kGeometry, layer, parts));
      }
    }
    const hipattn_stats_t stats = engine.Stats();
    EXPECT_EQ(stats.blocks_fetched > 0, device_kv_bytes != 0);
    return outs;
  };
  const std::vector<Floats> want = run(0);
  const std::vector<Floats> got = run(NeedOf(test, 4000, num_texts).device_bytes_min);
  for (size_t i = 0; i < want.size(); ++i) {
    ExpectSameBits(got[i], want[i], "out");
  }
}

TEST(Tiers, TooLittleIsRefusedAndChangesNothing) {
  const TierCase test;
  const hipattn_memory_need_t need = NeedOf(test, 2048);
  Engine engine(WithBudget(test, need.device_bytes_min - kSlab));
  Sequence sequence(engine, test.attention);
  EXPECT_EQ(hipattn_sequence_reserve(sequence.get(), 2048), HIPATTN_OUT_OF_BUDGET);
  EXPECT_NE(std::string(hipattn_last_error_message()).find("device_kv_bytes"), std::string::npos);
  Rows rows = MakeRows(kGeometry, 1, 0, 0, 2048);
  EXPECT_EQ(TryAttend(engine, sequence, 0, rows, kPrefill), HIPATTN_OUT_OF_BUDGET);
  EXPECT_EQ(rows.out[0], Rows::kUnset);
  EXPECT_EQ(engine.Stats().device_bytes, 0U);

  hipattn_engine_options_t options = WithBudget(test, NeedOf(test, 9000).device_bytes_min);
  options.host_kv_bytes = NeedOf(test, 9000).host_bytes / 2;
  Engine small(options);
  Sequence text(small, test.attention);
  Rows many = MakeRows(kGeometry, 1, 0, 0, 9000);
  EXPECT_EQ(TryAttend(small, text, 0, many, kPrefill), HIPATTN_OUT_OF_BUDGET);
  EXPECT_NE(std::string(hipattn_last_error_message()).find("host_kv_bytes"), std::string::npos);
  EXPECT_EQ(small.Stats().host_bytes, 0U);
  Rows few = MakeRows(kGeometry, 1, 0, 0, 32);
  EXPECT_EQ(TryAttend(small, text, 0, few, kPrefill), HIPATTN_OK);
}

// What was reserved can be had, whatever other texts took meanwhile.
TEST(Tiers, AReservationHolds) {
  TierCase test;
  const hipattn_memory_need_t need = NeedOf(test, 3000);
  Engine engine(WithBudget(test, need.device_bytes_min + (uint64_t{600} << 10)));
  Sequence reserved(engine, test.attention);
  ASSERT_EQ(hipattn_sequence_reserve(reserved.get(), 3000), HIPATTN_OK);
  std::vector<Sequence> others;
  Rows rows = MakeRows(kGeometry, 2, 0, 0, 1000);
  hipattn_status_t status = HIPATTN_OK;
  while (status == HIPATTN_OK && others.size() < 100) {
    others.emplace_back(engine, test.attention);
    status = TryAttend(engine, others.back(), 0, rows, kPrefill);
  }
  EXPECT_EQ(status, HIPATTN_OUT_OF_BUDGET);
  for (uint32_t layer = 0; layer < 2; ++layer) {
    for (uint64_t at = 0; at < 3000; at += 1000) {
      Rows mine = MakeRows(kGeometry, 3, layer, at, 1000);
      EXPECT_EQ(TryAttend(engine, reserved, layer, mine, kPrefill), HIPATTN_OK)
          << hipattn_last_error_message();
    }
  }
}

TEST(Tiers, ASnapshotComesBackIntoTheHostTier) {
  TierCase test;
  const TemporaryFolder folder;
  const std::string path = folder.Path("text.snapshot");
  const uint64_t least = NeedOf(test, 3100).device_bytes_min;
  Engine engine(WithBudget(test, least));
  Sequence text(engine, test.attention);
  for (uint32_t layer = 0; layer < 2; ++layer) {
    Feed(engine, text, kGeometry, 5, 0, 3003, {.chunk = 900, .layer = layer});
  }
  ASSERT_EQ(hipattn_sequence_save(text.get(), path.c_str(), "x", 1), HIPATTN_OK)
      << hipattn_last_error_message();
  for (const uint64_t budget : {least, uint64_t{0}}) {
    Engine other(WithBudget(test, budget));
    hipattn_sequence_t* loaded = nullptr;
    ASSERT_EQ(hipattn_sequence_load(other.get(), path.c_str(), "x", 1, &loaded), HIPATTN_OK)
        << hipattn_last_error_message();
    Engine resident(WithBudget(test, 0));
    Sequence want(resident, test.attention);
    for (uint32_t layer = 0; layer < 2; ++layer) {
      Feed(resident, want, kGeometry, 5, 0, 3003, {.chunk = 900, .layer = layer});
    }
    for (uint64_t at = 3003; at < 3030; ++at) {
      Rows got = MakeRows(kGeometry, 5, 1, at, 1);
      hipattn_attend_args_t args = HIPATTN_ATTEND_ARGS_INIT;
      const uint32_t count = 1;
      args.layer = 1;
      args.num_sequences = 1;
      args.sequences = &loaded;
      args.num_new_tokens = &count;
      args.q = got.q.data();
      args.k = got.k.data();
      args.v = got.v.data();
      args.out = got.out.data();
      args.lse = got.lse.data();
      ASSERT_EQ(hipattn_attend(other.get(), &args), HIPATTN_OK) << hipattn_last_error_message();
      ExpectSameRows(got, Decode(resident, want, kGeometry, 5, at, 1));
    }
    hipattn_sequence_destroy(loaded);
  }
}

}  // namespace
}  // namespace hipattn::test
