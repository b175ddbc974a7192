// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Vocabularies of SentencePiece, against what SentencePiece itself gave
// (record_sentencepiece.py). HIPATTN_PIECES is a path.
#include "pieces.h"

#include "gguf.h"
#include "run_program.h"
#include "synthetic_gguf.h"
#include "tokenizer.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <limits>
#include <string>
#include <vector>

namespace hipattn_run {
namespace {

using nlohmann::json;

Result<Tokenizer> MakeTokenizer(const testing::GgufWriter& writer) {
  const std::string bytes = writer.Build();
  Result<GgufFile> file =
      GgufFile::Parse({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
  EXPECT_TRUE(file.ok());
  return Tokenizer::Create(file.value());
}

testing::GgufWriter Vocabulary(const json& recorded) {
  testing::GgufWriter writer;
  writer.AddString("tokenizer.ggml.model", "llama");
  writer.AddStrings("tokenizer.ggml.tokens", recorded.at("pieces").get<std::vector<std::string>>());
  writer.AddFloats("tokenizer.ggml.scores", recorded.at("scores").get<std::vector<float>>());
  writer.AddInts("tokenizer.ggml.token_type", recorded.at("types").get<std::vector<int32_t>>());
  writer.AddUint32("tokenizer.ggml.bos_token_id", 1);
  writer.AddUint32("tokenizer.ggml.eos_token_id", 2);
  return writer;
}

TEST(Pieces, TokensAreThoseOfSentencePiece) {
  const json recorded = json::parse(testing::ReadFile(HIPATTN_PIECES));
  Result<Tokenizer> tokenizer = MakeTokenizer(Vocabulary(recorded));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  EXPECT_TRUE(tokenizer.value().add_bos());
  EXPECT_TRUE(tokenizer.value().IsEnd(2));
  ASSERT_GE(recorded.at("cases").size(), 10U);
  for (const json& test_case : recorded.at("cases")) {
    const auto text = test_case.at("text").get<std::string>();
    Result<std::vector<int32_t>> tokens = tokenizer.value().Encode(text);
    ASSERT_TRUE(tokens.ok());
    EXPECT_EQ(tokens.value(), test_case.at("tokens").get<std::vector<int32_t>>()) << text;
    EXPECT_EQ(tokenizer.value().Decode(tokens.value()), text.empty() ? "" : " " + text);
  }
}

TEST(Pieces, SpecialTokensStandBetweenTexts) {
  const json recorded = json::parse(testing::ReadFile(HIPATTN_PIECES));
  testing::GgufWriter writer = Vocabulary(recorded);
  writer.AddBool("tokenizer.ggml.add_space_prefix", false);
  writer.AddBool("tokenizer.ggml.add_bos_token", false);
  Result<Tokenizer> tokenizer = MakeTokenizer(writer);
  ASSERT_TRUE(tokenizer.ok());
  EXPECT_FALSE(tokenizer.value().add_bos());
  const std::vector<int32_t> tokens = tokenizer.value().Encode("the<s>the</s>").value();
  ASSERT_GE(tokens.size(), 4U);
  EXPECT_EQ(tokens.back(), 2);
  EXPECT_EQ(std::count(tokens.begin(), tokens.end(), 1), 1);
  EXPECT_EQ(tokenizer.value().Decode(tokens), "thethe") << "no space before, control tokens silent";
}

TEST(Pieces, WhatIsNoPieceIsUnknownWithoutBytes) {
  testing::GgufWriter writer;
  writer.AddString("tokenizer.ggml.model", "llama");
  writer.AddStrings("tokenizer.ggml.tokens",
                    {"<unk>",
                     "\xe2\x96\x81",
                     "a",
                     "\xe2\x96\x81"
                     "a"});
  writer.AddFloats("tokenizer.ggml.scores", {0, -1, -2, -3});
  writer.AddInts("tokenizer.ggml.token_type", {2, 1, 1, 1});
  Result<Tokenizer> tokenizer = MakeTokenizer(writer);
  ASSERT_TRUE(tokenizer.ok());
  EXPECT_EQ(tokenizer.value().Encode("aba").value(), (std::vector<int32_t>{3, 0, 2}));
}

TEST(Pieces, BytesAreWrittenInHex) {
  EXPECT_EQ(ByteOfPiece("<0x0A>"), 10);
  EXPECT_EQ(ByteOfPiece("<0xff>"), 255);
  for (const char* wrong : {"<0x0>", "<0xGG>", "<0x0A", "0x0A>>", "<0x-1>", "<0x0g>"}) {
    EXPECT_EQ(ByteOfPiece(wrong), std::nullopt) << wrong;
  }
}

TEST(Pieces, WrongVocabulariesAreNamed) {
  const auto message = [](const std::vector<std::string>& pieces,
                          const std::vector<float>& scores,
                          const std::vector<int32_t>& types) {
    testing::GgufWriter writer;
    writer.AddString("tokenizer.ggml.model", "llama");
    writer.AddStrings("tokenizer.ggml.tokens", pieces);
    writer.AddFloats("tokenizer.ggml.scores", scores);
    writer.AddInts("tokenizer.ggml.token_type", types);
    const Result<Tokenizer> tokenizer = MakeTokenizer(writer);
    EXPECT_FALSE(tokenizer.ok());
    return tokenizer.status().message();
  };
  EXPECT_NE(message({"a", "b"}, {0}, {1, 1}).find("tokenizer.ggml.scores has 1"),
            std::string::npos);
  EXPECT_NE(message({"a", "<0x>"}, {0, 0}, {1, 6}).find("tokenizer.ggml.tokens[1]"),
            std::string::npos);
  EXPECT_NE(message({"a"}, {std::numeric_limits<float>::quiet_NaN()}, {1})
                .find("tokenizer.ggml.scores[0] is nan"),
            std::string::npos);
  EXPECT_NE(message({std::string(257, 'a')}, {0}, {1}).find("has 257 bytes"), std::string::npos);
}

}  // namespace
}  // namespace hipattn_run
