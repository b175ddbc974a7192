// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// hipattn-recall: judges selections on a real model; README.md says what and how.
//
// Exit codes: 0 done, 1 failed, 2 wrong command line.
#include "fingerprint.h"
#include "gguf.h"
#include "mapped_file.h"
#include "progress.h"
#include "recall_options.h"
#include "summary.h"
#include "tokenizer.h"
#include "trial.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <fstream>
#include <iostream>
#include <mutex>
#include <thread>

namespace recall_bench {
namespace {

using hipattn_run::GgufFile;
using hipattn_run::Progress;
using hipattn_run::Tokenizer;
using nlohmann::json;

// Counted up when the same setting and fact are measured otherwise than before.
constexpr int kResultsVersion = 2;

// What all results of a file have in common. patterns: what the pattern file holds.
json DescribeRun(const RecallOptions& options,
                 const json& model,
                 const std::string& text,
                 const std::string& patterns) {
  json run = {{"kind", "hipattn-recall"},
              {"version", kResultsVersion},
              {"model", model},
              {"text", DescribeText(options.text, text)},
              {"seed", options.fact.seed},
              {"tokens", options.tokens},
              {"answer_tokens", options.answer_tokens},
              {"distractors", options.fact.distractors},
              {"forms", options.fact.forms.empty() ? FactForms() : options.fact.forms},
              {"sinks", options.defaults.sink_tokens},
              {"window", options.defaults.window_tokens}};
  if (!options.patterns.empty()) {
    run["patterns"] = DescribeText(options.patterns, patterns);
  }
  return run;
}

// Trials of the facts in [0, options.facts) on options.jobs threads.
Status RunTrials(const Bench& bench) {
  std::atomic<uint64_t> next{0};
  std::mutex mutex;
  Status failure;
  const auto work = [&] {
    Trial trial(bench);
    for (uint64_t fact = next++; fact < bench.options.facts; fact = next++) {
      const Status status = trial.Run(fact);
      if (!status.ok()) {
        const std::lock_guard lock(mutex);
        failure = Status::Error("fact ", fact, ": ", status.message());
        next = bench.options.facts;
      }
    }
  };
  const auto guarded = [&] {
    try {
      work();
    } catch (const std::exception& error) {
      const std::lock_guard lock(mutex);
      failure = Status::Error(error.what());
      next = bench.options.facts;
    }
  };
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < bench.options.jobs; ++i) {
    threads.emplace_back(guarded);
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  return failure;
}

// Tokens that trials of what is missing put through the model.
uint64_t MissingTokens(const Bench& bench) {
  uint64_t tokens = 0;
  for (uint64_t fact = 0; fact < bench.options.facts; ++fact) {
    const std::vector<const Setting*> missing = MissingSettings(bench, fact);
    if (!missing.empty() || bench.results->Find(fact, "dense") == nullptr) {
      tokens += TrialTokens(bench.options, missing);
    }
  }
  return tokens;
}

// Before anything is written: the library takes every setting, the text is long enough for every
// fact, and the results are of the same settings.
Status CheckInput(const Bench& bench) {
  for (const Setting& setting : bench.settings) {
    RUN_RETURN_IF_ERROR(CheckSetting(bench, setting));
  }
  for (uint64_t fact = 0; fact < bench.options.facts; ++fact) {
    const Result<Prompt> prompt = MakeBenchPrompt(bench, MakeFact(bench.options.fact, fact));
    if (!prompt.ok()) {
      return prompt.status();
    }
    for (const Setting& setting : bench.settings) {
      const json* const result = bench.results->Find(fact, setting.name);
      if (result != nullptr && result->value("spec", "") != setting.spec) {
        return Status::Error("'",
                             bench.options.out,
                             "' has results of setting '",
                             setting.name,
                             "' as ",
                             result->value("spec", ""),
                             ", not ",
                             setting.spec);
      }
    }
  }
  return {};
}

Status WriteSummary(const RecallOptions& options, const json& summary) {
  if (options.summary.empty()) {
    return {};
  }
  std::ofstream file(options.summary);
  file << summary.dump(2) << '\n' << std::flush;
  return file ? Status() : Status::Error("cannot write '", options.summary, "'");
}

Status RunBench(const RecallOptions& options,
                const std::vector<Setting>& settings,
                const LlamaModel& model,
                Tokenizer& tokenizer,
                const std::string& text) {
  Result<json> described = DescribeModel(options.model);
  if (!described.ok()) {
    return described.status();
  }
  std::string patterns;
  if (!options.patterns.empty()) {
    Result<std::string> read = hipattn_run::ReadTextFile(options.patterns);
    if (!read.ok()) {
      return read.status();
    }
    patterns = std::move(read.value());
  }
  const json run = DescribeRun(options, described.value(), text, patterns);
  Result<std::unique_ptr<ResultsFile>> results = ResultsFile::Open(options.out, run);
  if (!results.ok()) {
    return results.status();
  }
  Result<std::vector<int32_t>> tokens = tokenizer.Encode(text);
  if (!tokens.ok()) {
    return Status::Error("'", options.text, "': ", tokens.status().message());
  }
  const RopeTable rope(model, options.tokens);
  std::mutex mutex;
  uint64_t done = 0;
  Bench bench = {model, rope, options, settings, tokens.value(), {}, {}, {}, {}, {}, nullptr};
  bench.results = results.value().get();
  bench.bos = tokenizer.add_bos() ? tokenizer.bos() : std::nullopt;
  bench.encode = [&](std::string_view part) {
    const std::lock_guard lock(mutex);
    return tokenizer.Encode(part);
  };
  bench.decode = [&](const std::vector<int32_t>& part) { return tokenizer.Decode(part); };
  bench.is_end = [&](int32_t token) { return tokenizer.IsEnd(token); };
  RUN_RETURN_IF_ERROR(CheckInput(bench));
  const uint64_t total = MissingTokens(bench);
  Progress progress("recall", total, options.quiet);
  bench.progress = [&](uint64_t count) {
    const std::lock_guard lock(mutex);
    done = std::min(total, done + count);
    progress.Update(done);
  };
  RUN_RETURN_IF_ERROR(RunTrials(bench));
  json summary = Summarize(bench.results->results(), settings, options.facts, options.keep_wrong);
  summary["run"] = run;
  std::cout << FormatSummary(summary);
  return WriteSummary(options, summary);
}

Status Run(const RecallOptions& options) {
  const Result<std::vector<Setting>> settings = ParseSettings(options.settings, options.defaults);
  if (!settings.ok()) {
    return settings.status();
  }
  const Result<std::string> text = hipattn_run::ReadTextFile(options.text);
  if (!text.ok()) {
    return text.status();
  }
  const Result<GgufFile> file = GgufFile::Open(options.model);
  if (!file.ok()) {
    return file.status();
  }
  Result<Tokenizer> tokenizer = Tokenizer::Create(file.value());
  if (!tokenizer.ok()) {
    return tokenizer.status();
  }
  const Result<LlamaModel> model = LlamaModel::Load(file.value());
  if (!model.ok()) {
    return model.status();
  }
  if (options.tokens > model.value().config.trained_tokens && !options.quiet) {
    std::cerr << "warning: --tokens is " << options.tokens << ", the model was trained to "
              << model.value().config.trained_tokens << ": dense answers may be wrong\n";
  }
  return RunBench(options, settings.value(), model.value(), tokenizer.value(), text.value());
}

int Main(int argc, char** argv) {
  RecallOptions options;
  if (const std::optional<int> exit_code = ParseRecallOptions(argc, argv, &options)) {
    return *exit_code;
  }
  const Status status = Run(options);
  std::cout.flush();
  if (!status.ok()) {
    std::cerr << "hipattn-recall: " << status.message() << '\n';
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace recall_bench

int main(int argc, char** argv) {
  try {
    return recall_bench::Main(argc, argv);
  } catch (const std::exception& error) {
    // The standard library's own failures, memory above all.
    std::cerr << "hipattn-recall: " << error.what() << '\n';
    return 1;
  }
}
