// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// hipattn-search as a user meets it, on a tiny random model: files, a search that goes on, pictures
// and every wrong input. HIPATTN_SEARCH_PROGRAM is the path of the program.
#include "run_program.h"
#include "synthetic_gguf.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <filesystem>

namespace pattern_search {
namespace {

using hipattn_run::testing::ProgramResult;
using hipattn_run::testing::ReadFile;
using hipattn_run::testing::WriteFile;
using nlohmann::json;

class SearchCli : public ::testing::Test {
 protected:
  void SetUp() override {
    hipattn_run::testing::TinyLlama tiny;
    tiny.trained_tokens = 1024;
    WriteFile(model_, hipattn_run::testing::MakeTinyLlama(tiny));
    std::string text;
    for (int i = 0; i < 80; ++i) {
      text += "line " + std::to_string(i * i) + " of a text\n";
    }
    WriteFile(text_, text);
  }

  // By FLOPs, so that every run chooses the same.
  ProgramResult Run(const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {HIPATTN_SEARCH_PROGRAM,
                                          "--model",
                                          model_,
                                          "--text",
                                          text_,
                                          "--out",
                                          out_,
                                          "--flops",
                                          "--quiet",
                                          "--candidate",
                                          "a-shape:64,64"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    if (std::find(more.begin(), more.end(), "--tokens") == more.end()) {
      arguments.insert(arguments.end(), {"--tokens", "700"});
    }
    return hipattn_run::testing::RunProgram(arguments);
  }

  void ExpectFailure(const ProgramResult& result, const std::string& part, int exit_code = 1) {
    EXPECT_EQ(result.exit_code, exit_code) << result.err;
    EXPECT_NE(result.err.find(part), std::string::npos) << result.err;
    EXPECT_EQ(result.out, "");
  }

  hipattn_run::testing::TemporaryFolder folder_;
  std::string model_ = folder_.File("tiny.gguf");
  std::string text_ = folder_.File("text.txt");
  std::string out_ = folder_.File("patterns.json");
  std::string scores_ = folder_.File("patterns.scores.json");
};

TEST_F(SearchCli, WritesPatternsAndScores) {
  const ProgramResult result = Run({"--bound", "0.1"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  const json patterns = json::parse(ReadFile(out_));
  const json scores = json::parse(ReadFile(scores_));
  ASSERT_EQ(patterns.size(), 2U);
  EXPECT_EQ(scores.at("run").at("tokens"), 700);
  EXPECT_EQ(scores.at("run").at("cost_unit"), "flops");
  EXPECT_EQ(scores.at("run").at("model").at("name"), "tiny.gguf");
  EXPECT_EQ(scores.at("costs").at("dense_tile"), 4 * 64 * 64 * 16);
  const size_t candidates = scores.at("run").at("candidates").size();
  for (size_t layer = 0; layer < 2; ++layer) {
    ASSERT_EQ(patterns[layer].size(), 4U);
    for (size_t head = 0; head < 4; ++head) {
      const json& score = scores.at("layers")[layer][head];
      const json& entry = patterns[layer].at(std::to_string(head));
      // All others run dense on so short a text.
      EXPECT_EQ(entry[0], "stream_llm");
      EXPECT_EQ(entry[1], 64);
      EXPECT_EQ(entry[3], score.at("recall"));
      EXPECT_GT(score.at("recall"), 0.1);
      EXPECT_LT(score.at("recall"), 1.0);
      EXPECT_GT(score.at("error"), 0.0);
      EXPECT_DOUBLE_EQ(score.at("density"), 30.0 / 66);
      EXPECT_EQ(score.at("trials").size(), candidates);
    }
  }
  EXPECT_NE(result.out.find("a-shape 64,64                     8"), std::string::npos)
      << result.out;
  const std::string help = Run({"--help"}).out;
  EXPECT_NE(help.find("vertical-slash 3500,100"), std::string::npos);
  EXPECT_NE(help.find("block-sparse 100"), std::string::npos);
}

TEST_F(SearchCli, GoesOnWhereItEnded) {
  ASSERT_EQ(Run({"--bound", "0.1"}).exit_code, 0);
  const json patterns = json::parse(ReadFile(out_));
  json scores = json::parse(ReadFile(scores_));
  // What is not searched again keeps a mark; the second layer's is lost with it.
  scores["layers"][0][0]["error"] = 42;
  scores["layers"][1][0]["error"] = 43;
  WriteFile(scores_, scores.dump());
  WriteFile(out_, json::array({patterns[0]}).dump());
  const ProgramResult result = Run({"--bound", "0.1", "--jobs", "2"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(json::parse(ReadFile(out_)), patterns);
  const json again = json::parse(ReadFile(scores_));
  EXPECT_EQ(again.at("layers")[0][0].at("error"), 42);
  EXPECT_LT(again.at("layers")[1][0].at("error"), 2.0);
  // A whole one is only shown.
  EXPECT_EQ(Run({"--bound", "0.1"}).out, result.out);
}

TEST_F(SearchCli, OtherFilesAreRefused) {
  ASSERT_EQ(Run({}).exit_code, 0);
  const std::string patterns = ReadFile(out_);
  const std::string scores = ReadFile(scores_);
  ExpectFailure(Run({"--tokens", "640"}), "tokens is 700 there, 640 here");
  ExpectFailure(Run({"--bound", "0.5"}), "bound is 0.95 there, 0.5 here");
  ExpectFailure(Run({"--candidate", "a-shape:64,128"}), "another search: candidates");
  json other = json::parse(patterns);
  other[1]["2"][2] = 4097;
  WriteFile(out_, other.dump());
  ExpectFailure(Run({}), "layer 1 head 2 is not what");
  WriteFile(out_, "[{}, {}, {}]");
  ExpectFailure(Run({}), "too_many_layers");
  WriteFile(out_, patterns);
  WriteFile(scores_, "{}");
  ExpectFailure(Run({}), "has no scores");
  json cut = json::parse(scores);
  cut["layers"].erase(1);
  WriteFile(scores_, cut.dump());
  ExpectFailure(Run({}), "fewer layers");
  std::filesystem::remove(scores_);
  ExpectFailure(Run({}), "patterns.scores.json");
  EXPECT_EQ(ReadFile(out_), patterns);
}

TEST_F(SearchCli, MasksOfHeads) {
  const std::string path = folder_.File("masks.json");
  const ProgramResult result = Run({"--bound", "0.1", "--pictures", path, "--picture-head", "1/2"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const json masks = json::parse(ReadFile(path));
  ASSERT_EQ(masks.at("heads").size(), 1U);
  const json& head = masks.at("heads")[0];
  EXPECT_EQ(head.at("layer"), 1);
  EXPECT_EQ(head.at("label"), "a-shape 64,64");
  const json& row = head.at("attended")[9];
  ASSERT_EQ(row.size(), 10U);
  EXPECT_GT(row[0], 0.0);
  EXPECT_EQ(row[4], 0.0);
  EXPECT_GT(row[9], 0.0);
  EXPECT_GT(head.at("dense")[9][4], 0.0);
  ExpectFailure(Run({"--pictures", path, "--picture-head", "2/0"}), "--picture-head is 2/0");
  ExpectFailure(Run({"--pictures", "/dev/full/x", "--bound", "0.1", "--picture-head", "0/0"}),
                "/dev/full");
}

TEST_F(SearchCli, WrongOptionsAreErrors) {
  ExpectFailure(Run({"--objective", "best"}), "best", 2);
  ExpectFailure(Run({"--bound", "1.5"}), "bound", 2);
  ExpectFailure(Run({"--refine", "0.95"}), "refine", 2);
  ExpectFailure(Run({"--tokens", "1"}), "tokens", 2);
  ExpectFailure(Run({"--jobs", "0"}), "jobs", 2);
  ExpectFailure(Run({"--candidate", "a-shape:64"}), "a-shape:A,B", 2);
  ExpectFailure(Run({"--candidate", "hip:64,64"}), "hip:64,64", 2);
  ExpectFailure(Run({"--candidate", "a-shape:0,64"}), "must be 1 to", 2);
  ExpectFailure(Run({"--candidate", "vertical-slash:30,800"}), "there already", 2);
  ExpectFailure(Run({"--picture-head", "1-2", "--pictures", "x"}), "LAYER/HEAD", 2);
  ExpectFailure(Run({"--picture-head", "1/2"}), "--pictures", 2);
  ExpectFailure(Run({"--tokens", "100000"}), "--tokens is 100000");
  WriteFile(text_, "good \xff bad");
  ExpectFailure(Run({}), "not UTF-8");
}

}  // namespace
}  // namespace pattern_search
