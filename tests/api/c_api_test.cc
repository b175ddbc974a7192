// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What the C API promises beyond the values it computes: names, resolved options, lifetimes, memory
// need, statistics, threads.
#include "tests/api/api_fixture.h"

#include <cmath>
#include <cstring>
#include <utility>

namespace hipattn::test {
namespace {

TEST(CApi, StatusNames) {
  EXPECT_STREQ(hipattn_status_name(HIPATTN_OK), "HIPATTN_OK");
  EXPECT_STREQ(hipattn_status_name(HIPATTN_INVALID_ARGUMENT), "HIPATTN_INVALID_ARGUMENT");
  EXPECT_STREQ(hipattn_status_name(HIPATTN_OUT_OF_BUDGET), "HIPATTN_OUT_OF_BUDGET");
  EXPECT_STREQ(hipattn_status_name(HIPATTN_OUT_OF_MEMORY), "HIPATTN_OUT_OF_MEMORY");
  EXPECT_STREQ(hipattn_status_name(HIPATTN_UNSUPPORTED), "HIPATTN_UNSUPPORTED");
  EXPECT_STREQ(hipattn_status_name(HIPATTN_DEVICE_ERROR), "HIPATTN_DEVICE_ERROR");
  EXPECT_STREQ(hipattn_status_name(HIPATTN_IO_ERROR), "HIPATTN_IO_ERROR");
  EXPECT_STREQ(hipattn_status_name(HIPATTN_CORRUPT), "HIPATTN_CORRUPT");
  EXPECT_STREQ(hipattn_status_name(HIPATTN_MISMATCH), "HIPATTN_MISMATCH");
  EXPECT_STREQ(hipattn_status_name(HIPATTN_UNAVAILABLE), "HIPATTN_UNAVAILABLE");
  EXPECT_STREQ(hipattn_status_name(HIPATTN_DEADLINE), "HIPATTN_DEADLINE");
  EXPECT_STREQ(hipattn_status_name(HIPATTN_CANCELLED), "HIPATTN_CANCELLED");
  EXPECT_STREQ(hipattn_status_name(HIPATTN_INTERNAL), "HIPATTN_INTERNAL");
  for (const int32_t status : {-1, 13, INT32_MIN, INT32_MAX}) {
    EXPECT_STREQ(hipattn_status_name(status), "HIPATTN_UNKNOWN_STATUS");
  }
  EXPECT_EQ(hipattn_version(), uint32_t{HIPATTN_VERSION});
}

TEST(CApi, GetOptionsShowsWhatWasChosen) {
  hipattn_engine_options_t given = HIPATTN_ENGINE_OPTIONS_INIT;
  given.num_layers = 3;
  given.num_q_heads = 8;
  given.num_kv_heads = 2;
  given.head_dim = 128;
  given.rope_mode = 2;
  given.rope_theta = 5e5F;
  const EnginePtr engine = MakeEngine(given);
  hipattn_engine_options_t resolved = HIPATTN_ENGINE_OPTIONS_INIT;
  ASSERT_EQ(hipattn_engine_get_options(engine.get(), &resolved), HIPATTN_OK);
  EXPECT_EQ(resolved.struct_size, sizeof(resolved));
  EXPECT_EQ(resolved.device, uint32_t{HIPATTN_DEVICE_CPU});
  EXPECT_GE(resolved.num_threads, 1U);
  EXPECT_EQ(resolved.num_layers, 3U);
  EXPECT_EQ(resolved.block_tokens, 16U);
  EXPECT_EQ(resolved.io_dtype, uint32_t{HIPATTN_F32});
  EXPECT_EQ(resolved.kv_dtype, uint32_t{HIPATTN_BF16}) << "f32 is kept as bf16 unless asked";
  EXPECT_FLOAT_EQ(resolved.softmax_scale, 1.0F / std::sqrt(128.0F));
  EXPECT_EQ(resolved.rope_dim, 128U);
  EXPECT_EQ(resolved.rope_inv_freq, nullptr);
  EXPECT_EQ(resolved.first_q_head, 0U);
  EXPECT_EQ(resolved.model_q_heads, resolved.num_q_heads);
  EXPECT_GT(resolved.device_kv_bytes, 0U);
  const EnginePtr again = MakeEngine(resolved);
  hipattn_engine_options_t twice = HIPATTN_ENGINE_OPTIONS_INIT;
  ASSERT_EQ(hipattn_engine_get_options(again.get(), &twice), HIPATTN_OK);
  EXPECT_EQ(std::memcmp(&resolved, &twice, sizeof(twice)), 0)
      << "resolved options are a fixed point";
}

TEST(CApi, DtypesThatAreAskedForAreKept) {
  for (const uint32_t io : {HIPATTN_F32, HIPATTN_F16, HIPATTN_BF16}) {
    for (const uint32_t kv : {HIPATTN_DTYPE_DEFAULT, HIPATTN_F32, HIPATTN_F16, HIPATTN_BF16}) {
      hipattn_engine_options_t options = SmallEngine();
      options.io_dtype = io;
      options.kv_dtype = kv;
      const EnginePtr engine = MakeEngine(options);
      ASSERT_EQ(hipattn_engine_get_options(engine.get(), &options), HIPATTN_OK);
      EXPECT_EQ(options.io_dtype, io);
      const uint32_t by_default = io == HIPATTN_F32 ? uint32_t{HIPATTN_BF16} : io;
      EXPECT_EQ(options.kv_dtype, kv == HIPATTN_DTYPE_DEFAULT ? by_default : kv);
    }
  }
}

TEST(CApi, InverseFrequenciesAreCopied) {
  hipattn_engine_options_t options = SmallEngine();
  std::vector<float> frequencies(16, 0.25F);
  options.rope_mode = 1;
  options.rope_dim = 32;
  options.rope_inv_freq = frequencies.data();
  const EnginePtr engine = MakeEngine(options);
  frequencies.assign(16, 7.0F);
  ASSERT_EQ(hipattn_engine_get_options(engine.get(), &options), HIPATTN_OK);
  ASSERT_NE(options.rope_inv_freq, nullptr);
  EXPECT_NE(options.rope_inv_freq, frequencies.data());
  EXPECT_EQ(options.rope_inv_freq[15], 0.25F);
}

TEST(CApi, NullAttentionOptionsAreTheDefaults) {
  const EnginePtr engine = MakeEngine(SmallEngine());
  hipattn_attention_options_t defaults = HIPATTN_ATTENTION_OPTIONS_INIT;
  const SequencePtr with = MakeSequence(engine.get(), &defaults);
  const SequencePtr without = MakeSequence(engine.get());
  Arrays a(100, 1), b(100, 1);
  ASSERT_EQ(Step(engine.get(), with.get(), 0, 100, a), HIPATTN_OK) << LastError();
  ASSERT_EQ(Step(engine.get(), without.get(), 0, 100, b), HIPATTN_OK) << LastError();
  EXPECT_EQ(a.out.copy(), b.out.copy());
}

TEST(CApi, NoneIsAcceptedWhereItHasAMeaning) {
  const EnginePtr engine = MakeEngine(SmallEngine());
  hipattn_attention_options_t options = HIPATTN_ATTENTION_OPTIONS_INIT;
  options.sink_tokens = HIPATTN_NONE;
  options.rerank_tokens = HIPATTN_NONE;
  options.audit_interval = HIPATTN_NONE;
  options.decode_mode = HIPATTN_DECODE_SPARSE;
  options.budget_tokens = 16;
  options.window_tokens = 16;
  const SequencePtr sequence = MakeSequence(engine.get(), &options);
  Arrays prompt(64, 1), step(1, 2);
  ASSERT_EQ(Step(engine.get(), sequence.get(), 0, 64, prompt), HIPATTN_OK) << LastError();
  ASSERT_EQ(Step(engine.get(), sequence.get(), 0, 1, step), HIPATTN_OK) << LastError();
  uint32_t count = 0;
  ASSERT_EQ(hipattn_sequence_selection(sequence.get(), 0, 0, nullptr, 0, &count), HIPATTN_OK);
  EXPECT_LE(count, 4U) << "window (two blocks at most) and budget, no sinks";
}

TEST(CApi, TheEngineLivesUntilItsLastSequenceGoes) {
  EnginePtr engine = MakeEngine(SmallEngine());
  SequencePtr sequence = MakeSequence(engine.get());
  for (uint32_t layer = 0; layer < 2; ++layer) {
    Arrays arrays(5);
    ASSERT_EQ(Step(engine.get(), sequence.get(), layer, 5, arrays), HIPATTN_OK) << LastError();
  }
  engine.reset();
  EXPECT_EQ(hipattn_sequence_length(sequence.get()), 5U);
  hipattn_sequence_t* child = nullptr;
  ASSERT_EQ(hipattn_sequence_fork(sequence.get(), 3, &child), HIPATTN_OK);
  const SequencePtr owned(child);
  EXPECT_EQ(hipattn_sequence_truncate(sequence.get(), 1), HIPATTN_OK);
  EXPECT_EQ(hipattn_sequence_reserve(child, 100), HIPATTN_OK);
  sequence.reset();
  EXPECT_EQ(hipattn_sequence_length(child), 3U);
}

TEST(CApi, SelectionFillsWhatFits) {
  const EnginePtr engine = MakeEngine(SmallEngine());
  const SequencePtr sequence = MakeSequence(engine.get());
  uint32_t count = 99;
  ASSERT_EQ(hipattn_sequence_selection(sequence.get(), 0, 0, nullptr, 0, &count), HIPATTN_OK);
  EXPECT_EQ(count, 0U) << "no decode step yet";
  Arrays prompt(40), step(1);
  ASSERT_EQ(Step(engine.get(), sequence.get(), 0, 40, prompt), HIPATTN_OK) << LastError();
  ASSERT_EQ(Step(engine.get(), sequence.get(), 0, 1, step), HIPATTN_OK) << LastError();
  std::vector<int32_t> blocks(4, -7);
  ASSERT_EQ(hipattn_sequence_selection(sequence.get(), 0, 0, blocks.data(), 2, &count), HIPATTN_OK);
  EXPECT_EQ(count, 3U);
  EXPECT_EQ(blocks, (std::vector<int32_t>{0, 1, -7, -7}));
  ASSERT_EQ(hipattn_sequence_selection(sequence.get(), 0, 1, blocks.data(), 4, &count), HIPATTN_OK);
  EXPECT_EQ(blocks, (std::vector<int32_t>{0, 1, 2, -7})) << "all after a dense step";
  ASSERT_EQ(hipattn_sequence_selection(sequence.get(), 1, 0, nullptr, 0, &count), HIPATTN_OK);
  EXPECT_EQ(count, 0U) << "the other layer took no step";
}

TEST(CApi, RecallOfADenseStepIsWhole) {
  const EnginePtr engine = MakeEngine(SmallEngine());
  const SequencePtr sequence = MakeSequence(engine.get());
  Arrays prompt(40), step(1);
  ASSERT_EQ(Step(engine.get(), sequence.get(), 0, 40, prompt), HIPATTN_OK) << LastError();
  ASSERT_EQ(Step(engine.get(), sequence.get(), 0, 1, step), HIPATTN_OK) << LastError();
  hipattn_recall_t recall = HIPATTN_RECALL_INIT;
  ASSERT_EQ(hipattn_sequence_recall(sequence.get(), 0, 3, &recall), HIPATTN_OK);
  EXPECT_EQ(recall.mode, 0U);
  EXPECT_EQ(recall.estimate, 1.0F);
  EXPECT_TRUE(std::isnan(recall.audited_loss));
}

TEST(CApi, StatsCountAndReset) {
  const EnginePtr engine = MakeEngine(SmallEngine());
  hipattn_stats_t stats = HIPATTN_STATS_INIT;
  ASSERT_EQ(hipattn_engine_stats(engine.get(), &stats, 0), HIPATTN_OK);
  EXPECT_EQ(stats.device_bytes, 0U);
  EXPECT_TRUE(std::isnan(stats.recall_estimate)) << "no step yet";
  SequencePtr sequence = MakeSequence(engine.get());
  Arrays prompt(200), step(1);
  ASSERT_EQ(Step(engine.get(), sequence.get(), 0, 200, prompt), HIPATTN_OK) << LastError();
  ASSERT_EQ(Step(engine.get(), sequence.get(), 0, 1, step), HIPATTN_OK) << LastError();
  ASSERT_EQ(hipattn_engine_stats(engine.get(), &stats, 1), HIPATTN_OK);
  EXPECT_GT(stats.device_bytes, stats.device_index_bytes);
  EXPECT_GT(stats.device_index_bytes, 0U);
  EXPECT_GE(stats.device_bytes_peak, stats.device_bytes);
  EXPECT_EQ(stats.blocks_attended, 2U * 13U) << "13 blocks of each kv head";
  EXPECT_GT(stats.attend_ns, 0U);
  sequence.reset();
  ASSERT_EQ(hipattn_engine_stats(engine.get(), &stats, 1), HIPATTN_OK);
  EXPECT_EQ(stats.device_bytes, 0U) << "everything goes back";
  EXPECT_EQ(stats.blocks_attended, 0U);
  ASSERT_EQ(hipattn_engine_stats(engine.get(), &stats, 0), HIPATTN_OK);
  EXPECT_EQ(stats.device_bytes_peak, 0U);
}

// memory_need is what a program plans with: never less than what is used, and not much more.
TEST(CApi, MemoryNeedIsACloseUpperBound) {
  const struct {
    uint32_t head_dim, block_tokens, kv_dtype, search, scorer;
  } cases[] = {{64, 16, HIPATTN_BF16, 0, 0},
               {128, 16, HIPATTN_F32, 0, HIPATTN_SCORER_MEAN},
               {64, 32, HIPATTN_F16, HIPATTN_SEARCH_FLAT, HIPATTN_SCORER_BOUNDS},
               {80, 64, HIPATTN_BF16, HIPATTN_SEARCH_STAGED, 0},
               {64, 16, HIPATTN_BF16, 0, HIPATTN_SCORER_EXACT}};
  for (const auto& test : cases) {
    for (const uint32_t tokens : {1U, 17U, 1000U, 20000U}) {
      SCOPED_TRACE(testing::Message() << "head_dim " << test.head_dim << " tokens " << tokens);
      hipattn_engine_options_t options = SmallEngine();
      options.num_layers = 1;
      options.head_dim = test.head_dim;
      options.block_tokens = test.block_tokens;
      options.kv_dtype = test.kv_dtype;
      options.device_kv_bytes = uint64_t{1} << 30;
      hipattn_attention_options_t attention = HIPATTN_ATTENTION_OPTIONS_INIT;
      attention.search = test.search;
      attention.scorer = test.scorer;
      hipattn_memory_need_t need = HIPATTN_MEMORY_NEED_INIT;
      ASSERT_EQ(hipattn_memory_need(&options, &attention, tokens, 1, &need), HIPATTN_OK);
      const EnginePtr engine = MakeEngine(options);
      const SequencePtr sequence = MakeSequence(engine.get(), &attention);
      hipattn_sequence_t* handle = sequence.get();
      hipattn_attend_args_t args = HIPATTN_ATTEND_ARGS_INIT;
      Floats k(size_t{1000} * 2 * test.head_dim, 1.0F);
      args.num_sequences = 1;
      args.sequences = &handle;
      args.k = k.data();
      args.v = k.data();
      for (uint32_t done = 0, count = 0; done < tokens; done += count) {
        count = std::min(tokens - done, done == 0 ? 1U : 997U);  // grow in uneven steps
        args.num_new_tokens = &count;
        ASSERT_EQ(hipattn_attend(engine.get(), &args), HIPATTN_OK) << LastError();
      }
      hipattn_stats_t stats = HIPATTN_STATS_INIT;
      ASSERT_EQ(hipattn_engine_stats(engine.get(), &stats, 0), HIPATTN_OK);
      EXPECT_GE(need.device_bytes_full, stats.device_bytes_peak);
      EXPECT_LE(static_cast<double>(need.device_bytes_full),
                1.1 * static_cast<double>(stats.device_bytes) + 16384.0);
      EXPECT_GE(need.device_index_bytes, stats.device_index_bytes);
      EXPECT_EQ(need.device_bytes_full, need.kv_bytes_total + need.device_index_bytes);
      EXPECT_EQ(need.device_bytes_min, need.device_bytes_full);
      EXPECT_EQ(need.host_bytes + need.disk_bytes, 0U);
    }
  }
}

TEST(CApi, MemoryNeedGrowsWithEverythingAndOverflowIsAnError) {
  hipattn_engine_options_t options = SmallEngine();
  hipattn_attention_options_t attention = HIPATTN_ATTENTION_OPTIONS_INIT;
  const auto need_of = [&](uint64_t tokens, uint32_t sequences) {
    hipattn_memory_need_t need = HIPATTN_MEMORY_NEED_INIT;
    EXPECT_EQ(hipattn_memory_need(&options, &attention, tokens, sequences, &need), HIPATTN_OK)
        << LastError();
    return need;
  };
  const hipattn_memory_need_t one = need_of(100000, 1);
  EXPECT_EQ(one.kv_bytes_total, uint64_t{2} * 2 * 782 * 8 * 4096)
      << "2 layers, 2 heads, runs of 8 blocks";
  EXPECT_GT(one.device_index_bytes * 100, one.kv_bytes_total * 13);
  EXPECT_LE(one.device_index_bytes * 100, one.kv_bytes_total * 18)
      << "int8 summaries and sketches of 2 bits beside bf16 keys";
  attention.rerank_tokens = HIPATTN_NONE;
  EXPECT_LE(need_of(100000, 1).device_index_bytes * 100, one.kv_bytes_total * 8)
      << "int8 summaries alone";
  attention.rerank_tokens = 0;
  EXPECT_EQ(need_of(100000, 3).kv_bytes_total, 3 * one.kv_bytes_total);
  EXPECT_GT(need_of(1000000, 1).device_bytes_full, 9 * one.device_bytes_full);
  options.num_layers = 65536;
  options.num_q_heads = options.num_kv_heads = 2;
  hipattn_memory_need_t need = HIPATTN_MEMORY_NEED_INIT;
  EXPECT_EQ(hipattn_memory_need(&options, nullptr, INT32_MAX, UINT32_MAX, &need),
            HIPATTN_INVALID_ARGUMENT);
  EXPECT_NE(LastError().find("64 bits"), std::string::npos);
}

TEST(CApi, TheLogGoesToTheCallback) {
  hipattn_engine_options_t options = SmallEngine();
  std::vector<std::string> lines;
  options.log_user_data = &lines;
  options.log = [](void* user_data, int32_t level, const char* message) {
    EXPECT_GE(level, 0);
    EXPECT_LE(level, 5);
    static_cast<std::vector<std::string>*>(user_data)->emplace_back(message);
  };
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  MakeEngine(options);
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  EXPECT_FALSE(lines.empty()) << "an engine says what it chose";
}

}  // namespace
}  // namespace hipattn::test
