// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "recall_options.h"

#include <CLI/CLI.hpp>

namespace recall_bench {
namespace {

constexpr int kUsageExitCode = 2;

// The library's default over the budget, with audited heads and without.
const std::vector<std::string> kDefaultSettings = {
    "default:budget=128/256/512/1024",
    "default:budget=128/256/512/1024,audit=none",
};

void AddInput(CLI::App& app, RecallOptions* o) {
  app.add_option("--model", o->model, "GGUF file of a Llama model")->required();
  app.add_option("--text", o->text, "the text that hides the facts (UTF-8)")->required();
  app.add_option("--facts", o->facts, "how many facts are asked")
      ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 20))
      ->capture_default_str();
  app.add_option("--seed", o->fact.seed, "of facts, depths and slices of the text")
      ->capture_default_str();
  app.add_option("--tokens", o->tokens, "text, facts, question and answer together")
      ->check(CLI::Range(64U, 1U << 24))
      ->capture_default_str();
  app.add_option("--distractors", o->fact.distractors, "sentences like the fact, of other names")
      ->check(CLI::Range(0U, kMaxDistractors))
      ->capture_default_str();
  app.add_option("--form", o->fact.forms, "kinds of sentences, all unless given; may be repeated")
      ->check(CLI::IsMember(FactForms()));
  app.add_option("--answer-tokens", o->answer_tokens, "tokens of an answer at most")
      ->check(CLI::Range(1U, 1024U))
      ->capture_default_str();
  app.add_flag("--keep-wrong",
               o->keep_wrong,
               "measure facts that dense answers wrong, too: they count for all but answers");
}

void AddSettings(CLI::App& app, RecallOptions* o) {
  std::string help = "what is compared, see below; may be repeated. Unless given:";
  for (const std::string& setting : kDefaultSettings) {
    help += "\n" + setting;
  }
  app.add_option("--setting", o->settings, help)->expected(1)->take_all();
  app.add_option("--sinks", o->defaults.sink_tokens, "of settings that do not say")
      ->check(CLI::Range(1U, 1U << 24))
      ->capture_default_str();
  app.add_option("--patterns", o->patterns, "pattern file of settings with prefill=patterns");
  app.add_option("--window", o->defaults.window_tokens, "of settings that do not say")
      ->check(CLI::Range(16U, 1U << 24))
      ->capture_default_str();
}

void AddOutput(CLI::App& app, RecallOptions* o) {
  app.add_option(
         "--out", o->out, "results, a line per fact and setting; an interrupted run goes on")
      ->required();
  app.add_option("--summary", o->summary, "what they say about each setting, as JSON");
  app.add_option("--jobs", o->jobs, "facts at a time, each on one thread")
      ->check(CLI::Range(1U, 1024U))
      ->capture_default_str();
  app.add_flag("--quiet", o->quiet, "no progress on stderr");
}

}  // namespace

std::optional<int> ParseRecallOptions(int argc, char** argv, RecallOptions* options) {
  CLI::App app(
      "Judges what sparse attention attends: hides facts in a text, has a Llama model answer\n"
      "them from hipattn's selections, and compares answers, softmax mass and estimates with\n"
      "dense attention.");
  app.footer(SettingHelp());
  app.option_defaults()->always_capture_default(false);
  AddInput(app, options);
  AddSettings(app, options);
  AddOutput(app, options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsageExitCode;
  }
  if (options->settings.empty()) {
    options->settings = kDefaultSettings;
  }
  return std::nullopt;
}

}  // namespace recall_bench
