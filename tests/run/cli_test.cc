// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// hipattn-run as a user meets it, on a tiny random model: answers, JSON, and every wrong input.
// HIPATTN_RUN_PROGRAM is the path of the program.
#include "run_program.h"
#include "synthetic_gguf.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace hipattn_run {
namespace {

using nlohmann::json;
using testing::ProgramResult;

class Cli : public ::testing::Test {
 protected:
  void SetUp() override {
    bytes_ = testing::MakeTinyLlama({});
    model_ = folder_.File("tiny.gguf");
    testing::WriteFile(model_, bytes_);
  }

  ProgramResult Run(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), HIPATTN_RUN_PROGRAM);
    return testing::RunProgram(arguments);
  }

  // With the tiny model and a short limit.
  ProgramResult RunTiny(std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--model", model_, "--max-new-tokens", "5"});
    return Run(std::move(arguments));
  }

  static void ExpectFailure(const ProgramResult& result, int exit_code, const std::string& part) {
    EXPECT_EQ(result.exit_code, exit_code) << result.err;
    EXPECT_NE(result.err.find(part), std::string::npos) << result.err;
    EXPECT_LT(result.err.size(), 2000U);
  }

  testing::TemporaryFolder folder_;
  std::string bytes_;
  std::string model_;
};

TEST_F(Cli, HelpShowsEveryOption) {
  const ProgramResult result = Run({"--help"});
  EXPECT_EQ(result.exit_code, 0);
  for (const char* option : {"--model",
                             "--prompt",
                             "--prompt-file",
                             "--question",
                             "--max-new-tokens",
                             "--attention",
                             "--budget-tokens",
                             "--sink-tokens",
                             "--window-tokens",
                             "--scorer",
                             "--search",
                             "--refresh-interval",
                             "--kv-dtype",
                             "--threads",
                             "--ctx-chunk",
                             "--rope-base",
                             "--temperature",
                             "--seed",
                             "--json",
                             "--quiet",
                             "--compare",
                             "--raw",
                             "--depth",
                             "--device-kv-bytes",
                             "--host-kv-bytes",
                             "--prefill",
                             "--prefill-sizes",
                             "--prefill-last-q",
                             "--prefill-threshold",
                             "--prefill-skip",
                             "--prefill-delta",
                             "--patterns",
                             "--compare-prefill",
                             "--save-text",
                             "--load-text",
                             "--trace"}) {
    EXPECT_NE(result.out.find(option), std::string::npos) << option;
  }
  EXPECT_NE(result.out.find("=4096"), std::string::npos);
  EXPECT_NE(result.out.find("=auto"), std::string::npos);
}

TEST_F(Cli, AnswersAndWritesJson) {
  const std::string path = folder_.File("result.json");
  const ProgramResult result = RunTiny({"--prompt",
                                        "Hello",
                                        "--attention",
                                        "dense",
                                        "--json",
                                        path,
                                        "--ignore-end",
                                        "--threads",
                                        "1"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const json object = json::parse(testing::ReadFile(path));
  EXPECT_EQ(object.at("text").get<std::string>() + "\n", result.out);
  EXPECT_EQ(object.at("new_tokens"), 5);
  EXPECT_EQ(object.at("token_ids").size(), 5U);
  EXPECT_EQ(object.at("decode_steps"), 4);
  const auto step_ms = object.at("decode_step_ms").get<std::vector<double>>();
  ASSERT_EQ(step_ms.size(), 4U);
  EXPECT_GT(*std::min_element(step_ms.begin(), step_ms.end()), 0.0);
  // The sum of four doubles, each scaled by 1000: some 10 roundings of 2^-53.
  const double sum_ms = std::accumulate(step_ms.begin(), step_ms.end(), 0.0);
  EXPECT_NEAR(sum_ms, object.at("decode_seconds").get<double>() * 1e3, sum_ms * 1e-14);
  EXPECT_EQ(object.at("attention"), "dense");
  EXPECT_EQ(object.at("threads"), 1);
  EXPECT_GT(object.at("prompt_tokens"), 5);
  EXPECT_GT(object.at("prefill_seconds"), 0.0);
  EXPECT_GT(object.at("decode_seconds"), 0.0);
  EXPECT_GT(object.at("prefill_cpu_seconds"), 0.0);
  EXPECT_GT(object.at("decode_cpu_seconds"), 0.0);
  EXPECT_GT(object.at("decode_tokens_per_second"), 0.0);
  EXPECT_DOUBLE_EQ(object.at("attended_share"), 1.0);
  EXPECT_GT(object.at("kv_bytes"), 0);
  EXPECT_TRUE(object.at("stats").contains("search_keys_read"));
}

TEST_F(Cli, QuietSaysNothingOnStderr) {
  const ProgramResult result = RunTiny({"--prompt", "Hello", "--quiet"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.err, "");
}

TEST_F(Cli, ChunksOfAnySizeGiveTheSameAnswer) {
  const std::string document = folder_.File("document.txt");
  testing::WriteFile(document, std::string(100, 'a') + " then the end\n");
  const auto answer = [&](const std::string& chunk) {
    return RunTiny({"--prompt-file",
                    document,
                    "--ctx-chunk",
                    chunk,
                    "--attention",
                    "dense",
                    "--kv-dtype",
                    "f32",
                    "--ignore-end"});
  };
  const ProgramResult whole = answer("512");
  ASSERT_EQ(whole.exit_code, 0) << whole.err;
  EXPECT_EQ(answer("7").out, whole.out);
  EXPECT_EQ(answer("16").out, whole.out);
}

TEST_F(Cli, ComparesDenseWithSparse) {
  const std::string path = folder_.File("result.json");
  const ProgramResult result =
      RunTiny({"--prompt", "Hello", "--compare", "--ignore-end", "--json", path});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const json object = json::parse(testing::ReadFile(path));
  ASSERT_EQ(object.at("answers").size(), 2U);
  // The default budget covers so short a text.
  EXPECT_EQ(object.at("answers")[0].at("token_ids"), object.at("answers")[1].at("token_ids"));
  EXPECT_EQ(object.at("answers")[1].at("attention"), "sparse");
  EXPECT_NE(result.err.find("tok/s"), std::string::npos);
}

TEST_F(Cli, SketchesMayBeWidenedOrLeftOut) {
  EXPECT_NE(Run({"--help"}).out.find("--rerank-tokens"), std::string::npos);
  for (const char* tokens : {"0", "4096", "none"}) {
    const ProgramResult result =
        RunTiny({"--prompt", "Hello", "--attention", "sparse", "--rerank-tokens", tokens});
    EXPECT_EQ(result.exit_code, 0) << tokens << result.err;
  }
  const ProgramResult narrow = RunTiny({"--prompt", "Hello", "--rerank-tokens", "256"});
  EXPECT_NE(narrow.exit_code, 0);
  EXPECT_NE(narrow.err.find("rerank_tokens is 256"), std::string::npos) << narrow.err;
  EXPECT_NE(RunTiny({"--prompt", "Hello", "--rerank-tokens", "some"}).exit_code, 0);
}

// The answer of a process that reads the document is that of one that loads it, and of one that
// does neither.
TEST_F(Cli, ATextIsSavedAndLoadedAgain) {
  const std::string document = folder_.File("document.txt");
  testing::WriteFile(document, std::string(150, 'a') + " then the end\n");
  const std::string text = folder_.File("text");
  const std::string report = folder_.File("result.json");
  for (const char* attention : {"dense", "sparse"}) {
    const auto answer = [&](const std::string& question, std::vector<std::string> arguments) {
      arguments.insert(arguments.end(),
                       {"--prompt-file", document, "--ignore-end", "--attention", attention});
      arguments.insert(arguments.end(), {"--json", report, "--question", question});
      return RunTiny(std::move(arguments));
    };
    const ProgramResult plain = answer("What then?", {});
    ASSERT_EQ(plain.exit_code, 0) << plain.err;
    const ProgramResult saving = answer("What then?", {"--save-text", text});
    ASSERT_EQ(saving.exit_code, 0) << saving.err;
    EXPECT_EQ(saving.out, plain.out);
    const size_t saved = json::parse(testing::ReadFile(report)).at("saved_tokens");
    EXPECT_GT(saved, 100U);
    EXPECT_EQ(saved % 16, 0U);
    const ProgramResult loading = answer("What then?", {"--load-text", text});
    ASSERT_EQ(loading.exit_code, 0) << loading.err;
    EXPECT_EQ(loading.out, plain.out);
    EXPECT_NE(loading.err.find("tokens in"), std::string::npos);
    EXPECT_NE(loading.err.find("of them loaded in"), std::string::npos) << loading.err;
    const json loaded = json::parse(testing::ReadFile(report));
    EXPECT_EQ(loaded.at("saved_tokens"), saved);
    EXPECT_GT(loaded.at("load_seconds"), 0.0);
    const ProgramResult other = answer("Who else?", {"--load-text", text});
    EXPECT_EQ(other.exit_code, 0) << other.err;
    EXPECT_EQ(other.out, answer("Who else?", {}).out) << "another question of the same text";
  }
}

TEST_F(Cli, ATextIsLoadedWithItsOwnPromptOnly) {
  const std::string text = folder_.File("text");
  const std::string prompt = "A prompt that has some twenty tokens or more in all.";
  ASSERT_EQ(RunTiny({"--prompt", prompt, "--save-text", text}).exit_code, 0);
  EXPECT_EQ(RunTiny({"--prompt", prompt, "--load-text", text}).exit_code, 0);
  ExpectFailure(RunTiny({"--prompt", "Another" + prompt, "--load-text", text}), 1, "fingerprint");
  ExpectFailure(
      RunTiny({"--prompt", prompt, "--load-text", text, "--kv-dtype", "f32"}), 1, "kv_dtype is");
  ExpectFailure(RunTiny({"--prompt", prompt, "--load-text", text + "2"}), 1, "cannot be opened");
  ExpectFailure(
      RunTiny({"--prompt", prompt, "--save-text", "/dev/null/t"}), 1, "cannot be created");
  ExpectFailure(
      RunTiny({"--prompt", prompt, "--save-text", text, "--load-text", text}), 2, "--save-text");
  ExpectFailure(RunTiny({"--prompt", prompt, "--save-text", text, "--depth", "9"}), 2, "--depth");
  testing::WriteFile(text, "damaged");
  ExpectFailure(RunTiny({"--prompt", prompt, "--load-text", text}), 1, "HIPATTN_CORRUPT");
}

// The tiny model's own base is 10000; a text rotated by another one is another text.
TEST_F(Cli, TheRopeBaseIsTheModelsOrTheGivenOne) {
  const std::vector<std::string> prompt = {"--prompt", "Hello", "--quiet"};
  const auto run = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), prompt.begin(), prompt.end());
    return RunTiny(arguments);
  };
  EXPECT_EQ(run({"--rope-base", "10000"}).out, run({}).out);
  const std::string saved = folder_.File("stretched");
  EXPECT_EQ(run({"--rope-base", "40000", "--save-text", saved}).exit_code, 0);
  EXPECT_EQ(run({"--rope-base", "40000", "--load-text", saved}).exit_code, 0);
  ExpectFailure(run({"--load-text", saved}), 1, "rope_theta is 40000");
}

TEST_F(Cli, AHeadProfileIsWrittenAndReadAgain) {
  const std::string help = Run({"--help"}).out;
  EXPECT_NE(help.find("--audit-interval"), std::string::npos);
  EXPECT_NE(help.find("read if it is there, written at the end"), std::string::npos);
  const std::string path = folder_.File("heads.json");
  for (const char* steps : {"none", "0", "16"}) {
    const ProgramResult result =
        RunTiny({"--prompt", "Hello", "--audit-interval", steps, "--head-profile", path});
    EXPECT_EQ(result.exit_code, 0) << steps << result.err;
    const json profile = json::parse(testing::ReadFile(path));
    EXPECT_EQ(profile.at("format"), "hipattn head profile");
    EXPECT_EQ(profile.at("heads").size(),
              profile.at("num_layers").get<size_t>() * profile.at("num_kv_heads").get<size_t>());
  }
  EXPECT_NE(RunTiny({"--prompt", "Hello", "--audit-interval", "some"}).exit_code, 0);
  testing::WriteFile(path, "{}");
  const ProgramResult damaged = RunTiny({"--prompt", "Hello", "--head-profile", path});
  ExpectFailure(damaged, 1, "format is missing");
  EXPECT_EQ(testing::ReadFile(path), "{}");
}

TEST_F(Cli, TellsTheRecallOfEveryHead) {
  const std::string help = Run({"--help"}).out;
  EXPECT_NE(help.find("--min-recall"), std::string::npos);
  EXPECT_NE(help.find("--verify-recall"), std::string::npos);
  const std::string path = folder_.File("result.json");
  const std::string document = folder_.File("document.txt");
  testing::WriteFile(document, std::string(180, 'a') + " then the end\n");
  const auto run = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments = {"--prompt-file",
                                          document,
                                          "--attention",
                                          "sparse",
                                          "--budget-tokens",
                                          "16",
                                          "--rerank-tokens",
                                          "64",
                                          "--sink-tokens",
                                          "16",
                                          "--window-tokens",
                                          "32",
                                          "--ignore-end",
                                          "--json",
                                          path};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ProgramResult result = RunTiny(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return std::pair(result, json::parse(testing::ReadFile(path)));
  };
  EXPECT_TRUE(run({}).second.at("recall").is_null());

  const auto [verified, object] = run({"--verify-recall"});
  const json& recall = object.at("recall");
  EXPECT_EQ(recall.at("steps"), 4);
  const size_t layers = recall.at("num_layers");
  const size_t kv_heads = recall.at("num_kv_heads");
  ASSERT_EQ(recall.at("q_heads").size(), layers * recall.at("num_q_heads").get<size_t>());
  ASSERT_EQ(recall.at("kv_heads").size(), layers * kv_heads);
  for (const json& head : recall.at("q_heads")) {
    const double truth = head.at("truth");
    EXPECT_GT(truth, 0.0);
    EXPECT_LT(truth, 1.0);
    EXPECT_LE(head.at("least_truth"), truth);
    EXPECT_NEAR(head.at("estimate").get<double>(), truth, 0.2);
    EXPECT_GE(head.at("error").get<double>() + 1e-9,
              std::abs(head.at("estimate").get<double>() - truth));
  }
  const auto steps = recall.at("kv_heads")[0].at("attended_steps").get<std::vector<uint32_t>>();
  EXPECT_EQ(steps.front(), 4U);  // a sink
  EXPECT_EQ(*std::min_element(steps.begin(), steps.end()), 0U);
  EXPECT_NE(verified.err.find("softmax mass attended"), std::string::npos) << verified.err;

  const json grown = run({"--min-recall", "1"}).second;
  EXPECT_EQ(grown.at("recall").at("estimate"), 1.0);
  EXPECT_TRUE(grown.at("recall").at("truth").is_null());
  EXPECT_EQ(grown.at("attended_share"), 1.0);
}

// 64 sinks and a window of 64 of some 780 tokens, read as one chunk: 13 row tiles, of which dense
// attention computes 91. A row tile attends its own key tile, the one before and tile 0: 36.
TEST_F(Cli, PrefillByAMaskIsComparedWithDense) {
  const std::string path = folder_.File("result.json");
  const std::string document = folder_.File("document.txt");
  testing::WriteFile(document, std::string(780, 'a') + "\n");
  const auto run = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments = {"--prompt-file",
                                          document,
                                          "--raw",
                                          "--ctx-chunk",
                                          "1024",
                                          "--max-prompt-tokens",
                                          "780",
                                          "--ignore-end",
                                          "--json",
                                          path};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ProgramResult result = RunTiny(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return std::pair(result, json::parse(testing::ReadFile(path)));
  };
  const auto [compared, object] =
      run({"--prefill", "a-shape", "--prefill-sizes", "64,64", "--compare-prefill"});
  ASSERT_EQ(object.at("prefills").size(), 2U);
  const json& dense = object.at("prefills")[0];
  const json& masked = object.at("prefills")[1];
  EXPECT_EQ(dense.at("prefill"), "dense");
  EXPECT_EQ(dense.at("density"), 1.0);
  EXPECT_TRUE(dense.at("same_answer").get<bool>());
  EXPECT_EQ(masked.at("prefill"), "a-shape");
  constexpr int kHeads = 2 * 4;  // of both layers
  EXPECT_EQ(masked.at("prefill_tiles"), kHeads * 36);
  EXPECT_EQ(masked.at("prefill_dense_tiles"), kHeads * 91);
  EXPECT_DOUBLE_EQ(masked.at("density"), 36.0 / 91.0);
  EXPECT_GT(masked.at("prefill_seconds"), 0.0);
  ASSERT_EQ(object.at("answers").size(), 2U);
  EXPECT_EQ(masked.at("same_answer").get<bool>(),
            object.at("answers")[0].at("token_ids") == object.at("answers")[1].at("token_ids"));
  EXPECT_EQ(dense.at("first_token_kl"), 0.0);
  EXPECT_GT(masked.at("first_token_kl"), 0.0);
  EXPECT_NE(compared.err.find("39.6 %"), std::string::npos) << compared.err;
  EXPECT_NE(compared.out.find("dense: "), std::string::npos);
  EXPECT_NE(compared.out.find("a-shape: "), std::string::npos);

  // A delta correction of every row is dense attention, and so is AUTO of a short text.
  for (const std::vector<std::string>& same :
       {std::vector<std::string>{"--prefill", "a-shape", "--prefill-delta", "1"},
        std::vector<std::string>{"--prefill", "auto"}}) {
    std::vector<std::string> arguments = same;
    arguments.emplace_back("--compare-prefill");
    const auto [shown, measured] = run(arguments);
    const json& second = measured.at("prefills")[1];
    EXPECT_EQ(second.at("first_token_kl"), 0.0) << same[1];
    EXPECT_TRUE(second.at("same_answer").get<bool>()) << same[1];
    EXPECT_EQ(second.at("prefill_tiles"), 0) << same[1];
  }

  const auto [alone, single] = run({"--prefill", "a-shape", "--prefill-sizes", "64,64"});
  EXPECT_FALSE(single.contains("prefills"));
  EXPECT_EQ(single.at("prefill_tiles"), kHeads * 36);
  EXPECT_EQ(single.at("token_ids"), object.at("answers")[1].at("token_ids"));
  EXPECT_NE(alone.err.find("density 39.6 %"), std::string::npos) << alone.err;
  EXPECT_TRUE(single.at("prefill_recall").is_null());
  const auto [verified, known] =
      run({"--prefill", "a-shape", "--prefill-sizes", "64,64", "--verify-recall"});
  EXPECT_GT(known.at("prefill_recall"), 0.05);
  EXPECT_LT(known.at("prefill_recall"), 0.95);
  EXPECT_NE(verified.err.find("density 39.6 %, recall 0."), std::string::npos) << verified.err;
  // A window that covers the text runs dense.
  const json whole = run({"--prefill", "a-shape", "--prefill-sizes", "64,1024"}).second;
  EXPECT_EQ(whole.at("density"), 1.0);
  EXPECT_EQ(whole.at("token_ids"), object.at("answers")[0].at("token_ids"));
}

TEST_F(Cli, PatternsComeFromAFile) {
  const std::string path = folder_.File("patterns.json");
  const std::string json_path = folder_.File("result.json");
  testing::WriteFile(path, R"([{"0": ["stream_llm", 64, 64, 1]}])");
  const std::string document = folder_.File("document.txt");
  testing::WriteFile(document, std::string(780, 'a') + "\n");
  const auto run = [&] {
    return RunTiny({"--prompt-file",
                    document,
                    "--raw",
                    "--ctx-chunk",
                    "1024",
                    "--max-prompt-tokens",
                    "780",
                    "--prefill",
                    "patterns",
                    "--patterns",
                    path,
                    "--json",
                    json_path});
  };
  const ProgramResult result = run();
  ASSERT_EQ(result.exit_code, 0) << result.err;
  // Head 0 of layer 0 as above, the file's default, which is dense here, for the other seven.
  EXPECT_EQ(json::parse(testing::ReadFile(json_path)).at("prefill_tiles"), 36 + 7 * 91);
  testing::WriteFile(path, R"([{"0": ["stream", 64, 64, 1]}])");
  ExpectFailure(run(), 1, "layer 0, head 0: type is stream");
  testing::WriteFile(path, "[{}, {}, {}]");
  ExpectFailure(run(), 1, "too_many_layers");
  ExpectFailure(
      RunTiny({"--prompt", "x", "--prefill", "patterns", "--patterns", "/no/file"}), 1, "/no/file");
}

TEST_F(Cli, EveryPrefillModeOfTheReleaseReadsThePrompt) {
  for (const char* mode : {"auto",
                           "dense",
                           "a-shape",
                           "vertical-slash",
                           "block-sparse",
                           "hip",
                           "flex",
                           "xattention",
                           "flash-v2"}) {
    const ProgramResult result = RunTiny({"--prompt", "Hello", "--prefill", mode, "--ignore-end"});
    EXPECT_EQ(result.exit_code, 0) << mode << result.err;
    // So short a text is read densely by all of them.
    EXPECT_EQ(result.out, RunTiny({"--prompt", "Hello", "--ignore-end"}).out) << mode;
  }
}

TEST_F(Cli, WrongPrefillOptionsAreErrors) {
  const auto fails = [&](std::vector<std::string> more, int exit_code, const std::string& part) {
    more.insert(more.end(), {"--prompt", "x"});
    ExpectFailure(RunTiny(more), exit_code, part);
  };
  fails({"--prefill", "best"}, 2, "best");
  fails({"--prefill-sizes", "1,2,3"}, 2, "prefill-sizes");
  fails({"--prefill-sizes", "-1"}, 2, "prefill-sizes");
  fails({"--prefill-last-q", "65"}, 2, "prefill-last-q");
  fails({"--prefill-threshold", "2"}, 2, "prefill-threshold");
  fails({"--prefill-skip", "much"}, 2, "prefill-skip");
  fails({"--prefill", "patterns"}, 2, "needs --patterns");
  fails({"--patterns", "x.json"}, 2, "needs --prefill patterns or auto");
  fails({"--compare-prefill"}, 2, "other than dense");
  fails({"--compare-prefill", "--compare", "--prefill", "hip"}, 2, "--compare");
  fails({"--prefill-sizes", "64,64"}, 1, "prefill_sizes[0] is 64");
  fails({"--prefill", "block-sparse", "--prefill-sizes", "8,8"}, 1, "prefill_sizes[1] is 8");
  fails({"--prefill", "a-shape", "--prefill-last-q", "64"}, 1, "prefill_last_q is 64");
  fails({"--prefill-skip", "0.1"}, 1, "prefill_skip_threshold is 0.1");
  fails({"--prefill-threshold", "0.9"}, 1, "prefill_threshold is 0.9");
}

TEST_F(Cli, SeedsMakeTheAnswer) {
  const auto answer = [&](const std::string& seed) {
    return RunTiny({"--prompt", "Hello", "--temperature", "2", "--seed", seed, "--ignore-end"}).out;
  };
  EXPECT_EQ(answer("1"), answer("1"));
  EXPECT_NE(answer("1"), answer("2"));
}

TEST_F(Cli, FactsAndLimitsShapeTheDocument) {
  const std::string document = folder_.File("document.txt");
  testing::WriteFile(document, "one\ntwo\nthree\nfour\n");
  const ProgramResult cut =
      RunTiny({"--prompt-file", document, "--raw", "--dump-tokens", "--max-prompt-tokens", "7"});
  EXPECT_EQ(cut.out, "111\n110\n101\n10\n116\n119\n111\n");  // "one\ntwo"
  const ProgramResult fact = RunTiny({"--prompt-file",
                                      document,
                                      "--raw",
                                      "--dump-tokens",
                                      "--insert-fact",
                                      "F",
                                      "--insert-at",
                                      "0"});
  EXPECT_EQ(fact.out.substr(0, 24), "111\n110\n101\n10\n70\n10\n116");
}

// A cache of 5 MB in a tenth of it, and host memory behind.
TEST_F(Cli, TiersGiveTheSameTokens) {
  for (const std::string attention : {"dense", "sparse"}) {
    const auto run = [&](const std::vector<std::string>& tiers) {
      const std::string path = folder_.File("tiers.json");
      std::vector<std::string> arguments = {"--prompt",
                                            "Hello",
                                            "--attention",
                                            attention,
                                            "--depth",
                                            "20000",
                                            "--json",
                                            path,
                                            "--ignore-end",
                                            "--threads",
                                            "1",
                                            "--budget-tokens",
                                            "256"};
      arguments.insert(arguments.end(), tiers.begin(), tiers.end());
      const ProgramResult result = RunTiny(arguments);
      EXPECT_EQ(result.exit_code, 0) << result.err;
      EXPECT_EQ(result.err.find("tiers: ") != std::string::npos, !tiers.empty()) << result.err;
      return json::parse(testing::ReadFile(path));
    };
    const std::string device = attention == "dense" ? "512K" : "2M";
    const json want = run({});
    const json got = run({"--device-kv-bytes", device, "--host-kv-bytes", "64M"});
    EXPECT_EQ(got.at("token_ids"), want.at("token_ids"));
    EXPECT_GT(got.at("stats").at("blocks_fetched"), 0);
    EXPECT_EQ(want.at("stats").at("blocks_fetched"), 0);
    EXPECT_LE(got.at("stats").at("device_bytes_peak"), 2 << 20);
  }
}

TEST_F(Cli, WrongOptionsAreUsageErrors) {
  ExpectFailure(Run({}), 2, "--model");
  ExpectFailure(RunTiny({}), 2, "--prompt");
  ExpectFailure(RunTiny({"--prompt", "x", "--nonsense"}), 2, "nonsense");
  ExpectFailure(RunTiny({"--prompt", "x", "--attention", "both"}), 2, "both");
  ExpectFailure(RunTiny({"--prompt", "x", "--scorer", "best"}), 2, "best");
  ExpectFailure(RunTiny({"--prompt", "x", "--search", "none"}), 2, "none");
  ExpectFailure(RunTiny({"--prompt", "x", "--kv-dtype", "f64"}), 2, "f64");
  ExpectFailure(RunTiny({"--prompt", "x", "--ctx-chunk", "0"}), 2, "ctx-chunk");
  ExpectFailure(RunTiny({"--prompt", "x", "--rope-base", "-1"}), 2, "rope-base");
  ExpectFailure(RunTiny({"--prompt", "x", "--threads", "-1"}), 2, "threads");
  ExpectFailure(RunTiny({"--prompt", "x", "--temperature", "-1"}), 2, "temperature");
  ExpectFailure(RunTiny({"--prompt", "x", "--min-recall", "1.5"}), 2, "min-recall");
  ExpectFailure(RunTiny({"--prompt", "x", "--min-recall", "-0.1"}), 2, "min-recall");
  ExpectFailure(RunTiny({"--prompt", "x", "--min-recall", "much"}), 2, "min-recall");
  ExpectFailure(RunTiny({"--prompt", "x", "--min-recall", "0.5", "--scorer", "mean"}),
                1,
                "min_recall is 0.5");
  ExpectFailure(RunTiny({"--prompt", "x", "--insert-fact", "F"}), 2, "--prompt-file");
}

TEST_F(Cli, WrongModelsAreErrors) {
  ExpectFailure(Run({"--model", folder_.File("missing"), "--prompt", "x"}), 1, "missing");
  const std::string path = folder_.File("broken.gguf");
  testing::WriteFile(path, "This is no model.");
  ExpectFailure(Run({"--model", path, "--prompt", "x"}), 1, "not a GGUF file");
  testing::WriteFile(path, bytes_.substr(0, bytes_.size() / 2));
  ExpectFailure(Run({"--model", path, "--prompt", "x"}), 1, "broken.gguf");
}

TEST_F(Cli, WrongDocumentsAreErrors) {
  ExpectFailure(RunTiny({"--prompt-file", folder_.File("missing.txt")}), 1, "missing.txt");
  const std::string path = folder_.File("document.txt");
  testing::WriteFile(path, "");
  ExpectFailure(RunTiny({"--prompt-file", path}), 1, "empty");
  testing::WriteFile(path, "good \xff bad");
  ExpectFailure(RunTiny({"--prompt-file", path}), 1, "not UTF-8 at byte 5");
  ExpectFailure(RunTiny({"--prompt", "\xc3("}), 1, "not UTF-8");
}

TEST_F(Cli, QuestionsLongerThanTheContextAreErrors) {
  ExpectFailure(RunTiny({"--question", std::string(300, '?')}), 1, "--question has 300 tokens");
}

TEST_F(Cli, TextsLongerThanTrainedAreWarnedAbout) {
  const ProgramResult result = RunTiny({"--prompt", std::string(300, '?')});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_NE(result.err.find("warning"), std::string::npos);
}

TEST_F(Cli, FullDisksAreErrors) {
  ExpectFailure(RunTiny({"--prompt", "x", "--json", "/dev/full"}), 1, "/dev/full");
  ExpectFailure(RunTiny({"--prompt", "x", "--json", folder_.File("no/such/folder")}), 1, "folder");
}

// Under a limit of the address space: an error that says what for, and an end. (The sizes are far
// from what the program itself maps, which depends on the machine.)
TEST_F(Cli, MemoryThatTheSystemRefusesIsAnError) {
  const auto run_limited = [&](const std::string& kib, const std::string& options) {
    return testing::RunProgram({"/bin/sh",
                                "-c",
                                "ulimit -v " + kib +
                                    " && exec timeout 60 " HIPATTN_RUN_PROGRAM
                                    " --prompt 'It is not here' --max-new-tokens 2 --model '" +
                                    model_ + "' " + options});
  };
  // 20 million tokens of 256 bytes: 5 GB.
  ExpectFailure(run_limited("3000000", "--threads 1 --depth 20000000"), 1, "HIPATTN_OUT_OF_MEMORY");
  ExpectFailure(run_limited("3000000", "--threads 32"), 1, "matrix products");
}

TEST_F(Cli, DepthFillsTheCache) {
  const std::string path = folder_.File("result.json");
  const ProgramResult result = RunTiny(
      {"--prompt", "x", "--depth", "1000", "--json", path, "--ignore-end", "--attention", "dense"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(json::parse(testing::ReadFile(path)).at("depth"), 1000);
}

}  // namespace
}  // namespace hipattn_run
