// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// hipattn-run on the real model against what transformers gave on the same weights, as recorded by
// check_against_transformers.py: the tokens of each prompt, and the greedy continuation. Skipped
// where the model is not there (scripts/fetch_assets.sh gets it).
// HIPATTN_RUN_PROGRAM, HIPATTN_MODEL and HIPATTN_EXPECTATIONS are paths.
#include "gguf.h"
#include "mapped_file.h"
#include "run_program.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <sstream>

namespace hipattn_run {
namespace {

using nlohmann::json;

class Expectations : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(HIPATTN_MODEL)) {
      GTEST_SKIP() << "no model at " << HIPATTN_MODEL << "; scripts/fetch_assets.sh gets it";
    }
  }
};

std::vector<std::string> Arguments(const json& test_case) {
  std::vector<std::string> arguments = {
      HIPATTN_RUN_PROGRAM, "--model", HIPATTN_MODEL, "--prompt", test_case.at("prompt")};
  if (test_case.at("raw").get<bool>()) {
    arguments.emplace_back("--raw");
  }
  return arguments;
}

TEST_F(Expectations, TokensAndGreedyAnswersAreThoseOfTransformers) {
  const testing::TemporaryFolder folder;
  const json recorded = json::parse(testing::ReadFile(HIPATTN_EXPECTATIONS));
  for (const json& test_case : recorded.at("cases")) {
    SCOPED_TRACE(test_case.at("name").get<std::string>());
    std::vector<std::string> arguments = Arguments(test_case);
    arguments.emplace_back("--dump-tokens");
    std::istringstream dumped(testing::RunProgram(arguments).out);
    EXPECT_EQ(std::vector<int32_t>(std::istream_iterator<int32_t>(dumped), {}),
              test_case.at("prompt_tokens").get<std::vector<int32_t>>());

    const std::string result = folder.File("result.json");
    arguments = Arguments(test_case);
    arguments.insert(arguments.end(),
                     {"--attention",
                      "dense",
                      "--kv-dtype",
                      "f32",
                      "--json",
                      result,
                      "--max-new-tokens",
                      recorded.at("max_new_tokens").dump()});
    const testing::ProgramResult run = testing::RunProgram(arguments);
    ASSERT_EQ(run.exit_code, 0) << run.err;
    EXPECT_EQ(json::parse(testing::ReadFile(result)).at("token_ids"), test_case.at("new_tokens"));
  }
}

TEST_F(Expectations, TruncationsOfTheRealFileAreErrors) {
  Result<MappedFile> file = MappedFile::Open(HIPATTN_MODEL);
  ASSERT_TRUE(file.ok());
  const std::span<const uint8_t> bytes = file.value().bytes();
  ASSERT_TRUE(GgufFile::Parse(bytes).ok());
  constexpr size_t kStep = 64 << 10;
  for (size_t size = 0; size < bytes.size(); size += kStep) {
    ASSERT_FALSE(GgufFile::Parse(bytes.first(size)).ok()) << size;
  }
}

}  // namespace
}  // namespace hipattn_run
