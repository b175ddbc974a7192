// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Every field of every option struct with every kind of wrong value: a typed error that names the
// field, and nothing made.
#include "tests/api/api_fixture.h"

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

namespace hipattn::test {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr uint32_t kHuge = UINT32_MAX;
constexpr float kFrequencies[32] = {1.0F, 0.5F, kNan};

using Engine = hipattn_engine_options_t;
using Attention = hipattn_attention_options_t;

struct EngineCase {
  const char* field;  // must stand in the message
  hipattn_status_t status;
  std::function<void(Engine&)> spoil;
};

const EngineCase kEngineCases[] = {
    {"struct_size is 0", HIPATTN_INVALID_ARGUMENT, [](Engine& o) { o.struct_size = 0; }},
    {"struct_size is 4", HIPATTN_INVALID_ARGUMENT, [](Engine& o) { o.struct_size = 4; }},
    {"struct_size is 159", HIPATTN_INVALID_ARGUMENT, [](Engine& o) { o.struct_size -= 1; }},
    {"struct_size is 4100", HIPATTN_INVALID_ARGUMENT, [](Engine& o) { o.struct_size = 4100; }},
    {"device is 3", HIPATTN_INVALID_ARGUMENT, [](Engine& o) { o.device = 3; }},
    {"device is 2", HIPATTN_UNSUPPORTED, [](Engine& o) { o.device = HIPATTN_DEVICE_CUDA; }},
    {"device_index is -1", HIPATTN_INVALID_ARGUMENT, [](Engine& o) { o.device_index = -1; }},
    {"device_index is 1", HIPATTN_INVALID_ARGUMENT, [](Engine& o) { o.device_index = 1; }},
    {"num_threads is 4294967295",
     HIPATTN_INVALID_ARGUMENT,
     [](Engine& o) { o.num_threads = kHuge; }},
    {"num_layers is 0", HIPATTN_INVALID_ARGUMENT, [](Engine& o) { o.num_layers = 0; }},
    {"num_layers is 4294967295", HIPATTN_INVALID_ARGUMENT, [](Engine& o) { o.num_layers = kHuge; }},
    {"num_q_heads is 0", HIPATTN_INVALID_ARGUMENT, [](Engine& o) { o.num_q_heads = 0; }},
    {"num_q_heads is 3", HIPATTN_INVALID_ARGUMENT, [](Engine& o) { o.num_q_heads = 3; }},
    {"num_q_heads is 1,", HIPATTN_INVALID_ARGUMENT, [](Engine& o) { o.num_q_heads = 1; }},
    {"num_q_heads is 4294967294",
     HIPATTN_INVALID_ARGUMENT,
     [](Engine& o) { o.num_q_heads = kHuge - 1; }},
    {"num_kv_heads is 0", HIPATTN_INVALID_ARGUMENT, [](Engine& o) { o.num_kv_heads = 0; }},
    {"num_kv_heads is 4294967295",
     HIPATTN_INVALID_ARGUMENT,
     [](Engine& o) { o.num_kv_heads = kHuge; }},
    {"num_layers 65536 times num_kv_heads 32",
     HIPATTN_INVALID_ARGUMENT,
     [](Engine& o) { o.num_layers = 65536, o.num_kv_heads = 32, o.num_q_heads = 32; }},
    {"head_dim is 0", HIPATTN_INVALID_ARGUMENT, [](Engine& o) { o.head_dim = 0; }},
    {"head_dim is 63", HIPATTN_UNSUPPORTED, [](Engine& o) { o.head_dim = 63; }},
    {"head_dim is 264", HIPATTN_UNSUPPORTED, [](Engine& o) { o.head_dim = 264; }},
    {"head_dim is 4294967288", HIPATTN_UNSUPPORTED, [](Engine& o) { o.head_dim = kHuge - 7; }},
    {"block_tokens is 8", HIPATTN_INVALID_ARGUMENT, [](Engine& o) { o.block_tokens = 8; }},
    {"block_tokens is 48", HIPATTN_INVALID_ARGUMENT, [](Engine& o) { o.block_tokens = 48; }},
    {"io_dtype is 7", HIPATTN_INVALID_ARGUMENT, [](Engine& o) { o.io_dtype = 7; }},
    {"io_dtype is 5", HIPATTN_INVALID_ARGUMENT, [](Engine& o) { o.io_dtype = HIPATTN_INT8; }},
    {"kv_dtype is 7", HIPATTN_INVALID_ARGUMENT, [](Engine& o) { o.kv_dtype = 7; }},
    {"kv_dtype is 4", HIPATTN_UNSUPPORTED, [](Engine& o) { o.kv_dtype = HIPATTN_F8E4M3; }},
    {"kv_dtype is 5", HIPATTN_UNSUPPORTED, [](Engine& o) { o.kv_dtype = HIPATTN_INT8; }},
    {"kv_dtype is 6", HIPATTN_UNSUPPORTED, [](Engine& o) { o.kv_dtype = HIPATTN_INT4; }},
    {"softmax_scale is nan", HIPATTN_INVALID_ARGUMENT, [](Engine& o) { o.softmax_scale = kNan; }},
    {"softmax_scale is -1", HIPATTN_INVALID_ARGUMENT, [](Engine& o) { o.softmax_scale = -1.0F; }},
    {"softmax_scale is inf", HIPATTN_INVALID_ARGUMENT, [](Engine& o) { o.softmax_scale = kInf; }},
    {"logit_softcap is nan", HIPATTN_INVALID_ARGUMENT, [](Engine& o) { o.logit_softcap = kNan; }},
    {"logit_softcap is -30", HIPATTN_INVALID_ARGUMENT, [](Engine& o) { o.logit_softcap = -30.0F; }},
    {"rope_mode is 3", HIPATTN_INVALID_ARGUMENT, [](Engine& o) { o.rope_mode = 3; }},
    {"rope_theta is 0", HIPATTN_INVALID_ARGUMENT, [](Engine& o) { o.rope_mode = 1; }},
    {"rope_theta is -1",
     HIPATTN_INVALID_ARGUMENT,
     [](Engine& o) { o.rope_mode = 2, o.rope_theta = -1.0F; }},
    {"rope_theta is nan",
     HIPATTN_INVALID_ARGUMENT,
     [](Engine& o) { o.rope_mode = 2, o.rope_theta = kNan; }},
    {"rope_dim is 31",
     HIPATTN_INVALID_ARGUMENT,
     [](Engine& o) { o.rope_mode = 1, o.rope_theta = 1e4F, o.rope_dim = 31; }},
    {"rope_dim is 66",
     HIPATTN_INVALID_ARGUMENT,
     [](Engine& o) { o.rope_mode = 1, o.rope_theta = 1e4F, o.rope_dim = 66; }},
    {"rope_dim is 4294967294",
     HIPATTN_INVALID_ARGUMENT,
     [](Engine& o) { o.rope_mode = 1, o.rope_inv_freq = kFrequencies, o.rope_dim = kHuge - 1; }},
    {"rope_inv_freq[2] is nan",
     HIPATTN_INVALID_ARGUMENT,
     [](Engine& o) { o.rope_mode = 1, o.rope_inv_freq = kFrequencies; }},
    {"trained_tokens is 4294967295",
     HIPATTN_INVALID_ARGUMENT,
     [](Engine& o) { o.rope_mode = 1, o.rope_theta = 1e4F, o.trained_tokens = kHuge; }},
    {"reserved is 1", HIPATTN_INVALID_ARGUMENT, [](Engine& o) { o.reserved = 1; }},
    {"disk_kv_bytes is 1", HIPATTN_INVALID_ARGUMENT, [](Engine& o) { o.disk_kv_bytes = 1; }},
    {"disk_path \"/tmp/x\"", HIPATTN_INVALID_ARGUMENT, [](Engine& o) { o.disk_path = "/tmp/x"; }},
    {"pool_endpoints is \"a:1\"", HIPATTN_UNSUPPORTED, [](Engine& o) { o.pool_endpoints = "a:1"; }},
    {"model_q_heads is 4097", HIPATTN_INVALID_ARGUMENT, [](Engine& o) { o.model_q_heads = 4097; }},
    {"first_q_head is 1", HIPATTN_INVALID_ARGUMENT, [](Engine& o) { o.first_q_head = 1; }},
    {"first_q_head is 4294967295",
     HIPATTN_INVALID_ARGUMENT,
     [](Engine& o) { o.first_q_head = kHuge, o.model_q_heads = 4096; }},
    {"pool_key", HIPATTN_UNSUPPORTED, [](Engine& o) { o.pool_key = "secret"; }},
};

TEST(BadEngineOptions, AreRefusedByNameAndNothingIsMade) {
  for (const EngineCase& test : kEngineCases) {
    SCOPED_TRACE(test.field);
    Engine options = SmallEngine();
    test.spoil(options);
    auto* const untouched = reinterpret_cast<hipattn_engine_t*>(uintptr_t{0x123});
    hipattn_engine_t* engine = untouched;
    EXPECT_EQ(hipattn_engine_create(&options, &engine), test.status);
    EXPECT_NE(LastError().find(test.field), std::string::npos) << LastError();
    EXPECT_EQ(engine, untouched);
    if (test.status == HIPATTN_UNSUPPORTED && LastError().find("head_dim") == std::string::npos) {
      EXPECT_NE(LastError().find("not in this release"), std::string::npos) << LastError();
    }

    hipattn_memory_need_t need = HIPATTN_MEMORY_NEED_INIT;
    need.kv_bytes_total = 77;
    EXPECT_EQ(hipattn_memory_need(&options, nullptr, 100, 1, &need), test.status);
    EXPECT_NE(LastError().find(test.field), std::string::npos) << LastError();
    EXPECT_EQ(need.kv_bytes_total, 77U);
  }
}

TEST(BadEngineOptions, TheSecretOfThePoolIsNotRepeated) {
  Engine options = SmallEngine();
  options.pool_key = "secret";
  hipattn_engine_t* engine = nullptr;
  EXPECT_EQ(hipattn_engine_create(&options, &engine), HIPATTN_UNSUPPORTED);
  EXPECT_EQ(LastError().find("secret"), std::string::npos);
}

struct AttentionCase {
  const char* field;
  hipattn_status_t status;
  std::function<void(Attention&)> spoil;
};

const AttentionCase kAttentionCases[] = {
    {"struct_size is 0", HIPATTN_INVALID_ARGUMENT, [](Attention& o) { o.struct_size = 0; }},
    {"struct_size is 82", HIPATTN_INVALID_ARGUMENT, [](Attention& o) { o.struct_size = 82; }},
    {"struct_size is 4294967292",
     HIPATTN_INVALID_ARGUMENT,
     [](Attention& o) { o.struct_size = kHuge - 3; }},
    {"decode_mode is 3", HIPATTN_INVALID_ARGUMENT, [](Attention& o) { o.decode_mode = 3; }},
    {"search is 5", HIPATTN_INVALID_ARGUMENT, [](Attention& o) { o.search = 5; }},
    {"scorer is 8", HIPATTN_INVALID_ARGUMENT, [](Attention& o) { o.scorer = 8; }},
    {"scorer is 4",
     HIPATTN_UNSUPPORTED,
     [](Attention& o) { o.search = HIPATTN_SEARCH_BEAM, o.scorer = HIPATTN_SCORER_CUBOID_MEAN; }},
    {"scorer is 6",
     HIPATTN_UNSUPPORTED,
     [](Attention& o) { o.search = HIPATTN_SEARCH_STAGED, o.scorer = HIPATTN_SCORER_FIRST; }},
    {"prefill_mode is 10", HIPATTN_INVALID_ARGUMENT, [](Attention& o) { o.prefill_mode = 10; }},
    {"budget_tokens is 8,", HIPATTN_INVALID_ARGUMENT, [](Attention& o) { o.budget_tokens = 8; }},
    {"budget_tokens is 1000,",
     HIPATTN_INVALID_ARGUMENT,
     [](Attention& o) { o.budget_tokens = 1000; }},
    {"budget_tokens is 4294967280",
     HIPATTN_INVALID_ARGUMENT,
     [](Attention& o) { o.budget_tokens = kHuge - 15; }},
    {"budget_tokens is 20,",
     HIPATTN_INVALID_ARGUMENT,
     [](Attention& o) { o.search = HIPATTN_SEARCH_STAGED, o.budget_tokens = 20; }},
    {"budget_tokens is 21,",
     HIPATTN_INVALID_ARGUMENT,
     [](Attention& o) { o.search = HIPATTN_SEARCH_BEAM, o.budget_tokens = 21; }},
    {"sink_tokens is 4294967294",
     HIPATTN_INVALID_ARGUMENT,
     [](Attention& o) { o.sink_tokens = kHuge - 1; }},
    {"window_tokens is 15,", HIPATTN_INVALID_ARGUMENT, [](Attention& o) { o.window_tokens = 15; }},
    {"window_tokens is 4294967295",
     HIPATTN_INVALID_ARGUMENT,
     [](Attention& o) { o.window_tokens = HIPATTN_NONE; }},
    {"window_tokens is 78,",
     HIPATTN_INVALID_ARGUMENT,
     [](Attention& o) { o.prefill_mode = HIPATTN_PREFILL_HIP, o.window_tokens = 78; }},
    {"refresh_interval is 4294967295",
     HIPATTN_INVALID_ARGUMENT,
     [](Attention& o) { o.refresh_interval = kHuge; }},
    {"refresh_interval is 8",
     HIPATTN_INVALID_ARGUMENT,
     [](Attention& o) { o.search = HIPATTN_SEARCH_STAGED, o.refresh_interval = 8; }},
    {"min_recall is nan", HIPATTN_INVALID_ARGUMENT, [](Attention& o) { o.min_recall = kNan; }},
    {"min_recall is -0.5", HIPATTN_INVALID_ARGUMENT, [](Attention& o) { o.min_recall = -0.5F; }},
    {"min_recall is 1.5", HIPATTN_INVALID_ARGUMENT, [](Attention& o) { o.min_recall = 1.5F; }},
    {"min_recall is 0.5",
     HIPATTN_UNSUPPORTED,
     [](Attention& o) { o.min_recall = 0.5F, o.scorer = HIPATTN_SCORER_MEAN; }},
    {"min_recall is 0.5",
     HIPATTN_UNSUPPORTED,
     [](Attention& o) { o.min_recall = 0.5F, o.search = HIPATTN_SEARCH_BEAM; }},
    {"rerank_tokens is 496,",
     HIPATTN_INVALID_ARGUMENT,
     [](Attention& o) { o.rerank_tokens = 496; }},
    {"rerank_tokens is 1024, must be at least budget_tokens, which is 2048",
     HIPATTN_INVALID_ARGUMENT,
     [](Attention& o) { o.rerank_tokens = 1024, o.budget_tokens = 2048; }},
    {"rerank_tokens is 2056,",
     HIPATTN_INVALID_ARGUMENT,
     [](Attention& o) { o.rerank_tokens = 2056; }},
    {"rerank_tokens is 4294967280",
     HIPATTN_INVALID_ARGUMENT,
     [](Attention& o) { o.rerank_tokens = kHuge - 15; }},
    {"rerank_tokens is 2048",
     HIPATTN_UNSUPPORTED,
     [](Attention& o) { o.rerank_tokens = 2048, o.search = HIPATTN_SEARCH_STAGED; }},
    {"rerank_tokens is 2048",
     HIPATTN_UNSUPPORTED,
     [](Attention& o) { o.rerank_tokens = 2048, o.search = HIPATTN_SEARCH_BEAM; }},
    {"rerank_tokens is 2048",
     HIPATTN_UNSUPPORTED,
     [](Attention& o) { o.rerank_tokens = 2048, o.scorer = HIPATTN_SCORER_EXACT; }},
    {"audit_interval is 64",
     HIPATTN_UNSUPPORTED,
     [](Attention& o) { o.audit_interval = 64, o.rerank_tokens = HIPATTN_NONE; }},
    {"audit_interval is 64",
     HIPATTN_UNSUPPORTED,
     [](Attention& o) { o.audit_interval = 64, o.search = HIPATTN_SEARCH_BEAM; }},
    {"audit_interval is 4294967294",
     HIPATTN_INVALID_ARGUMENT,
     [](Attention& o) { o.audit_interval = kHuge - 1; }},
    {"max_scanned_heads is 1",
     HIPATTN_UNSUPPORTED,
     [](Attention& o) { o.max_scanned_heads = 1, o.rerank_tokens = HIPATTN_NONE; }},
    {"max_scanned_heads is 1000,",
     HIPATTN_INVALID_ARGUMENT,
     [](Attention& o) { o.max_scanned_heads = 1000; }},
    {"verify_recall is 2", HIPATTN_INVALID_ARGUMENT, [](Attention& o) { o.verify_recall = 2; }},
    {"prefill_sizes[0] is 1",
     HIPATTN_INVALID_ARGUMENT,
     [](Attention& o) { o.prefill_sizes[0] = 1; }},
    {"prefill_sizes[1] is 1",
     HIPATTN_INVALID_ARGUMENT,
     [](Attention& o) { o.prefill_sizes[1] = 1; }},
    {"prefill_last_q is 65", HIPATTN_INVALID_ARGUMENT, [](Attention& o) { o.prefill_last_q = 65; }},
    {"prefill_last_q is 128",
     HIPATTN_INVALID_ARGUMENT,
     [](Attention& o) { o.prefill_last_q = 128; }},
    {"prefill_delta_interval is 16",
     HIPATTN_INVALID_ARGUMENT,
     [](Attention& o) { o.prefill_mode = HIPATTN_PREFILL_DENSE, o.prefill_delta_interval = 16; }},
    {"prefill_threshold is nan",
     HIPATTN_INVALID_ARGUMENT,
     [](Attention& o) { o.prefill_threshold = kNan; }},
    {"prefill_threshold is 0.9",
     HIPATTN_INVALID_ARGUMENT,
     [](Attention& o) { o.prefill_threshold = 0.9F; }},
    {"prefill_threshold is 1.5",
     HIPATTN_INVALID_ARGUMENT,
     [](Attention& o) { o.prefill_mode = HIPATTN_PREFILL_FLEX, o.prefill_threshold = 1.5F; }},
    {"prefill_threshold is 2",
     HIPATTN_INVALID_ARGUMENT,
     [](Attention& o) { o.prefill_mode = HIPATTN_PREFILL_XATTENTION, o.prefill_threshold = 2.0F; }},
    {"prefill_threshold is -0.1",
     HIPATTN_INVALID_ARGUMENT,
     [](Attention& o) { o.prefill_mode = HIPATTN_PREFILL_FLASH_V2, o.prefill_threshold = -0.1F; }},
    {"prefill_threshold is nan",
     HIPATTN_INVALID_ARGUMENT,
     [](Attention& o) { o.prefill_mode = HIPATTN_PREFILL_FLASH_V2, o.prefill_threshold = kNan; }},
    {"prefill_skip_threshold is -1",
     HIPATTN_INVALID_ARGUMENT,
     [](Attention& o) { o.prefill_skip_threshold = -1.0F; }},
    {"prefill_skip_threshold is 0.1",
     HIPATTN_INVALID_ARGUMENT,
     [](Attention& o) { o.prefill_mode = HIPATTN_PREFILL_HIP, o.prefill_skip_threshold = 0.1F; }},
};

TEST(BadAttentionOptions, AreRefusedByNameAndNothingIsMade) {
  const EnginePtr engine = MakeEngine(SmallEngine());
  const SequencePtr sequence = MakeSequence(engine.get());
  for (const AttentionCase& test : kAttentionCases) {
    SCOPED_TRACE(test.field);
    Attention options = HIPATTN_ATTENTION_OPTIONS_INIT;
    test.spoil(options);
    auto* const untouched = reinterpret_cast<hipattn_sequence_t*>(uintptr_t{0x123});
    hipattn_sequence_t* made = untouched;
    EXPECT_EQ(hipattn_sequence_create(engine.get(), &options, &made), test.status);
    EXPECT_NE(LastError().find(test.field), std::string::npos) << LastError();
    EXPECT_EQ(made, untouched);
    EXPECT_EQ(hipattn_sequence_set_options(sequence.get(), &options), test.status);
    EXPECT_NE(LastError().find(test.field), std::string::npos) << LastError();
    hipattn_memory_need_t need = HIPATTN_MEMORY_NEED_INIT;
    const Engine engine_options = SmallEngine();
    EXPECT_EQ(hipattn_memory_need(&engine_options, &options, 100, 1, &need), test.status);
    EXPECT_NE(LastError().find(test.field), std::string::npos) << LastError();
  }
}

TEST(BadAttentionOptions, LengthsThatDoNotFitTheTrainedLength) {
  Engine engine_options = SmallEngine();
  engine_options.rope_mode = 1;
  engine_options.rope_theta = 1e4F;
  engine_options.trained_tokens = 3216;  // 128 + 2048 + 1024 + 16
  const EnginePtr engine = MakeEngine(engine_options);
  Attention options = HIPATTN_ATTENTION_OPTIONS_INIT;
  options.search = HIPATTN_SEARCH_STAGED;
  MakeSequence(engine.get(), &options);
  hipattn_sequence_t* made = nullptr;
  options.budget_tokens = 2056;
  EXPECT_EQ(hipattn_sequence_create(engine.get(), &options, &made), HIPATTN_INVALID_ARGUMENT);
  EXPECT_NE(LastError().find("trained_tokens is 3216"), std::string::npos) << LastError();
}

// struct_size says how much of a struct there is: shorter ones are older headers, longer ones
// newer.
TEST(StructSize, ShorterInputsAreZeroBeyondTheirEnd) {
  Attention options = HIPATTN_ATTENTION_OPTIONS_INIT;
  options.struct_size = offsetof(Attention, rerank_tokens);
  options.rerank_tokens = 1;  // INVALID_ARGUMENT if it were looked at
  const EnginePtr engine = MakeEngine(SmallEngine());
  MakeSequence(engine.get(), &options);

  Engine engine_options = SmallEngine();
  engine_options.struct_size = offsetof(Engine, disk_kv_bytes);
  engine_options.disk_kv_bytes = 1;
  MakeEngine(engine_options);
}

TEST(StructSize, AFieldThatIsCutInTwoIsZero) {
  Engine options = SmallEngine();
  options.disk_kv_bytes = 1;
  options.struct_size = offsetof(Engine, disk_kv_bytes) + 4;
  MakeEngine(options);
}

TEST(StructSize, LongerInputsMustBeZeroInTheirUnknownTail) {
  struct Longer {
    Attention known;
    uint32_t tail[4];
  } options = {HIPATTN_ATTENTION_OPTIONS_INIT, {0, 0, 0, 0}};
  options.known.struct_size = sizeof(options);
  const EnginePtr engine = MakeEngine(SmallEngine());
  MakeSequence(engine.get(), &options.known);
  hipattn_sequence_t* made = nullptr;
  for (const size_t byte : {sizeof(Attention), size_t{92}, sizeof(Longer) - 1}) {
    Longer longer = options;
    reinterpret_cast<unsigned char*>(&longer)[byte] = 1;
    EXPECT_EQ(hipattn_sequence_create(engine.get(), &longer.known, &made),
              HIPATTN_INVALID_ARGUMENT);
    EXPECT_NE(LastError().find("byte " + std::to_string(byte)), std::string::npos) << LastError();
  }
}

TEST(StructSize, OutputsAreCutOrZeroedToTheCallersSize) {
  const EnginePtr engine = MakeEngine(SmallEngine());
  std::vector<unsigned char> memory(4096 + 8, 0xab);
  auto* const stats = reinterpret_cast<hipattn_stats_t*>(memory.data());
  stats->struct_size = 16;
  ASSERT_EQ(hipattn_engine_stats(engine.get(), stats, 0), HIPATTN_OK);
  EXPECT_EQ(stats->struct_size, 16U);
  EXPECT_EQ(memory[16], 0xab) << "nothing beyond struct_size is written";
  stats->struct_size = 4096;
  ASSERT_EQ(hipattn_engine_stats(engine.get(), stats, 0), HIPATTN_OK);
  EXPECT_EQ(stats->struct_size, 4096U);
  for (size_t i = sizeof(hipattn_stats_t); i < 4096; ++i) {
    ASSERT_EQ(memory[i], 0) << i;
  }
  EXPECT_EQ(memory[4096], 0xab);
}

}  // namespace
}  // namespace hipattn::test
