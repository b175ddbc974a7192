// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// A sequence that was filled from the record of a text has audited its heads like one that read the
// text, bit for bit.
#include "run_program.h"
#include "text_record.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <random>

namespace recall_bench {
namespace {

using hipattn_run::Result;
using hipattn_run::testing::ReadFile;
using hipattn_run::testing::TemporaryFolder;
using nlohmann::json;

constexpr size_t kTextTokens = 2100;
constexpr size_t kMaxTokens = 2500;

LlamaConfig SmallConfig() {
  LlamaConfig config = {};
  config.num_layers = 2;
  config.num_q_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 16;
  return config;
}

hipattn_run::Engine MakeEngine(const LlamaConfig& config) {
  hipattn_engine_options_t options = HIPATTN_ENGINE_OPTIONS_INIT;
  options.num_layers = static_cast<uint32_t>(config.num_layers);
  options.num_q_heads = static_cast<uint32_t>(config.num_q_heads);
  options.num_kv_heads = static_cast<uint32_t>(config.num_kv_heads);
  options.head_dim = static_cast<uint32_t>(config.head_dim);
  options.block_tokens = 16;
  options.kv_dtype = HIPATTN_BF16;
  options.num_threads = 1;
  Result<hipattn_run::Engine> engine = hipattn_run::CreateEngine(options);
  EXPECT_TRUE(engine.ok()) << engine.status().message();
  return std::move(engine.value());
}

hipattn_run::Sequence MakeSequence(const hipattn_run::Engine& engine) {
  hipattn_attention_options_t options = HIPATTN_ATTENTION_OPTIONS_INIT;
  options.prefill_mode = HIPATTN_PREFILL_DENSE;
  options.sink_tokens = 16;
  options.window_tokens = 64;
  options.budget_tokens = 128;
  options.rerank_tokens = 256;
  Result<hipattn_run::Sequence> sequence = hipattn_run::CreateSequence(engine, options);
  EXPECT_TRUE(sequence.ok()) << sequence.status().message();
  return std::move(sequence.value());
}

// Reads random rows in chunks of 700 and records them.
void ReadAndRecord(hipattn_engine_t* engine, hipattn_sequence_t* sequence, TextRecord* record) {
  const LlamaConfig config = SmallConfig();
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  const auto normals = [&](size_t count) {
    std::vector<float> values(count);
    std::generate(values.begin(), values.end(), [&] { return 2 * normal(random); });
    return values;
  };
  record->Clear(kTextTokens);
  for (size_t layer = 0; layer < config.num_layers; ++layer) {
    for (uint32_t count = 700, done = 0; done < kTextTokens; done += count) {
      const std::vector<float> q = normals(count * config.q_width());
      const std::vector<float> k = normals(count * config.kv_width());
      const std::vector<float> v = normals(count * config.kv_width());
      std::vector<float> out(q.size());
      hipattn_attend_args_t args = HIPATTN_ATTEND_ARGS_INIT;
      args.layer = static_cast<uint32_t>(layer);
      args.num_sequences = 1;
      args.sequences = &sequence;
      args.num_new_tokens = &count;
      args.q = q.data();
      args.k = k.data();
      args.v = v.data();
      args.out = out.data();
      ASSERT_EQ(hipattn_attend(engine, &args), HIPATTN_OK);
      record->Append(layer, q.data(), k.data(), v.data(), count);
    }
  }
}

TEST(RecallRecord, ReplayAuditsLikeReading) {
  const TemporaryFolder folder;
  const hipattn_run::Engine engine = MakeEngine(SmallConfig());
  const hipattn_run::Sequence read = MakeSequence(engine);
  const hipattn_run::Sequence audited = MakeSequence(engine);
  const hipattn_run::Sequence filled = MakeSequence(engine);
  TextRecord record(SmallConfig(), kMaxTokens);
  ASSERT_NO_FATAL_FAILURE(ReadAndRecord(engine.get(), read.get(), &record));
  ASSERT_TRUE(record.Replay(engine.get(), audited.get(), true).ok());
  ASSERT_TRUE(record.Replay(engine.get(), filled.get(), false).ok());
  const auto profile = [&](const hipattn_run::Sequence& sequence, const char* name) {
    EXPECT_EQ(hipattn_sequence_length(sequence.get()), kTextTokens);
    EXPECT_EQ(hipattn_sequence_save_profile(sequence.get(), folder.File(name).c_str()), HIPATTN_OK);
    return ReadFile(folder.File(name));
  };
  const std::string expected = profile(read, "read.json");
  EXPECT_EQ(profile(audited, "audited.json"), expected);
  for (const json& head : json::parse(expected).at("heads")) {
    // Rows 767 (the first with twice 16 blocks between sinks and window), 1023, ... 2047.
    EXPECT_EQ(head.at("samples"), 6) << head;
    EXPECT_GT(head.at("loss"), 0.0) << head;
  }
  for (const json& head : json::parse(profile(filled, "filled.json")).at("heads")) {
    EXPECT_EQ(head.at("samples"), 0) << head;
  }
}

}  // namespace
}  // namespace recall_bench
