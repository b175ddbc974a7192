// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "search_options.h"

#include "core/pattern/candidates.h"
#include "head_attention.h"
#include "options.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <charconv>
#include <iostream>
#include <map>

namespace pattern_search {
namespace {

using hipattn::core::ChooseBy;
using hipattn::core::HeadPattern;
using hipattn::core::PatternType;

constexpr int kUsageExitCode = 2;
constexpr uint32_t kMostTokens = 1U << 24;

// The bounds are those of searches that ask for nothing else.
struct Objective {
  const char* name;
  ChooseBy by;
  double bound;
};
constexpr Objective kObjectives[] = {
    {"error", ChooseBy::kError, 0.5},
    {"recall", ChooseBy::kRecall, 0.5},
    {"cost", ChooseBy::kCost, 0.95},
};

// Two numbers with `separator` between them, and nothing else.
bool ReadPair(std::string_view text, char separator, uint32_t* a, uint32_t* b) {
  const char* const end = text.data() + text.size();
  const auto first = std::from_chars(text.data(), end, *a);
  if (first.ec != std::errc() || first.ptr == end || *first.ptr != separator) {
    return false;
  }
  const auto second = std::from_chars(first.ptr + 1, end, *b);
  return second.ec == std::errc() && second.ptr == end;
}

// Why `text` is no candidate; empty, with the candidate added, if it is one.
std::string AddCandidate(const std::string& text, std::vector<HeadPattern>* candidates) {
  const size_t colon = text.find(':');
  for (const PatternType type : {PatternType::kAShape, PatternType::kVerticalSlash}) {
    HeadPattern pattern = {type, 0, 0};
    if (colon == text.npos ||
        text.substr(0, colon) != hipattn_run::PrefillName(PrefillModeOf(type)) ||
        !ReadPair(std::string_view(text).substr(colon + 1), ',', &pattern.a, &pattern.b)) {
      continue;
    }
    if (pattern.a == 0 || pattern.b == 0 || std::max(pattern.a, pattern.b) > kMostTokens) {
      return "sizes of '" + text + "' must be 1 to " + std::to_string(kMostTokens);
    }
    if (std::find(candidates->begin(), candidates->end(), pattern) != candidates->end()) {
      return "'" + text + "' is there already";
    }
    candidates->push_back(pattern);
    return "";
  }
  return "'" + text + "' is not a-shape:A,B or vertical-slash:A,B";
}

std::string Footer() {
  std::string text = "Tried on every head, beside --candidate and dense attention:\n";
  for (const HeadPattern& pattern : hipattn::core::kCandidates) {
    text += "  " + PatternLabel(pattern) + "\n";
  }
  return text;
}

void AddChoice(CLI::App& app, SearchOptions* o, std::optional<double>* bound) {
  std::map<std::string, ChooseBy> names;
  for (const Objective& objective : kObjectives) {
    names[objective.name] = objective.by;
  }
  app.add_option_function<std::string>(
         "--objective",
         [o, names](const std::string& name) { o->objective = names.at(name); },
         "error, recall: the best at a cost up to the bound; cost: the cheapest with a recall from "
         "the bound on")
      ->check(CLI::IsMember(names))
      ->type_name("error|recall|cost")
      ->default_str("cost");
  app.add_option("--bound",
                 *bound,
                 "share of what dense attention costs (default 0.5), or recall (default 0.95)")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--refine",
                 o->refine,
                 "add lines to chosen vertical-slash heads until their recall is this; 0 = none")
      ->check(CLI::Range(0.0, 0.9))
      ->capture_default_str();
  app.add_option_function<std::vector<std::string>>(
         "--candidate",
         [o](const std::vector<std::string>& texts) {
           for (const std::string& text : texts) {
             const std::string reason = AddCandidate(text, &o->candidates);
             if (!reason.empty()) {
               throw CLI::ValidationError("--candidate", reason);
             }
           }
         },
         "another pattern, a-shape:SINKS,WINDOW or vertical-slash:COLUMNS,DIAGONALS; may be "
         "repeated")
      ->expected(1)
      ->take_all();
  app.add_flag("!--flops",
               o->measured_costs,
               "costs are counted in FLOPs, which are the same everywhere, not in measured time");
  app.add_option("--first-row", o->first_row, "recall is the mean over rows from this one on")
      ->capture_default_str();
}

void AddPictures(CLI::App& app, SearchOptions* o) {
  app.add_option_function<std::vector<std::string>>(
         "--picture-head",
         [o](const std::vector<std::string>& texts) {
           for (const std::string& text : texts) {
             HeadPlace place;
             if (!ReadPair(text, '/', &place.layer, &place.head)) {
               throw CLI::ValidationError("--picture-head", "'" + text + "' is not LAYER/HEAD");
             }
             o->picture_heads.push_back(place);
           }
         },
         "LAYER/HEAD: its mask goes to --pictures; may be repeated")
      ->expected(1)
      ->take_all();
  app.add_option("--pictures", o->pictures, "JSON file of masks, for bench/search_pictures.py");
}

}  // namespace

std::string PatternLabel(const HeadPattern& pattern) {
  if (pattern == kDensePattern) {
    return "dense";
  }
  const std::string name = hipattn_run::PrefillName(PrefillModeOf(pattern.type)) + " ";
  return name + std::to_string(pattern.a) +
         (pattern.type == PatternType::kBlockSparse ? "" : "," + std::to_string(pattern.b));
}

std::string ObjectiveName(ChooseBy objective) {
  return std::find_if(std::begin(kObjectives),
                      std::end(kObjectives),
                      [&](const Objective& one) { return one.by == objective; })
      ->name;
}

std::optional<int> ParseSearchOptions(int argc, char** argv, SearchOptions* options) {
  CLI::App app(
      "Finds what each head of a Llama model should attend when it reads a prompt: runs every\n"
      "candidate pattern on the text's own queries, keys and values, and writes a pattern file as\n"
      "MInference's for hipattn-run --prefill patterns.");
  app.footer(Footer());
  app.option_defaults()->always_capture_default(false);
  options->candidates.assign(hipattn::core::kCandidates.begin(), hipattn::core::kCandidates.end());
  std::optional<double> bound;
  app.add_option("--model", options->model, "GGUF file of a Llama model")->required();
  app.add_option("--text", options->text, "text (UTF-8)")->required();
  app.add_option("--tokens", options->tokens, "so many from its start")
      ->check(CLI::Range(64U, 1U << 20))
      ->capture_default_str();
  app.add_option(
         "--out",
         options->out,
         "pattern file, written after every layer; an interrupted search goes on. Scores go "
         "beside it, to the name with .scores.json in the place of .json")
      ->required();
  AddChoice(app, options, &bound);
  AddPictures(app, options);
  app.add_option("--jobs", options->jobs, "heads at a time, each on one thread")
      ->check(CLI::Range(1U, 1024U))
      ->capture_default_str();
  app.add_flag("--quiet", options->quiet, "no progress on stderr");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsageExitCode;
  }
  if (options->picture_heads.empty() != options->pictures.empty()) {
    std::cerr << "--picture-head and --pictures need each other\n";
    return kUsageExitCode;
  }
  options->candidates.push_back(kDensePattern);
  for (const Objective& objective : kObjectives) {
    if (objective.by == options->objective) {
      options->bound = bound.value_or(objective.bound);
    }
  }
  return std::nullopt;
}

}  // namespace pattern_search
