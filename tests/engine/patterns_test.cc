// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Pattern files: those of the published form are read, whatever their shape and writing; each fault
// is refused by its name with layer, head and field; what is written is read back; an engine keeps
// what it has when a file is refused. T16 to T18 are the acceptance tests of those numbers.
#include "engine/patterns.h"

#include "engine/engine.h"
#include "tests/support/kv_fixture.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace hipattn::engine {
namespace {

using core::HeadPattern;
using core::PatternEntry;
using core::PatternTable;
using core::PatternType;

// Heads of one kind of a published file: how many have which pair.
struct Share {
  uint32_t heads;
  HeadPattern sizes;
};

struct Published {
  const char* name;
  uint32_t num_layers, num_heads;
  std::vector<Share> shares;  // the rest is vertical-slash (1000, 6096)
  bool counts;                // scores are counts, not shares
};

constexpr HeadPattern Lines(uint32_t verticals, uint32_t slashes) {
  return {PatternType::kVerticalSlash, verticals, slashes};
}

// The shapes of the files that MInference publishes.
const std::vector<Published>& AllPublished() {
  static const std::vector<Published> all = {
      {"Llama 3 8B 262k",
       32,
       32,
       {{278, Lines(30, 800)},
        {153, Lines(100, 800)},
        {89, Lines(3500, 100)},
        {31, Lines(500, 700)}},
       true},
      {"Llama 3.1 8B, second", 32, 32, {{1024, Lines(512, 2048)}}, false},
      {"Llama 3.1 8B, first",
       32,
       32,
       {{297, Lines(100, 800)},
        {175, Lines(30, 800)},
        {149, Lines(3500, 100)},
        {120, Lines(500, 700)},
        {4, Lines(100, 750)}},
       false},
      {"Llama 3.1 70B",
       80,
       64,
       {{2331, Lines(3500, 100)},
        {777, Lines(30, 800)},
        {698, Lines(500, 700)},
        {380, Lines(100, 800)},
        {116, Lines(100, 750)}},
       false},
      {"Llama 3 70B 262k",
       80,
       64,
       {{654, Lines(30, 800)},
        {319, Lines(100, 800)},
        {221, Lines(3500, 100)},
        {106, Lines(500, 700)}},
       false},
      {"Qwen2 7B", 28, 28, {{128, Lines(30, 800)}, {36, Lines(3500, 100)}}, false},
      {"Qwen2.5 32B", 64, 40, {{771, Lines(30, 800)}}, false},
      {"Qwen2.5 7B 1M", 28, 28, {{40, Lines(22032, 18532)}, {90, Lines(9192, 14288)}}, false},
      {"Qwen2.5 14B 1M", 48, 40, {{9, Lines(15744, 12344)}}, false},
      {"GLM 4 9B 1M", 40, 32, {{145, Lines(3500, 100)}, {77, Lines(30, 800)}}, false},
      {"Phi 3 mini 128k",
       32,
       32,
       {{378, Lines(3500, 100)},
        {184, Lines(100, 750)},
        {92, Lines(500, 700)},
        {50, Lines(30, 800)},
        {43, {PatternType::kAShape, 100, 800}}},
       false},
      {"Yi 9B 200k",
       48,
       32,
       {{536, Lines(1000, 4096)},
        {474, Lines(100, 800)},
        {266, Lines(30, 800)},
        {200, Lines(3500, 100)},
        {60, Lines(500, 700)}},
       true},
  };
  return all;
}

PatternTable Make(const Published& published, testing::Random* random) {
  std::vector<HeadPattern> heads(size_t{published.num_layers} * published.num_heads);
  size_t next = 0;
  for (const Share& share : published.shares) {
    for (uint32_t i = 0; i < share.heads; ++i) {
      heads[next++] = share.sizes;
    }
  }
  random->Shuffle(&heads);
  PatternTable table;
  table.layers.resize(published.num_layers);
  for (size_t i = 0; i < heads.size(); ++i) {
    const double share = random->Uniform() * 1.0005;
    table.layers[i / published.num_heads][static_cast<uint32_t>(i % published.num_heads)] = {
        heads[i],
        {published.counts ? static_cast<double>(random->Below(21960055)) : share,
         published.counts}};
  }
  return table;
}

// As the published programs write: indented or in one line, heads in any order.
std::string Write(const PatternTable& table, bool indented, testing::Random* random) {
  const std::string line = indented ? "\n        " : "";
  std::string text = "[";
  for (const auto& layer : table.layers) {
    text += text.size() > 1 ? ", {" : "{";
    std::vector<std::pair<uint32_t, PatternEntry>> heads(layer.begin(), layer.end());
    random->Shuffle(&heads);
    for (size_t i = 0; i < heads.size(); ++i) {
      const auto& [head, entry] = heads[i];
      char score[40];
      (void)snprintf(
          score, sizeof(score), entry.score.is_integer ? "%.0f" : "%.17g", entry.score.value);
      text += StrCat(i > 0 ? ", " : "",
                     line,
                     "\"",
                     head,
                     "\": [",
                     line,
                     "\"",
                     core::PatternTypeName(entry.sizes.type),
                     "\", ",
                     line,
                     entry.sizes.a,
                     ", ",
                     line,
                     entry.sizes.b,
                     ", ",
                     line,
                     score,
                     "]");
    }
    text += "}";
  }
  return text + "]";
}

TEST(PrefillAcceptance, T16_FilesOfEveryPublishedShapeAreRead) {
  testing::Random random(16);
  for (const Published& published : AllPublished()) {
    SCOPED_TRACE(published.name);
    const PatternTable want = Make(published, &random);
    for (const bool indented : {false, true}) {
      const Result<PatternTable> read = ParsePatterns(Write(want, indented, &random),
                                                      {published.num_layers, published.num_heads});
      ASSERT_TRUE(read.ok()) << read.status().message();
      EXPECT_EQ(read.value(), want);
      std::map<std::pair<uint32_t, uint32_t>, uint32_t> histogram;
      for (const auto& layer : read.value().layers) {
        for (const auto& [head, entry] : layer) {
          ++histogram[{entry.sizes.a, entry.sizes.b}];
        }
      }
      for (const Share& share : published.shares) {
        EXPECT_GE((histogram[{share.sizes.a, share.sizes.b}]), share.heads);
      }
    }
  }
}

TEST(PrefillAcceptance, T16_WritingAndReadingGivesTheSame) {
  testing::Random random(17);
  PatternTable table;
  table.layers.resize(4);
  const double scores[] = {
      0, 1, -1, 14994473, 0.1, 1e-300, 1.7976931348623157e308, -2.5, 3.0, 1e25};
  for (uint32_t i = 0; i < 60; ++i) {
    const double score = scores[random.Below(10)];
    table.layers[random.Below(3)][random.Below(65536)] = {
        {static_cast<PatternType>(random.Below(3)),
         random.Below((1 << 24) + 1),
         random.Below(3000)},
        {score, score == std::floor(score) && random.Below(2) == 0}};
  }
  table.layers[3][65535] = {{PatternType::kAShape, 0, 1 << 24}, {1.0005, false}};
  const Result<PatternTable> read = ParsePatterns(PatternText(table), {});
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_EQ(read.value(), table);
  EXPECT_EQ(ParsePatterns(PatternText({}), {}).value(), PatternTable{});
}

TEST(PrefillAcceptance, T16_WhatIsMissingIsVerticalSlash) {
  const PatternTable table =
      ParsePatterns(R"([{"1":["stream_llm",7,8,9]},{},{"0":["block_sparse",1,2,0.5]}])", {})
          .value();
  const PatternEntry missing = {{PatternType::kVerticalSlash, 1000, 6096}, {1.0, true}};
  EXPECT_EQ(table.Lookup(0, 0), missing);
  EXPECT_EQ(table.Lookup(1, 1), missing);
  EXPECT_EQ(table.Lookup(3, 0), missing);
  EXPECT_EQ(table.Lookup(0, 1).Pattern(), (HeadPattern{PatternType::kAShape, 7, 8}));
  EXPECT_EQ(table.Lookup(2, 0).sizes, (HeadPattern{PatternType::kBlockSparse, 1, 2}));
  EXPECT_EQ(table.Lookup(2, 0).Pattern(), (HeadPattern{PatternType::kBlockSparse, 100, 0}));
}

TEST(PrefillAcceptance, T18_AHeadOffsetPicksTheHeadsOfTheWholeModel) {
  testing::Random random(18);
  const PatternTable table = Make(AllPublished()[3], &random);
  for (uint32_t head = 0; head < 64; ++head) {
    EXPECT_EQ(table.Lookup(5, head % 16, head / 16 * 16), table.layers[5].at(head));
  }
}

struct Malformed {
  std::string text;
  PatternFault fault;
  const char* words;
};

std::string Entry(const std::string& entry) {
  return R"([{},{"3":)" + entry + "}]";
}

TEST(PrefillAcceptance, T17_EachFaultIsRefusedByName) {
  const std::string ok = R"(["vertical_and_slash",1,2,3])";
  const Malformed table[] = {
      {"", PatternFault::kSyntax, "no JSON"},
      {"[{\"0\":" + ok + "}", PatternFault::kSyntax, "no JSON at byte"},
      {"[] []", PatternFault::kSyntax, "no JSON"},
      {std::string("[]\0", 3), PatternFault::kSyntax, "at byte 2"},
      {"\xef\xbb\xbf[]", PatternFault::kSyntax, "at byte 0"},
      {std::string(1000000, '['), PatternFault::kSyntax, "no JSON"},
      {"[7, nonsense", PatternFault::kSyntax, "no JSON"},
      {Entry(R"(["vertical_and_slash",1,2,NaN])"), PatternFault::kSyntax, "no JSON"},
      {"{}", PatternFault::kNotArray, "the file is an object"},
      {"1e999", PatternFault::kNotArray, "the file is 1e999"},
      {"[{}, [1]]", PatternFault::kLayerNotObject, "layer 1 is an array"},
      {"[{}, 1e999]", PatternFault::kLayerNotObject, "layer 1 is 1e999"},
      {"[{},{},{},{},{}]", PatternFault::kTooManyLayers, "more layers than the model, which has 4"},
      {R"([{"head":)" + ok + "}]", PatternFault::kBadHeadKey, "layer 0, head \"head\""},
      {R"([{"03":)" + ok + "}]", PatternFault::kBadHeadKey, "layer 0, head \"03\""},
      {R"([{"65536":)" + ok + "}]", PatternFault::kBadHeadKey, "head \"65536\""},
      {R"([{},{"8":)" + ok + "}]",
       PatternFault::kHeadOutOfRange,
       "layer 1, head 8: the model has 8"},
      {R"([{},{"3":)" + ok + R"(,"\u0033":)" + ok + "}]",
       PatternFault::kDuplicateHead,
       "layer 1, head 3 stands there twice"},
      {Entry("7"), PatternFault::kEntryShape, "layer 1, head 3: the entry is 7"},
      {Entry("1e999"), PatternFault::kEntryShape, "the entry is 1e999"},
      {Entry(R"(["vertical_and_slash",1,2])"), PatternFault::kEntryShape, "has 3 items"},
      {Entry(R"(["vertical_and_slash",1,2,3,4,5,6])"), PatternFault::kEntryShape, "more items"},
      {Entry(R"(["vertical_and_slash",1,2,3,1e999])"), PatternFault::kEntryShape, "more items"},
      {Entry(R"(["dense",1,2,3])"), PatternFault::kBadType, "layer 1, head 3: type is dense"},
      {Entry(R"([["vertical_and_slash"],1,2,3])"), PatternFault::kBadType, "type is an array"},
      {Entry(R"([1e999,1,2,3])"), PatternFault::kBadType, "type is 1e999"},
      {Entry(R"(["vertical_and_slash",-1,2,3])"),
       PatternFault::kBadBudget,
       "layer 1, head 3: k_v is -1, must be a whole number from 0 to 16777216"},
      {Entry(R"(["vertical_and_slash",1,2.0,3])"), PatternFault::kBadBudget, "k_s is 2.0"},
      {Entry(R"(["stream_llm",true,2,3])"), PatternFault::kBadBudget, "n_init is true"},
      {Entry(R"(["stream_llm",1,1e999,3])"), PatternFault::kBadBudget, "n_local is 1e999"},
      {Entry(R"(["block_sparse",1,{"a":[1,2]},3])"), PatternFault::kBadBudget, "second size is an"},
      {Entry(R"(["vertical_and_slash",1,1000000000,3])"),
       PatternFault::kBudgetTooLarge,
       "layer 1, head 3: k_s is 1000000000"},
      {Entry(R"(["vertical_and_slash",99999999999999999999999,1,3])"),
       PatternFault::kBudgetTooLarge,
       "k_v is 99999999999999999999999"},
      {Entry(R"(["vertical_and_slash",1,2,"0.9"])"),
       PatternFault::kBadScore,
       "layer 1, head 3: score is 0.9"},
      {Entry(R"(["vertical_and_slash",1,2,1e999])"), PatternFault::kBadScore, "score is 1e999"},
  };
  for (const Malformed& row : table) {
    PatternFault fault = PatternFault::kNoFault;
    const Result<PatternTable> read = ParsePatterns(row.text, {4, 8}, &fault);
    ASSERT_FALSE(read.ok()) << row.words;
    const std::string& message = read.status().message();
    EXPECT_STREQ(PatternFaultName(fault), PatternFaultName(row.fault)) << message;
    EXPECT_EQ(message.find(PatternFaultName(row.fault)), 0U) << message;
    EXPECT_NE(message.find(row.words), std::string::npos) << message << "\nnot: " << row.words;
    const bool foreign =
        fault == PatternFault::kTooManyLayers || fault == PatternFault::kHeadOutOfRange;
    EXPECT_EQ(read.status().code(), foreign ? StatusCode::kMismatch : StatusCode::kCorrupt);
  }
}

// Every cut and every changed byte of a good file is read or refused, without harm.
TEST(PrefillAcceptance, T17_NoDamageDoesHarm) {
  const std::string good = R"([{"1":["stream_llm",7,8,9.5]},{"\u0032":["block_sparse",1,2,-0]}])";
  ASSERT_TRUE(ParsePatterns(good, {}).ok());
  for (size_t length = 0; length < good.size(); ++length) {
    EXPECT_FALSE(ParsePatterns(good.substr(0, length), {}).ok()) << length;
  }
  for (size_t i = 0; i < good.size(); ++i) {
    for (int byte = 0; byte < 256; ++byte) {
      std::string changed = good;
      changed[i] = static_cast<char>(byte);
      const Result<PatternTable> read = ParsePatterns(changed, {});
      if (read.ok()) {
        EXPECT_EQ(ParsePatterns(PatternText(read.value()), {}).value(), read.value());
      }
    }
  }
}

class PatternsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = (std::filesystem::temp_directory_path() /
             ("hipattn_patterns_test_" + std::to_string(getpid()) + ".json"))
                .string();
  }
  void TearDown() override { std::filesystem::remove(path_); }
  void SetText(const std::string& text) const {
    std::ofstream(path_, std::ios::binary | std::ios::trunc) << text;
  }

  std::string path_;
};

TEST_F(PatternsTest, AnEngineKeepsWhatItHasWhenAFileIsRefused) {
  EngineOptions options;
  options.num_layers = 2;
  options.num_q_heads = 4;
  options.num_kv_heads = 2;
  options.head_dim = 64;
  options.num_threads = 1;
  options.device_kv_bytes = uint64_t{64} << 20;
  const auto engine = Engine::Create(ResolveEngineOptions(options).value()).value();
  EXPECT_EQ(engine->patterns(), PatternTable{});
  PatternTable table;
  table.layers.resize(2);
  table.layers[1][3] = {{PatternType::kAShape, 5, 6}, {2.0, true}};
  ASSERT_TRUE(WritePatterns(path_, table).ok());
  ASSERT_TRUE(engine->LoadPatterns(path_).ok());
  EXPECT_EQ(engine->patterns(), table);

  EXPECT_EQ(engine->LoadPatterns(path_ + ".not").code(), StatusCode::kIoError);
  SetText("[{}]x");
  EXPECT_EQ(engine->LoadPatterns(path_).code(), StatusCode::kCorrupt);
  SetText("[{},{},{}]");
  EXPECT_EQ(engine->LoadPatterns(path_).code(), StatusCode::kMismatch);
  SetText(R"([{"4":["stream_llm",1,2,3]}])");
  EXPECT_EQ(engine->LoadPatterns(path_).code(), StatusCode::kMismatch);
  EXPECT_EQ(engine->patterns(), table);
  SetText("[]");
  EXPECT_TRUE(engine->LoadPatterns(path_).ok());
  EXPECT_EQ(engine->patterns(), PatternTable{}) << "the place of those before";
}

}  // namespace
}  // namespace hipattn::engine
