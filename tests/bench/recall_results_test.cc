// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Results files: what a rerun finds in them, and what it refuses. Intervals and summaries.
#include "results_file.h"
#include "run_program.h"
#include "summary.h"

#include <gtest/gtest.h>

#include <filesystem>

namespace recall_bench {
namespace {

using hipattn_run::testing::ReadFile;
using hipattn_run::testing::TemporaryFolder;
using hipattn_run::testing::WriteFile;
using nlohmann::json;

const json kRun = {{"kind", "test"}, {"seed", 1}};

std::unique_ptr<ResultsFile> Open(const std::string& path) {
  Result<std::unique_ptr<ResultsFile>> file = ResultsFile::Open(path, kRun);
  EXPECT_TRUE(file.ok()) << file.status().message();
  return file.ok() ? std::move(file.value()) : nullptr;
}

std::string OpenError(const std::string& path, const json& run) {
  const Result<std::unique_ptr<ResultsFile>> file = ResultsFile::Open(path, run);
  EXPECT_FALSE(file.ok());
  return file.status().message();
}

class RecallResults : public ::testing::Test {
 protected:
  void WriteTwo() {
    const std::unique_ptr<ResultsFile> file = Open(path_);
    ASSERT_NE(file, nullptr);
    ASSERT_TRUE(file->Add({{"fact", 0}, {"setting", "a"}, {"kl", 0.5}}).ok());
    ASSERT_TRUE(file->Add({{"fact", 1}, {"setting", "a"}, {"kl", 0.25}}).ok());
  }

  TemporaryFolder folder_;
  std::string path_ = folder_.File("results.jsonl");
};

TEST_F(RecallResults, AreThereAfterAReopening) {
  WriteTwo();
  std::unique_ptr<ResultsFile> file = Open(path_);
  ASSERT_NE(file->Find(1, "a"), nullptr);
  EXPECT_EQ(file->Find(1, "a")->at("kl"), 0.25);
  EXPECT_EQ(file->Find(1, "b"), nullptr);
  EXPECT_EQ(file->Find(2, "a"), nullptr);
  ASSERT_TRUE(file->Add({{"fact", 2}, {"setting", "b"}}).ok());
  file.reset();
  EXPECT_NE(Open(path_)->Find(2, "b"), nullptr);
  const std::string text = ReadFile(path_);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 4);
}

TEST_F(RecallResults, LeaveNoFileWithoutALine) {
  std::unique_ptr<ResultsFile> file = Open(path_);
  file.reset();
  EXPECT_FALSE(std::filesystem::exists(path_));
  file = Open(path_);
  ASSERT_TRUE(file->Add({{"fact", 0}, {"setting", "a"}}).ok());
  file.reset();
  EXPECT_TRUE(std::filesystem::exists(path_));
}

// A lock belongs to what opened the file, so a second opening is refused here as in another
// process.
TEST_F(RecallResults, AreWrittenByOneAtATime) {
  for (const bool is_new : {true, false}) {
    std::unique_ptr<ResultsFile> file = Open(path_);
    EXPECT_EQ(OpenError(path_, kRun),
              "another process has '" + path_ + "' open: one at a time may write it");
    ASSERT_TRUE(file->Add({{"fact", is_new ? 0 : 1}, {"setting", "a"}}).ok());
    EXPECT_NE(OpenError(path_, kRun).find("another process"), std::string::npos);
    file.reset();
    const std::unique_ptr<ResultsFile> next = Open(path_);
    ASSERT_NE(next, nullptr);
    EXPECT_NE(next->Find(is_new ? 0 : 1, "a"), nullptr);
  }
}

TEST_F(RecallResults, WhereNoFileCanBeAreAnError) {
  const std::string path = folder_.File("none") + "/results.jsonl";
  EXPECT_NE(OpenError(path, kRun).find("cannot open '" + path + "'"), std::string::npos);
}

TEST_F(RecallResults, SurviveATornLastLine) {
  WriteTwo();
  const std::string whole = ReadFile(path_);
  const size_t last_line = whole.rfind('\n', whole.size() - 2) + 1;
  // Cut anywhere inside the last line, its line break included.
  for (size_t size = last_line + 1; size < whole.size(); ++size) {
    WriteFile(path_, whole.substr(0, size));
    const std::unique_ptr<ResultsFile> file = Open(path_);
    ASSERT_NE(file, nullptr);
    EXPECT_NE(file->Find(0, "a"), nullptr);
    EXPECT_EQ(file->Find(1, "a"), nullptr);
    ASSERT_TRUE(file->Add({{"fact", 1}, {"setting", "a"}, {"kl", 0.25}}).ok());
    EXPECT_EQ(ReadFile(path_), whole);
  }
}

TEST_F(RecallResults, SurviveATornFirstLine) {
  WriteFile(path_, "{\"kind\":\"te");
  std::unique_ptr<ResultsFile> file = Open(path_);
  ASSERT_NE(file, nullptr);
  ASSERT_TRUE(file->Add({{"fact", 0}, {"setting", "a"}}).ok());
  file.reset();
  EXPECT_NE(Open(path_)->Find(0, "a"), nullptr);
}

TEST_F(RecallResults, OfAnotherRunAreRefused) {
  WriteTwo();
  const std::string whole = ReadFile(path_);
  EXPECT_NE(OpenError(path_, {{"kind", "test"}, {"seed", 2}}).find("seed is 1 there, 2 here"),
            std::string::npos);
  EXPECT_NE(OpenError(path_, {{"kind", "test"}, {"seed", 1}, {"tokens", 5}})
                .find("tokens is null there, 5 here"),
            std::string::npos);
  EXPECT_EQ(ReadFile(path_), whole);
}

TEST_F(RecallResults, OtherFilesAreRefusedUntouched) {
  for (const char* text : {"some notes", "some notes\nand more\n", "[1, 2]\n", "7"}) {
    WriteFile(path_, text);
    EXPECT_NE(OpenError(path_, kRun).find("is no results file"), std::string::npos) << text;
    EXPECT_EQ(ReadFile(path_), text);
  }
  std::filesystem::remove(path_);
  WriteTwo();
  WriteFile(path_, ReadFile(path_) + "not JSON\n" + "{\"fact\":3,\"setting\":\"a\"}\n");
  EXPECT_NE(OpenError(path_, kRun).find("line 4 is not a JSON object"), std::string::npos);
}

TEST_F(RecallResults, LinesWithoutFactAreRefused) {
  WriteFile(path_, kRun.dump() + "\n{\"setting\":\"a\"}\n");
  EXPECT_NE(OpenError(path_, kRun).find("line 2 has no fact and setting"), std::string::npos);
}

// Table I of R. G. Newcombe, Two-sided confidence intervals for the single proportion (1998),
// method 3, to its four digits; and what holds at the ends.
TEST(RecallSummary, WilsonIntervals) {
  const struct {
    uint64_t right, count;
    double low, high;
  } cases[] = {
      {81, 263, 0.2553, 0.3662},
      {15, 148, 0.0624, 0.1605},
      {0, 20, 0.0, 0.1611},
      {1, 29, 0.0061, 0.1718},
      {20, 20, 1 - 0.1611, 1.0},
  };
  for (const auto& c : cases) {
    const Interval interval = WilsonInterval(c.right, c.count);
    EXPECT_NEAR(interval.low, c.low, 0.5001e-4) << c.right << " of " << c.count;
    EXPECT_NEAR(interval.high, c.high, 0.5001e-4) << c.right << " of " << c.count;
  }
  EXPECT_EQ(WilsonInterval(0, 0).low, 0.0);
  EXPECT_EQ(WilsonInterval(0, 0).high, 1.0);
}

json Line(uint64_t fact, const std::string& setting, bool right, double mass) {
  json line = {{"fact", fact}, {"setting", setting}, {"right", right}};
  for (const char* name : {"mass",
                           "mass_at_least_90",
                           "mass_at_least_95",
                           "fact_attended",
                           "answer_mass",
                           "answer_fact",
                           "lse_gap",
                           "estimate_error",
                           "estimate_bias",
                           "verify_error",
                           "attended"}) {
    line[name] = {{"sum", 0.0}, {"count", 0}};
  }
  line["mass"] = {{"sum", 2 * mass}, {"count", 2}};
  for (const char* name : {"kl",
                           "tokens_as_dense",
                           "scanned_heads",
                           "search_keys_per_head",
                           "search_bytes_per_head",
                           "attended_bytes_per_head",
                           "search_seconds",
                           "attend_seconds",
                           "seconds"}) {
    line[name] = 0.0;
  }
  line["kl"] = mass / 10;
  return line;
}

TEST(RecallSummary, CountsAnswersWhereDenseIsRight) {
  Result<std::vector<Setting>> settings = ParseSettings({"a=tree:budget=512", "b=flat"}, {});
  ASSERT_TRUE(settings.ok());
  ResultsFile::Results results;
  const auto add = [&](const json& line) {
    results[{line.at("fact").get<uint64_t>(), line.at("setting").get<std::string>()}] = line;
  };
  for (uint64_t fact = 0; fact < 4; ++fact) {
    add({{"fact", fact}, {"setting", "dense"}, {"right", fact != 2}});
    add(Line(fact, "a", fact != 1, 0.1 * static_cast<double>(fact)));
  }
  const json summary = Summarize(results, settings.value(), 4, false);
  EXPECT_EQ(summary.at("facts_asked"), 4);
  EXPECT_EQ(summary.at("facts_dense_right"), 3);
  EXPECT_EQ(summary.at("facts_dense_wrong"), json::array({2}));
  const json& a = summary.at("settings")[0];
  EXPECT_EQ(a.at("facts"), 3);
  EXPECT_EQ(a.at("right"), 2);
  EXPECT_EQ(a.at("lost_facts"), json::array({1}));
  EXPECT_NEAR(a.at("mass").get<double>(), 0.4 / 3, 1e-12);  // facts 0, 1, 3
  EXPECT_NEAR(a.at("kl").get<double>(), 0.04 / 3, 1e-12);
  EXPECT_TRUE(a.at("fact_attended").is_null());
  EXPECT_EQ(summary.at("settings")[1].at("facts"), 0);
  EXPECT_TRUE(summary.at("settings")[1].at("mass").is_null());

  const json all = Summarize(results, settings.value(), 4, true);
  EXPECT_EQ(all.at("settings")[0].at("facts"), 3);
  EXPECT_EQ(all.at("settings")[0].at("measured"), 4);
  EXPECT_NEAR(all.at("settings")[0].at("mass").get<double>(), 0.6 / 4, 1e-12);
  EXPECT_EQ(Summarize(results, settings.value(), 2, false).at("settings")[0].at("facts"), 2);
}

}  // namespace
}  // namespace recall_bench
