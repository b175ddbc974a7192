// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// UTF-8, merges, pre-tokenizers, the tokenizer on a small vocabulary, chat templates, the sampler
// and the placing of facts.
#include "bpe.h"
#include "chat_template.h"
#include "prompt.h"
#include "sampler.h"
#include "synthetic_gguf.h"
#include "tokenizer.h"
#include "utf8.h"

#include <gtest/gtest.h>

namespace hipattn_run {
namespace {

TEST(Utf8, FindsTheFirstInvalidByte) {
  EXPECT_EQ(FindInvalidUtf8(""), std::string_view::npos);
  EXPECT_EQ(FindInvalidUtf8("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z"), std::string_view::npos);
  EXPECT_EQ(FindInvalidUtf8("ab\xff"), 2U);
  EXPECT_EQ(FindInvalidUtf8("ab\xc3"), 2U);            // ends inside a character
  EXPECT_EQ(FindInvalidUtf8("\xc0\x80"), 0U);          // overlong
  EXPECT_EQ(FindInvalidUtf8("\xe0\x9f\xbf"), 0U);      // overlong
  EXPECT_EQ(FindInvalidUtf8("\xed\xa0\x80"), 0U);      // surrogate
  EXPECT_EQ(FindInvalidUtf8("\xf4\x90\x80\x80"), 0U);  // above U+10FFFF
  EXPECT_EQ(FindInvalidUtf8("a\x80"), 1U);
}

TEST(Utf8, KeepsUnfinishedCharactersBack) {
  const std::string face = "\xf0\x9f\x98\x80";
  for (size_t size = 1; size < face.size(); ++size) {
    EXPECT_EQ(CompleteUtf8Prefix(Concat("a", face.substr(0, size))), 1U) << size;
  }
  EXPECT_EQ(CompleteUtf8Prefix(Concat("a", face)), 5U);
  EXPECT_EQ(CompleteUtf8Prefix("a\xff"), 2U);
  EXPECT_EQ(CompleteUtf8Prefix("a\x80\x80"), 3U);
  EXPECT_EQ(ReplaceInvalidUtf8("a\xff\xc3\xa9"), "a\xef\xbf\xbd\xc3\xa9");
}

TEST(Bpe, JoinsByRankThenFromTheLeft) {
  MergeTable table;
  table.Add(1, 1, {5, 2});
  table.Add(2, 2, {6, 3});
  table.Add(1, 4, {1, 9});
  std::vector<int32_t> symbols = {1, 1, 1, 1, 1};
  MergeSymbols(table, &symbols);
  EXPECT_EQ(symbols, (std::vector<int32_t>{3, 1}));
  symbols = {1, 1, 4};
  MergeSymbols(table, &symbols);
  EXPECT_EQ(symbols, (std::vector<int32_t>{1, 9}));
  symbols = {};
  MergeSymbols(table, &symbols);
  EXPECT_TRUE(symbols.empty());
}

TEST(Bpe, LongWordsAreNoProblem) {
  MergeTable table;
  table.Add(1, 1, {0, 2});
  std::vector<int32_t> symbols(1 << 20, 1);
  MergeSymbols(table, &symbols);
  EXPECT_EQ(symbols, std::vector<int32_t>(1 << 19, 2));
}

std::vector<std::string> SplitWith(const std::string& pre, const std::string& text) {
  const Result<Pretokenizer> pretokenizer = Pretokenizer::Create(pre);
  EXPECT_TRUE(pretokenizer.ok());
  std::vector<std::string> words;
  EXPECT_TRUE(pretokenizer.value()
                  .Split(text, [&](std::string_view word) { words.emplace_back(word); })
                  .ok());
  return words;
}

TEST(Pretokenizer, CutsAsTheFamiliesDo) {
  using Words = std::vector<std::string>;
  EXPECT_EQ(SplitWith("gpt-2", "I'll see 2023  now\n\n x"),
            (Words{"I", "'ll", " see", " 2023", " ", " now", "\n\n", " x"}));
  EXPECT_EQ(SplitWith("smollm", "in 2023!"), (Words{"in", " ", "2", "0", "2", "3", "!"}));
  EXPECT_EQ(SplitWith("llama-bpe", "in 20231\n\nIT'S"),
            (Words{"in", " ", "202", "31", "\n\n", "IT", "'S"}));
  EXPECT_EQ(SplitWith("smollm", "na\xc3\xafve caf\xc3\xa9"),
            (Words{"na\xc3\xafve", " caf\xc3\xa9"}));
  EXPECT_EQ(SplitWith("smollm", ""), Words{});
}

TEST(Pretokenizer, UnknownNamesAreRefused) {
  const Result<Pretokenizer> pretokenizer = Pretokenizer::Create("no-such-one");
  ASSERT_FALSE(pretokenizer.ok());
  EXPECT_NE(pretokenizer.status().message().find("no-such-one"), std::string::npos);
}

class TokenizerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    testing::GgufWriter writer;
    testing::AddVocabulary(&writer, "smollm");
    bytes_ = writer.Build();
    Result<GgufFile> file =
        GgufFile::Parse({reinterpret_cast<const uint8_t*>(bytes_.data()), bytes_.size()});
    ASSERT_TRUE(file.ok());
    Result<Tokenizer> tokenizer = Tokenizer::Create(file.value());
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
    tokenizer_.emplace(std::move(tokenizer.value()));
  }

  std::vector<int32_t> Encode(const std::string& text) {
    Result<std::vector<int32_t>> tokens = tokenizer_->Encode(text);
    EXPECT_TRUE(tokens.ok());
    return tokens.value();
  }

  std::string bytes_;
  std::optional<Tokenizer> tokenizer_;
};

TEST_F(TokenizerTest, MergesBytes) {
  // 258 "th", 259 "he", 260 "the", 261 " t", 262 " the", 263 "in", 264 "an". " the" is merged as
  // t h first, so " t" + "he" never meets.
  EXPECT_EQ(Encode("the"), (std::vector<int32_t>{260}));
  EXPECT_EQ(Encode(" the"), (std::vector<int32_t>{' ', 260}));
  EXPECT_EQ(Encode("hin"), (std::vector<int32_t>{'h', 263}));
  EXPECT_EQ(Encode("he he"), (std::vector<int32_t>{259, ' ', 259}));
}

TEST_F(TokenizerTest, SpecialTokensComeFirst) {
  EXPECT_EQ(Encode("a<|im_end|>\n<|im_start|>"), (std::vector<int32_t>{'a', 257, '\n', 256}));
  EXPECT_EQ(Encode("<|im_en").size(), 7U);
  EXPECT_TRUE(tokenizer_->IsEnd(257));
  EXPECT_FALSE(tokenizer_->IsEnd(256));
  EXPECT_EQ(tokenizer_->FindSpecial("<|im_start|>"), 256);
  EXPECT_EQ(tokenizer_->FindSpecial("<|im_start|>x"), std::nullopt);
}

TEST_F(TokenizerTest, TextComesBack) {
  std::string text;
  for (int byte = 1; byte < 128; ++byte) {
    text += static_cast<char>(byte);
  }
  text += "caf\xc3\xa9 \xf0\x9f\x98\x80 the end";
  const std::vector<int32_t> tokens = Encode(text);
  EXPECT_EQ(tokenizer_->Decode(tokens), text);
  StreamDecoder decoder(*tokenizer_);
  std::string streamed;
  for (const int32_t token : tokens) {
    const std::string part = decoder.Add(token);
    EXPECT_EQ(FindInvalidUtf8(part), std::string::npos);
    streamed += part;
  }
  EXPECT_EQ(streamed + decoder.Finish(), text);
  decoder.Add(0xc3);
  EXPECT_EQ(decoder.Finish(), "\xef\xbf\xbd");
}

TEST_F(TokenizerTest, InvalidTextIsRefusedWithItsPlace) {
  Result<std::vector<int32_t>> tokens = tokenizer_->Encode("abc\xff");
  ASSERT_FALSE(tokens.ok());
  EXPECT_NE(tokens.status().message().find("byte 3"), std::string::npos);
}

TEST(Tokenizer, WrongDescriptionsAreNamed) {
  const auto message = [](void (*fill)(testing::GgufWriter*)) {
    testing::GgufWriter writer;
    fill(&writer);
    const std::string bytes = writer.Build();
    Result<GgufFile> file =
        GgufFile::Parse({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
    EXPECT_TRUE(file.ok());
    const Result<Tokenizer> tokenizer = Tokenizer::Create(file.value());
    EXPECT_FALSE(tokenizer.ok());
    return tokenizer.status().message();
  };
  EXPECT_NE(message([](testing::GgufWriter*) {}).find("tokenizer.ggml.model"), std::string::npos);
  EXPECT_NE(message([](testing::GgufWriter* w) {
              w->AddString("tokenizer.ggml.model", "bert");
            }).find("bert"),
            std::string::npos);
  EXPECT_NE(message([](testing::GgufWriter* w) {
              w->AddString("tokenizer.ggml.model", "gpt2");
              w->AddString("tokenizer.ggml.pre", "gpt-2");
              w->AddStrings("tokenizer.ggml.tokens", {"a", "b"});
              w->AddInts("tokenizer.ggml.token_type", {1});
            }).find("token_type has 1"),
            std::string::npos);
  EXPECT_NE(message([](testing::GgufWriter* w) {
              w->AddString("tokenizer.ggml.model", "gpt2");
              w->AddString("tokenizer.ggml.pre", "gpt-2");
              w->AddStrings("tokenizer.ggml.tokens", {"a", "b"});
              w->AddStrings("tokenizer.ggml.merges", {"ab"});
            }).find("merges[0]"),
            std::string::npos);
}

TEST(ChatTemplate, RecognisesFamilies) {
  const ChatTemplate chatml = ChatTemplate::FromText(
      "{% if x %}{{ '<|im_start|>system\nYou are kind.<|im_end|>\n' }}{% endif %}"
      "{{'<|im_start|>' + message['role']}}");
  EXPECT_EQ(chatml.family(), ChatTemplate::Family::kChatMl);
  EXPECT_EQ(chatml.Apply("Hi"),
            "<|im_start|>system\nYou are kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
            "<|im_start|>assistant\n");
  // A system turn that is only program text gives no message.
  EXPECT_EQ(
      ChatTemplate::FromText("{{ '<|im_start|>system\n' + text + '<|im_end|>' }}").system_message(),
      "");
  EXPECT_EQ(ChatTemplate::FromText("<|start_header_id|>").family(), ChatTemplate::Family::kLlama3);
  EXPECT_EQ(ChatTemplate::FromText("[INST]").Apply("Hi"), "Hi");
}

TEST(Sampler, GreedyTakesTheFirstLargest) {
  Sampler sampler(0, 1);
  EXPECT_EQ(sampler.Choose(std::vector<float>{1, 3, 3, 2}), 1);
}

TEST(Sampler, SeedsDecideAndFrequenciesFollowTheLogits) {
  const std::vector<float> logits = {0.0F, 1.0F, -50.0F};
  Sampler a(1, 5);
  Sampler b(1, 5);
  int ones = 0;
  constexpr int kDraws = 20000;
  for (int i = 0; i < kDraws; ++i) {
    const int32_t token = a.Choose(logits);
    ASSERT_EQ(token, b.Choose(logits));
    ASSERT_NE(token, 2);
    ones += token;
  }
  // e / (1 + e) = .7311; six standard deviations of 20000 draws are .019.
  EXPECT_NEAR(static_cast<double>(ones) / kDraws, 0.7311, 0.019);
}

TEST(Prompt, FactsBecomeLinesOfTheirOwn) {
  EXPECT_EQ(InsertFact("one\ntwo\n", "F", 0.0), "one\nF\ntwo\n");
  EXPECT_EQ(InsertFact("one\ntwo\n", "F", 1.0), "one\ntwo\nF\n");
  EXPECT_EQ(InsertFact("one line", "F", 0.5), "one line\nF\n");
}

}  // namespace
}  // namespace hipattn_run
