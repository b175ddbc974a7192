// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// hipattn-recall as a user meets it, on a tiny random model, whose answers are all wrong: what is
// measured, that a run goes on where it ended, and every wrong input.
// HIPATTN_RECALL_PROGRAM is the path of the program.
#include "run_program.h"
#include "synthetic_gguf.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <map>
#include <sstream>

namespace recall_bench {
namespace {

using hipattn_run::testing::ProgramResult;
using hipattn_run::testing::ReadFile;
using hipattn_run::testing::RunProgram;
using hipattn_run::testing::WriteFile;
using nlohmann::json;

class RecallCli : public ::testing::Test {
 protected:
  void SetUp() override {
    hipattn_run::testing::TinyLlama tiny;
    tiny.trained_tokens = 1024;
    WriteFile(model_, hipattn_run::testing::MakeTinyLlama(tiny));
    std::string text;
    for (int i = 0; i < 400; ++i) {
      text += "line " + std::to_string(i * i) + " of a text\n";
    }
    WriteFile(text_, text);
  }

  ProgramResult Run(const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {HIPATTN_RECALL_PROGRAM,
                                          "--model",
                                          model_,
                                          "--text",
                                          text_,
                                          "--out",
                                          out_,
                                          "--tokens",
                                          tokens_,
                                          "--sinks",
                                          "16",
                                          "--window",
                                          "100",
                                          "--keep-wrong",
                                          "--quiet"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunProgram(arguments);
  }

  // One line per fact and setting, without what differs from run to run.
  std::map<std::string, json> Results() {
    std::map<std::string, json> results;
    std::istringstream lines(ReadFile(out_));
    std::string line;
    std::getline(lines, line);
    while (std::getline(lines, line)) {
      json result = json::parse(line);
      for (const char* key : {"seconds", "text_seconds", "search_seconds", "attend_seconds"}) {
        result.erase(key);
      }
      const std::string key = result.at("fact").dump() + result.at("setting").get<std::string>();
      EXPECT_TRUE(results.emplace(key, result).second) << key << " twice";
    }
    return results;
  }

  void ExpectFailure(const ProgramResult& result, const std::string& part, int exit_code = 1) {
    EXPECT_EQ(result.exit_code, exit_code) << result.err;
    EXPECT_NE(result.err.find(part), std::string::npos) << result.err;
    EXPECT_EQ(result.out, "");
  }

  const std::vector<std::string> settings_ = {"--setting",
                                              "all=tree:decode=dense",
                                              "--setting",
                                              "oracle:budget=64",
                                              "--setting",
                                              "tree:budget=64/256,rerank=none,verify=on",
                                              "--setting",
                                              "flat:budget=64,rerank=none,block=32",
                                              "--setting",
                                              "beam:budget=64,rerank=none",
                                              "--setting",
                                              "grow=default:budget=64,rerank=128,min_recall=0.95"};
  static constexpr size_t kSettings = 7;

  hipattn_run::testing::TemporaryFolder folder_;
  std::string model_ = folder_.File("tiny.gguf");
  std::string text_ = folder_.File("text.txt");
  std::string out_ = folder_.File("results.jsonl");
  std::string tokens_ = "900";
  std::string summary_ = folder_.File("summary.json");
};

TEST_F(RecallCli, JudgesSettingsByDense) {
  std::vector<std::string> arguments = settings_;
  arguments.insert(arguments.end(), {"--facts", "2", "--summary", summary_});
  const ProgramResult result = Run(arguments);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  EXPECT_NE(result.out.find("of 2 facts right"), std::string::npos) << result.out;
  EXPECT_EQ(Results().size(), 2 * (kSettings + 1));
  const json summary = json::parse(ReadFile(summary_));
  EXPECT_EQ(summary.at("facts_asked"), 2);
  EXPECT_EQ(summary.at("run").at("tokens"), 900);
  std::map<std::string, json> settings;
  for (const json& setting : summary.at("settings")) {
    EXPECT_EQ(setting.at("measured"), 2);
    settings[setting.at("name")] = setting;
  }
  ASSERT_EQ(settings.size(), kSettings);
  // Dense attention from a replayed cache is dense attention.
  const json& all = settings.at("all");
  EXPECT_NEAR(all.at("mass").get<double>(), 1.0, 1e-6);
  EXPECT_NEAR(all.at("kl").get<double>(), 0.0, 1e-6);
  EXPECT_EQ(all.at("tokens_as_dense"), 1.0);
  EXPECT_EQ(all.at("attended"), 1.0);
  const double mass = settings.at("tree:budget=64,rerank=none,verify=on").at("mass");
  EXPECT_GT(mass, 0.0);
  EXPECT_LT(mass, settings.at("tree:budget=256,rerank=none,verify=on").at("mass").get<double>());
  EXPECT_LT(mass, settings.at("oracle:budget=64").at("mass").get<double>());
  for (const auto& [name, setting] : settings) {
    // The library's own sums say the same. Its scores may come from bf16 products, which err by up
    // to 2^-8 of the products' sizes; those are below 1 in this model.
    EXPECT_LT(setting.at("lse_gap").get<double>(), 0x1p-8) << name;
    EXPECT_GT(setting.at("attended_bytes_per_head").get<double>(), 0.0) << name;
  }
  const json& tree = settings.at("tree:budget=64,rerank=none,verify=on");
  EXPECT_LT(tree.at("verify_error").get<double>(), 0x1p-8);
  EXPECT_FALSE(tree.at("estimate_error").is_null());
  EXPECT_GT(tree.at("search_keys_per_head").get<double>(), 0.0);
  // Budgets grew, and by the exact mass fewer tokens would have done.
  const json& grown = settings.at("grow");
  EXPECT_GT(grown.at("mass_at_least_95").get<double>(), tree.at("mass_at_least_95").get<double>());
  EXPECT_GE(grown.at("least_tokens").get<double>(), 64);
  EXPECT_GT(grown.at("grown_tokens").get<double>(), 64);
  EXPECT_LE(grown.at("grown_tokens").get<double>(), 900 - 100 - 16);
  EXPECT_TRUE(tree.at("least_tokens").is_null());
  EXPECT_TRUE(settings.at("oracle:budget=64").at("verify_error").is_null());
  EXPECT_EQ(settings.at("oracle:budget=64").at("search_keys_per_head"), 0.0);
}

// Settings that read the text themselves: one whose mask covers it reads as dense attention does,
// the others leave something out; settings that replay the dense text are measured beside them.
TEST_F(RecallCli, JudgesPrefillModes) {
  const std::string patterns = folder_.File("patterns.json");
  hipattn_run::testing::WriteFile(patterns, R"([{"0":["stream_llm",16,64,1]},{}])");
  const std::vector<std::string> arguments = {
      "--keep-wrong",
      "--facts",
      "1",
      "--summary",
      summary_,
      "--patterns",
      patterns,
      "--setting",
      "ends=default:decode=dense,prefill=a-shape,sizes=16x64,verify=on",
      "--setting",
      "cut=default:decode=dense,prefill=a-shape,sizes=16x64,chunk=300",
      "--setting",
      "replayed=tree:decode=dense",
      "--setting",
      "file=default:decode=dense,prefill=patterns",
      "--setting",
      "whole=default:decode=dense,prefill=a-shape,sizes=2000x2000"};
  ASSERT_EQ(Run(arguments).exit_code, 0);
  std::map<std::string, json> settings;
  const json summary = json::parse(ReadFile(summary_));
  for (const json& setting : summary.at("settings")) {
    settings[setting.at("name")] = setting;
  }
  const json& ends = settings.at("ends");
  EXPECT_LT(ends.at("prefill_density").get<double>(), 0.9);
  EXPECT_LT(ends.at("prefill_recall").get<double>(), 0.9);
  EXPECT_GT(ends.at("kl").get<double>(), settings.at("whole").at("kl").get<double>());
  EXPECT_GT(ends.at("prefill_seconds").get<double>(), 0.0);
  // A window cut into chunks is the same window, so the answer is, to the bit.
  EXPECT_EQ(ends.at("kl"), settings.at("cut").at("kl"));
  EXPECT_TRUE(settings.at("cut").at("prefill_recall").is_null()) << "was not verified";
  EXPECT_GT(settings.at("file").at("prefill_density").get<double>(),
            ends.at("prefill_density").get<double>());
  for (const char* name : {"replayed", "whole"}) {
    EXPECT_NEAR(settings.at(name).at("kl").get<double>(), 0.0, 1e-6) << name;
    EXPECT_EQ(settings.at(name).at("tokens_as_dense"), 1.0) << name;
  }
  EXPECT_TRUE(settings.at("replayed").at("prefill_density").is_null());
  EXPECT_EQ(settings.at("whole").at("prefill_density"), 1.0);

  const std::string results = ReadFile(out_);
  ASSERT_EQ(Run(arguments).exit_code, 0);
  EXPECT_EQ(ReadFile(out_), results) << "nothing is measured twice";
  hipattn_run::testing::WriteFile(patterns, "[]");
  ExpectFailure(Run(arguments), "patterns");
  ExpectFailure(Run({"--setting", "default:prefill=patterns"}), "needs --patterns");
}

TEST_F(RecallCli, GoesOnWhereItEnded) {
  std::vector<std::string> arguments = settings_;
  arguments.insert(arguments.end(), {"--facts", "2"});
  ASSERT_EQ(Run(arguments).exit_code, 0);
  const std::string whole = ReadFile(out_);
  const std::map<std::string, json> results = Results();
  ASSERT_EQ(Run(arguments).exit_code, 0);
  EXPECT_EQ(ReadFile(out_), whole);
  // Interrupted inside a line of the first fact.
  WriteFile(out_, whole.substr(0, whole.size() / 3));
  ASSERT_EQ(Run(arguments).exit_code, 0);
  EXPECT_EQ(Results(), results);
  // A part of it, then all: more facts, more settings, two threads.
  std::filesystem::remove(out_);
  ASSERT_EQ(Run({"--facts", "1", "--setting", "oracle:budget=64"}).exit_code, 0);
  arguments.insert(arguments.end(), {"--jobs", "2"});
  ASSERT_EQ(Run(arguments).exit_code, 0);
  EXPECT_EQ(Results(), results);
}

TEST_F(RecallCli, WrongInputLeavesNoOutput) {
  const std::vector<std::string> setting = {"--setting", "tree:budget=64"};
  ExpectFailure(Run({"--setting", "tree:budgets=64"}), "'budgets' is none of the fields");
  ExpectFailure(Run({"--setting", "tree:budget=65"}), "setting 'tree:budget=65': cannot create");
  ExpectFailure(Run({"--setting", "tree:budget=64,block=17"}), "block_tokens is 17");
  tokens_ = "60";
  ExpectFailure(Run(setting), "--tokens", 2);
  tokens_ = "100";
  ExpectFailure(Run(setting), "--tokens is 100");
  tokens_ = "100000";
  ExpectFailure(Run(setting), "the text has ");
  ExpectFailure(Run({"--form", "riddle"}), "--form", 2);
  ExpectFailure(
      RunProgram({HIPATTN_RECALL_PROGRAM, "--model", model_, "--text", text_}), "--out", 2);
  ExpectFailure(
      RunProgram({HIPATTN_RECALL_PROGRAM, "--model", model_, "--text", "/none", "--out", out_}),
      "/none");
  ExpectFailure(
      RunProgram({HIPATTN_RECALL_PROGRAM, "--model", text_, "--text", text_, "--out", out_}),
      "GGUF");
  EXPECT_FALSE(std::filesystem::exists(out_));
}

TEST_F(RecallCli, ResultsOfAnotherRunStay) {
  ASSERT_EQ(Run({"--facts", "1", "--setting", "mine=oracle:budget=64"}).exit_code, 0);
  const std::string whole = ReadFile(out_);
  ExpectFailure(Run({"--facts", "1", "--seed", "2"}), "seed is 1 there, 2 here");
  ExpectFailure(Run({"--facts", "1", "--setting", "mine=oracle:budget=32"}),
                "has results of setting 'mine' as oracle:budget=64, not oracle:budget=32");
  EXPECT_EQ(ReadFile(out_), whole);
}

TEST_F(RecallCli, HelpShowsOptionsAndSettings) {
  const ProgramResult result = RunProgram({HIPATTN_RECALL_PROGRAM, "--help"});
  EXPECT_EQ(result.exit_code, 0);
  for (const char* word :
       {"--model",       "--text",       "--facts",         "--seed",    "--tokens",
        "--distractors", "--form",       "--answer-tokens", "--setting", "--sinks",
        "--window",      "--patterns",   "--out",           "--summary", "--jobs",
        "--quiet",       "--keep-wrong", "oracle",          "scorer=",   "secret-number"}) {
    EXPECT_NE(result.out.find(word), std::string::npos) << word;
  }
}

}  // namespace
}  // namespace recall_bench
