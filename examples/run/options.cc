// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "options.h"

#include "option_names.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <iostream>
#include <map>
#include <span>

namespace hipattn_run {
namespace {

constexpr int kUsageExitCode = 2;

using Names = std::map<std::string, uint32_t>;

Names NamesOf(std::span<const OptionName> options) {
  Names names;
  for (const OptionName& option : options) {
    names[option.name] = option.value;
  }
  return names;
}

// The default as well.
Names ScorerNames() {
  Names names = NamesOf(kScorerNames);
  names["default"] = HIPATTN_SCORER_DEFAULT;
  return names;
}

const Names attention_names = NamesOf(kDecodeModeNames);
const Names scorer_names = ScorerNames();
const Names search_names = {
    {"default", HIPATTN_SEARCH_DEFAULT},
    {"tree", HIPATTN_SEARCH_TREE},
    {"staged", HIPATTN_SEARCH_STAGED},
    {"flat", HIPATTN_SEARCH_FLAT},
    {"beam", HIPATTN_SEARCH_BEAM},
};
const Names prefill_names = NamesOf(kPrefillModeNames);
const Names kv_dtype_names = {
    {"default", HIPATTN_DTYPE_DEFAULT},
    {"f32", HIPATTN_F32},
    {"f16", HIPATTN_F16},
    {"bf16", HIPATTN_BF16},
    {"f8e4m3", HIPATTN_F8E4M3},
    {"int8", HIPATTN_INT8},
    {"int4", HIPATTN_INT4},
};

// An option that takes one of `names`; the help lists them and the default, which is the name of
// the value that `target` has now.
void AddNamed(CLI::App& app,
              const std::string& flag,
              const Names& names,
              uint32_t* target,
              std::string description) {
  std::string list;
  std::string default_name;
  for (const auto& [name, value] : names) {
    list += (list.empty() ? "" : "|") + name;
    if (value == *target) {
      default_name = name;
    }
  }
  const auto assign = [&names, target](const std::string& name) { *target = names.at(name); };
  app.add_option_function<std::string>(flag, assign, std::move(description))
      ->check(CLI::IsMember(names))
      ->type_name(list)
      ->default_str(default_name);
}

void AddPromptOptions(CLI::App& app, Options* o) {
  app.add_option("--model", o->model, "GGUF file of a Llama model")->required();
  app.add_option("--prompt", o->prompt, "what to say to the model");
  app.add_option("--prompt-file", o->prompt_file, "a document (UTF-8), after --prompt");
  app.add_option("--question", o->question, "a question, after the document");
  app.add_flag("--raw", o->raw, "no chat template around the text");
  app.add_option("--max-prompt-tokens",
                 o->max_prompt_tokens,
                 "use only so many tokens from the start of the document; 0 = all")
      ->capture_default_str();
  app.add_option("--insert-fact", o->insert_fact, "put this line into the document");
  app.add_option("--insert-at", o->insert_at, "where: share of the document before it")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
}

void AddGenerationOptions(CLI::App& app, Options* o) {
  app.add_option("--max-new-tokens", o->max_new_tokens, "tokens to generate at most")
      ->check(CLI::Range(1U, 1U << 30))
      ->capture_default_str();
  app.add_flag("--ignore-end", o->ignore_end, "go on after the end of the answer");
  app.add_option("--temperature", o->temperature, "0 = always the most likely token")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  app.add_option("--seed", o->seed, "of the random choice")->capture_default_str();
}

void AddAttentionOptions(CLI::App& app, Options* o) {
  AddNamed(app, "--attention", attention_names, &o->attention, "how decode steps attend");
  app.add_option("--budget-tokens",
                 o->budget_tokens,
                 "tokens selected per kv head; 0 = the library's default")
      ->capture_default_str();
  app.add_option_function<std::string>(
         "--rerank-tokens",
         [o](const std::string& text) {
           o->rerank_tokens =
               text == "none" ? HIPATTN_NONE : static_cast<uint32_t>(std::stoul(text));
         },
         "tokens the tree keeps for key sketches to choose the budget from; 0 = the library's "
         "default, none = no sketches")
      ->check(CLI::IsMember({"none"}) | CLI::Range(0U, 1U << 30))
      ->type_name("UINT|none")
      ->default_str("0");
  app.add_option_function<std::string>(
         "--audit-interval",
         [o](const std::string& text) {
           o->audit_interval =
               text == "none" ? HIPATTN_NONE : static_cast<uint32_t>(std::stoul(text));
         },
         "steps between two audits of a kv head, which find those that the tree loses; 0 = the "
         "library's default, none = no audits")
      ->check(CLI::IsMember({"none"}) | CLI::Range(0U, 1U << 30))
      ->type_name("UINT|none")
      ->default_str("0");
  app.add_option("--head-profile",
                 o->head_profile,
                 "JSON file of what audits learnt of the model's heads: read if it is there, "
                 "written at the end");
  app.add_option("--sink-tokens",
                 o->sink_tokens,
                 "first tokens always attended; 0 = the library's default, -1 = none")
      ->check(CLI::Range(int64_t{-1}, int64_t{1} << 30))
      ->capture_default_str();
  app.add_option("--window-tokens",
                 o->window_tokens,
                 "last tokens always attended; 0 = the library's default")
      ->capture_default_str();
  AddNamed(app, "--scorer", scorer_names, &o->scorer, "what stands for a block in the search");
  AddNamed(app, "--search", search_names, &o->search, "how blocks are found");
  app.add_option("--refresh-interval",
                 o->refresh_interval,
                 "steps a selection is kept; 0 = the library's default")
      ->capture_default_str();
  app.add_option("--min-recall",
                 o->min_recall,
                 "share of softmax mass that every head attends at least, by the library's "
                 "estimate; 0 = the budget stays as it is")
      ->check(CLI::Range(0.0F, 1.0F))
      ->capture_default_str();
  app.add_flag("--verify-recall",
               o->verify_recall,
               "also compute the true share (reads all keys), and show it beside the estimate; of "
               "a prompt read by masks, too");
  AddNamed(app, "--kv-dtype", kv_dtype_names, &o->kv_dtype, "how keys and values are kept");
  app.add_flag(
      "--compare", o->compare, "read the prompt once, answer it dense and sparse, show both");
}

void AddPrefillOptions(CLI::App& app, Options* o) {
  AddNamed(app, "--prefill", prefill_names, &o->prefill, "how the prompt is read");
  app.add_option("--prefill-sizes",
                 o->prefill_sizes,
                 "A,B: a-shape: sinks, window; vertical-slash: columns, diagonals; block-sparse: "
                 "blocks; 0 = the library's default")
      ->delimiter(',')
      ->expected(1, 2)
      ->check(CLI::Range(0U, 1U << 30))
      ->type_name("UINT[,UINT]");
  app.add_option("--prefill-last-q",
                 o->prefill_last_q,
                 "rows of a chunk that tell vertical-slash and patterns what to attend; 0 = the "
                 "library's default")
      ->check(CLI::IsMember({0U, 64U, 128U, 256U, 512U}))
      ->type_name("0|64|128|256|512")
      ->capture_default_str();
  app.add_option("--prefill-threshold",
                 o->prefill_threshold,
                 "of flex, xattention and flash-v2; 0 = the method's")
      ->check(CLI::Range(0.0F, 1.0F))
      ->capture_default_str();
  app.add_option("--prefill-skip",
                 o->prefill_skip,
                 "a tile whose scores are all below the logarithm of this, seen from the row's "
                 "largest so far, is skipped; 0 = none")
      ->check(CLI::Range(0.0F, 1.0F))
      ->capture_default_str();
  app.add_option(
         "--prefill-delta",
         o->prefill_delta,
         "every so many prompt tokens one is read densely as well, and what that gives more "
         "is added to the tokens up to the next; 0 = none")
      ->capture_default_str();
  app.add_option(
      "--patterns", o->patterns, "pattern file of --prefill patterns and auto, as MInference's");
  app.add_flag("--compare-prefill",
               o->compare_prefill,
               "read and answer the prompt densely first, then as --prefill says, show both")
      ->excludes("--compare");
}

void AddTextOptions(CLI::App& app, Options* o) {
  CLI::Option* const save =
      app.add_option("--save-text",
                     o->save_text,
                     "write what was read before the question to this file, for --load-text");
  app.add_option("--load-text",
                 o->load_text,
                 "take what comes before the question from this file instead of reading it; the "
                 "model and that part of the prompt must be those of --save-text")
      ->excludes(save);
}

void AddProgramOptions(CLI::App& app, Options* o) {
  app.add_option("--threads", o->threads, "0 = all processors that may be used")
      ->check(CLI::Range(0U, 1024U))
      ->capture_default_str();
  app.add_option("--ctx-chunk", o->ctx_chunk, "prompt tokens read at a time")
      ->check(CLI::Range(1U, 65536U))
      ->capture_default_str();
  app.add_option("--rope-base",
                 o->rope_base,
                 "base of the rotation instead of the model's: larger ones stretch it for texts "
                 "longer than it was trained to; 0 = the model's")
      ->check(CLI::Range(0.0F, 1e12F));
  app.add_option("--depth",
                 o->depth,
                 "for timing: first fill the cache with so many tokens of random keys and values")
      ->check(CLI::Range(uint64_t{0}, uint64_t{1} << 31))
      ->capture_default_str();
  app.add_option("--device-kv-bytes",
                 o->device_kv_bytes,
                 "bytes for the cache on the device, as 256M; 0 = what is free less a reserve")
      ->transform(CLI::AsSizeValue(false));
  app.add_option("--host-kv-bytes",
                 o->host_kv_bytes,
                 "bytes of host memory behind it, as 2G; 0 = everything stays on the device")
      ->transform(CLI::AsSizeValue(false));
  app.add_option_function<std::string>(
      "--disk-kv",
      [o](const std::string& given) {
        const size_t colon = given.rfind(':');
        if (colon == std::string::npos) {
          throw CLI::ValidationError("--disk-kv", "is FOLDER:BYTES, as /tmp:20G");
        }
        o->disk_path = given.substr(0, colon);
        std::string bytes = given.substr(colon + 1);
        const std::string wrong = CLI::AsSizeValue(false)(bytes);
        if (!wrong.empty() || !CLI::detail::lexical_cast(bytes, o->disk_kv_bytes)) {
          throw CLI::ValidationError("--disk-kv", "is FOLDER:BYTES, as /tmp:20G");
        }
      },
      "a folder and bytes of disk behind host memory, as /tmp:20G");
  app.add_option("--json", o->json, "write text, timings and statistics to this file");
  app.add_option(
      "--trace", o->trace, "write what the engine does and when to this file, for ui.perfetto.dev");
  app.add_flag("--dump-tokens", o->dump_tokens, "print the prompt's token numbers and stop");
  app.add_flag("--quiet", o->quiet, "no progress and no summary on stderr");
}

// Why the options do not go together; empty if they do.
std::string Contradiction(const Options& options) {
  if (options.prompt.empty() && options.prompt_file.empty() && options.question.empty()) {
    return "nothing to answer: give --prompt, --prompt-file or --question";
  }
  if (!options.insert_fact.empty() && options.prompt_file.empty()) {
    return "--insert-fact needs --prompt-file";
  }
  const bool wants_patterns = options.prefill == HIPATTN_PREFILL_PATTERNS;
  if (wants_patterns && options.patterns.empty()) {
    return "--prefill patterns needs --patterns";
  }
  if (!wants_patterns && options.prefill != HIPATTN_PREFILL_AUTO && !options.patterns.empty()) {
    return "--patterns needs --prefill patterns or auto";
  }
  if (options.compare_prefill && options.prefill == HIPATTN_PREFILL_DENSE) {
    return "--compare-prefill needs a --prefill other than dense";
  }
  const bool keeps_text = !options.save_text.empty() || !options.load_text.empty();
  if (keeps_text && (options.depth != 0 || options.compare_prefill)) {
    return "--save-text and --load-text go with neither --depth nor --compare-prefill";
  }
  return "";
}

}  // namespace

std::optional<int> ParseOptions(int argc, char** argv, Options* options) {
  CLI::App app(
      "Answers a prompt with a Llama model in a GGUF file, attending through hipattn.\n"
      "The answer goes to stdout, everything else to stderr.");
  app.option_defaults()->always_capture_default(false);
  AddPromptOptions(app, options);
  AddGenerationOptions(app, options);
  AddAttentionOptions(app, options);
  AddPrefillOptions(app, options);
  AddTextOptions(app, options);
  AddProgramOptions(app, options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsageExitCode;
  }
  const std::string contradiction = Contradiction(*options);
  if (!contradiction.empty()) {
    std::cerr << contradiction << '\n';
    return kUsageExitCode;
  }
  return std::nullopt;
}

std::string PrefillName(uint32_t mode) {
  const auto found = std::find_if(prefill_names.begin(),
                                  prefill_names.end(),
                                  [&](const auto& entry) { return entry.second == mode; });
  return found == prefill_names.end() ? "unknown" : found->first;
}

hipattn_attention_options_t MakeAttentionOptions(const Options& options,
                                                 uint32_t decode_mode,
                                                 uint32_t prefill_mode) {
  hipattn_attention_options_t attention = {};
  attention.struct_size = sizeof(attention);
  attention.decode_mode = decode_mode;
  attention.search = options.search;
  attention.scorer = options.scorer;
  attention.prefill_mode = prefill_mode;
  if (prefill_mode == options.prefill) {
    std::copy(options.prefill_sizes.begin(), options.prefill_sizes.end(), attention.prefill_sizes);
    attention.prefill_last_q = options.prefill_last_q;
    attention.prefill_threshold = options.prefill_threshold;
    attention.prefill_skip_threshold = options.prefill_skip;
    attention.prefill_delta_interval = options.prefill_delta;
  }
  attention.budget_tokens = options.budget_tokens;
  attention.rerank_tokens = options.rerank_tokens;
  attention.audit_interval = options.audit_interval;
  attention.sink_tokens =
      options.sink_tokens < 0 ? HIPATTN_NONE : static_cast<uint32_t>(options.sink_tokens);
  attention.window_tokens = options.window_tokens;
  attention.refresh_interval = options.refresh_interval;
  // Dense attention has nothing to grow, and the library would refuse scorers without an estimate.
  attention.min_recall = decode_mode == HIPATTN_DECODE_DENSE ? 0.0F : options.min_recall;
  attention.verify_recall = options.verify_recall ? 1 : 0;
  return attention;
}

}  // namespace hipattn_run
