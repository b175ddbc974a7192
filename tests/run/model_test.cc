// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Tiny random models through the whole forward pass: reading a text in chunks (BLAS) and token by
// token (quantised products) must predict the same, for every weight type.
#include "attention.h"
#include "llama_forward.h"
#include "llama_model.h"
#include "synthetic_gguf.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>

namespace hipattn_run {
namespace {

struct TinyModel {
  std::string bytes;
  std::unique_ptr<GgufFile> file;
  std::unique_ptr<LlamaModel> model;
};

TinyModel LoadTiny(const testing::TinyLlama& options) {
  TinyModel tiny;
  tiny.bytes = testing::MakeTinyLlama(options);
  Result<GgufFile> file =
      GgufFile::Parse({reinterpret_cast<const uint8_t*>(tiny.bytes.data()), tiny.bytes.size()});
  EXPECT_TRUE(file.ok()) << file.status().message();
  tiny.file = std::make_unique<GgufFile>(std::move(file.value()));
  Result<LlamaModel> model = LlamaModel::Load(*tiny.file);
  EXPECT_TRUE(model.ok()) << model.status().message();
  tiny.model = std::make_unique<LlamaModel>(std::move(model.value()));
  return tiny;
}

std::vector<int32_t> TestTokens(size_t count) {
  std::vector<int32_t> tokens;
  for (size_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<int32_t>((i * 37 + i * i) % 265));
  }
  return tokens;
}

// The logits after all tokens, read `chunk` at a time.
std::vector<float> Predict(const LlamaModel& model,
                           const std::vector<int32_t>& tokens,
                           size_t chunk,
                           size_t threads) {
  hipattn_engine_options_t options = MakeEngineOptions(model);
  options.kv_dtype = HIPATTN_F32;
  options.num_threads = static_cast<uint32_t>(threads);
  Result<Engine> engine = CreateEngine(options);
  EXPECT_TRUE(engine.ok()) << engine.status().message();
  hipattn_attention_options_t dense = {};
  dense.struct_size = sizeof(dense);
  dense.decode_mode = HIPATTN_DECODE_DENSE;
  dense.prefill_mode = HIPATTN_PREFILL_DENSE;
  Result<Sequence> sequence = CreateSequence(engine.value(), dense);
  EXPECT_TRUE(sequence.ok()) << sequence.status().message();
  Workers workers(threads);
  LlamaForward forward(model, engine.value().get(), workers, chunk);
  std::vector<float> logits(model.config.vocab_size);
  for (size_t done = 0; done < tokens.size(); done += chunk) {
    const size_t count = std::min(chunk, tokens.size() - done);
    const Status status = forward.Run(sequence.value().get(),
                                      std::span(tokens).subspan(done, count),
                                      Phase::kPrefill,
                                      logits.data());
    EXPECT_TRUE(status.ok()) << status.message();
  }
  return logits;
}

TEST(Model, ChunksAndSingleTokensPredictTheSame) {
  for (const TensorType type : {TensorType::kF32,
                                TensorType::kF16,
                                TensorType::kBF16,
                                TensorType::kQ8_0,
                                TensorType::kQ4_0,
                                TensorType::kQ4_1,
                                TensorType::kQ4_K,
                                TensorType::kQ6_K}) {
    testing::TinyLlama options;
    options.weight_type = type;
    const TinyModel tiny = LoadTiny(options);
    const std::vector<int32_t> tokens = TestTokens(45);
    const std::vector<float> whole = Predict(*tiny.model, tokens, tokens.size(), 2);
    const float largest = std::abs(*std::max_element(
        whole.begin(), whole.end(), [](float a, float b) { return std::abs(a) < std::abs(b); }));
    ASSERT_GT(largest, 0.0F);
    for (const size_t chunk : {size_t{1}, size_t{7}}) {
      const std::vector<float> parts = Predict(*tiny.model, tokens, chunk, 1);
      for (size_t i = 0; i < whole.size(); ++i) {
        // Activations of single tokens are rounded to 14 bits in each of some ten products.
        ASSERT_NEAR(parts[i], whole[i], largest * 2e-3F)
            << GetTensorTypeInfo(type).name << " chunk " << chunk << " logit " << i;
      }
    }
  }
}

TEST(Model, ThreadsDoNotChangeTheBits) {
  const TinyModel tiny = LoadTiny({});
  const std::vector<int32_t> tokens = TestTokens(9);
  EXPECT_EQ(Predict(*tiny.model, tokens, 1, 1), Predict(*tiny.model, tokens, 1, 2));
}

TEST(Model, WrongTokensAndChunksAreRefused) {
  const TinyModel tiny = LoadTiny({});
  Result<Engine> engine = CreateEngine(MakeEngineOptions(*tiny.model));
  ASSERT_TRUE(engine.ok());
  hipattn_attention_options_t attention = {};
  attention.struct_size = sizeof(attention);
  Result<Sequence> sequence = CreateSequence(engine.value(), attention);
  ASSERT_TRUE(sequence.ok());
  Workers workers(1);
  LlamaForward forward(*tiny.model, engine.value().get(), workers, 4);
  const std::vector<int32_t> wrong[] = {{}, {1, 2, 3, 4, 5}, {-1}, {265}};
  for (const std::vector<int32_t>& tokens : wrong) {
    EXPECT_FALSE(forward.Run(sequence.value().get(), tokens, Phase::kPrefill, nullptr).ok());
  }
  EXPECT_EQ(hipattn_sequence_length(sequence.value().get()), 0U);
}

TEST(Model, WhatCannotBeComputedIsNamed) {
  const auto message = [](void (*fill)(testing::GgufWriter*)) {
    testing::GgufWriter writer;
    fill(&writer);
    const std::string bytes = writer.Build();
    Result<GgufFile> file =
        GgufFile::Parse({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
    EXPECT_TRUE(file.ok());
    const Result<LlamaModel> model = LlamaModel::Load(file.value());
    EXPECT_FALSE(model.ok());
    return model.status().message();
  };
  EXPECT_NE(message([](testing::GgufWriter* w) {
              w->AddString("general.architecture", "qwen2");
            }).find("qwen2"),
            std::string::npos);
  EXPECT_NE(message([](testing::GgufWriter* w) {
              w->AddString("general.architecture", "llama");
              w->AddUint32("llama.expert_count", 8);
            }).find("8 experts"),
            std::string::npos);
  EXPECT_NE(message([](testing::GgufWriter* w) {
              w->AddString("general.architecture", "llama");
              w->AddUint32("llama.block_count", 0xffffffff);
            }).find("llama.block_count"),
            std::string::npos);
}

}  // namespace
}  // namespace hipattn_run
