// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "tiers_options.h"

#include <CLI/CLI.hpp>

namespace tiers_bench {
namespace {

constexpr int kUsageExitCode = 2;

CLI::App* AddRecord(CLI::App& app, RecordOptions* o) {
  CLI::App* const record =
      app.add_subcommand("record", "decodes a real text and writes what every step attended");
  record->add_option("--model", o->model, "GGUF file of a Llama model")->required();
  record->add_option("--text", o->text, "text (UTF-8)")->required();
  record->add_option("--out", o->out, "the trace")->required();
  record->add_option("--tokens", o->tokens, "so many of the text are read first")
      ->check(CLI::Range(4096U, 1U << 24))
      ->capture_default_str();
  record->add_option("--steps", o->steps, "tokens of the text that are decoded after them")
      ->check(CLI::Range(1U, 1U << 20))
      ->capture_default_str();
  record->add_option("--budget-tokens", o->budget_tokens, "selected tokens per kv head")
      ->check(CLI::Range(16U, 1U << 20))
      ->capture_default_str();
  record->add_option("--refresh-interval", o->refresh_interval, "steps a selection is kept")
      ->check(CLI::Range(1U, 1024U))
      ->capture_default_str();
  record->add_option("--rope-base", o->rope_base, "of the rotation; 0 = the model's")
      ->check(CLI::Range(0.0F, 1e12F))
      ->capture_default_str();
  record->add_option("--ctx-chunk", o->chunk_tokens, "tokens read at a time")
      ->check(CLI::Range(1U, 65536U))
      ->capture_default_str();
  record->add_option("--snapshot",
                     o->snapshot,
                     "the text that was read: taken from this file if it is there, else written "
                     "to it");
  record->add_option("--threads", o->threads, "0 = all processors that may be used")
      ->check(CLI::Range(0U, 1024U))
      ->capture_default_str();
  record->add_flag("--quiet", o->quiet, "no progress on stderr");
  return record;
}

void AddReplay(CLI::App& app, ReplayOptions* o) {
  CLI::App* const replay =
      app.add_subcommand("replay", "gives a trace to simulated caches and predictors");
  replay->add_option("trace", o->trace, "file of record")->required();
  replay->add_option("--warmup-steps", o->warmup_steps, "that are not counted")
      ->capture_default_str();
  replay->add_option("--json", o->json, "write the table to this file as well");
}

}  // namespace

std::optional<int> ParseTiersOptions(int argc, char** argv, TiersOptions* options) {
  CLI::App app(
      "Which blocks a text's decode steps attend, and how caches smaller than the text fare with\n"
      "them.");
  app.option_defaults()->always_capture_default(false);
  app.require_subcommand(1);
  const CLI::App* const record = AddRecord(app, &options->record);
  AddReplay(app, &options->replay);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsageExitCode;
  }
  options->command =
      record->parsed() ? TiersOptions::Command::kRecord : TiersOptions::Command::kReplay;
  return std::nullopt;
}

}  // namespace tiers_bench
