// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// hipattn-search: finds the prefill pattern of every head of a model; docs/prefill.md says how.
//
// Exit codes: 0 done, 1 failed, 2 wrong command line.
#include "engine/json_file.h"
#include "fingerprint.h"
#include "gguf.h"
#include "head_picture.h"
#include "layer_search.h"
#include "llama_forward.h"
#include "mapped_file.h"
#include "progress.h"
#include "search_options.h"
#include "search_record.h"
#include "search_table.h"
#include "tokenizer.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <iostream>

namespace pattern_search {
namespace {

using hipattn_run::CheckHipattn;
using hipattn_run::LlamaConfig;
using nlohmann::json;

// What all layers of a record have in common.
Result<json> DescribeRun(const SearchOptions& options, const std::string& text) {
  Result<json> model = recall_bench::DescribeModel(options.model);
  if (!model.ok()) {
    return model;
  }
  json candidates = json::array();
  for (const hipattn::core::HeadPattern& candidate : options.candidates) {
    candidates.push_back(PatternLabel(candidate));
  }
  return json{{"model", model.value()},
              {"text", recall_bench::DescribeText(options.text, text)},
              {"tokens", options.tokens},
              {"candidates", candidates},
              {"objective", ObjectiveName(options.objective)},
              {"bound", options.bound},
              {"refine", options.refine},
              {"first_row", options.first_row},
              {"cost_unit", options.measured_costs ? "ns" : "flops"}};
}

Result<std::vector<int32_t>> TokensOf(const SearchOptions& options,
                                      const std::string& text,
                                      hipattn_run::Tokenizer* tokenizer) {
  Result<std::vector<int32_t>> tokens = tokenizer->Encode(text);
  if (!tokens.ok()) {
    return Status::Error("'", options.text, "': ", tokens.status().message());
  }
  std::vector<int32_t>& list = tokens.value();
  if (tokenizer->add_bos() && tokenizer->bos()) {
    list.insert(list.begin(), *tokenizer->bos());
  }
  if (list.size() < options.tokens) {
    return Status::Error(
        "'", options.text, "' has ", list.size(), " tokens, --tokens is ", options.tokens);
  }
  list.resize(options.tokens);
  return tokens;
}

// Reads the text densely once, and searches each layer where it attends.
class Search {
 public:
  Search(const SearchOptions& options, const LlamaModel& model, SearchRecord* record)
      : options_(options), model_(model), config_(model.config), record_(*record) {}

  Status Run(const std::vector<int32_t>& tokens);

 private:
  Status Start();
  Status AtLayer(const hipattn_attend_args_t& call);
  Status AddPictures(const hipattn_attend_args_t& call);
  Status WritePictures() const;

  const SearchOptions& options_;
  const LlamaModel& model_;
  const LlamaConfig& config_;
  SearchRecord& record_;
  std::vector<HeadAttention> attentions_;
  std::function<void()> head_done_;
  json pictures_ = json::array();
};

Status Search::Start() {
  for (uint32_t job = 0; job < options_.jobs; ++job) {
    Result<HeadAttention> attention = HeadAttention::Create(model_);
    if (!attention.ok()) {
      return attention.status();
    }
    attentions_.push_back(std::move(attention.value()));
  }
  if (record_.costs()) {
    return {};
  }
  const auto head_dim = static_cast<uint32_t>(config_.head_dim);
  if (!options_.measured_costs) {
    record_.set_costs(CountCosts(options_.tokens, head_dim));
    return {};
  }
  const Result<TileCosts> costs = MeasureCosts(&attentions_[0], options_.tokens, head_dim);
  if (!costs.ok()) {
    return costs.status();
  }
  record_.set_costs(costs.value());
  return {};
}

Status Search::Run(const std::vector<int32_t>& tokens) {
  RUN_RETURN_IF_ERROR(Start());
  hipattn_engine_options_t engine_options = hipattn_run::MakeEngineOptions(model_);
  engine_options.num_threads = options_.jobs;
  const Result<hipattn_run::Engine> engine = hipattn_run::CreateEngine(engine_options);
  if (!engine.ok()) {
    return engine.status();
  }
  hipattn_attention_options_t attention = HIPATTN_ATTENTION_OPTIONS_INIT;
  attention.prefill_mode = HIPATTN_PREFILL_DENSE;
  attention.rerank_tokens = HIPATTN_NONE;
  const Result<hipattn_run::Sequence> sequence =
      hipattn_run::CreateSequence(engine.value(), attention);
  if (!sequence.ok()) {
    return sequence.status();
  }
  hipattn_run::Workers workers(options_.jobs);
  hipattn_run::LlamaForward forward(model_, engine.value().get(), workers, tokens.size());
  hipattn_run::Progress progress("searching heads",
                                 (config_.num_layers - record_.num_layers()) * config_.num_q_heads,
                                 options_.quiet,
                                 "heads");
  uint64_t done = 0;
  head_done_ = [&] { progress.Update(++done); };
  forward.set_attend_hook([&](const hipattn_attend_args_t& call) {
    RUN_RETURN_IF_ERROR(CheckHipattn(hipattn_attend(engine.value().get(), &call), "attend"));
    return AtLayer(call);
  });
  RUN_RETURN_IF_ERROR(
      forward.Run(sequence.value().get(), tokens, hipattn_run::Phase::kPrefill, nullptr));
  return options_.pictures.empty() ? Status() : WritePictures();
}

Status Search::AtLayer(const hipattn_attend_args_t& call) {
  if (call.layer >= record_.num_layers()) {
    const Result<std::vector<HeadChoice>> heads =
        SearchLayer(options_, config_, *record_.costs(), call, &attentions_, head_done_);
    if (!heads.ok()) {
      return heads.status();
    }
    RUN_RETURN_IF_ERROR(record_.Add(heads.value()));
  }
  return AddPictures(call);
}

// What is above 0 stays so, however little.
json MassesToJson(const TileMasses& masses) {
  constexpr double kLeast = 1e-5;
  json rows = json::array();
  for (const std::vector<float>& masses_of_row : masses) {
    json row = json::array();
    for (const float mass : masses_of_row) {
      const double rounded = std::round(double{mass} / kLeast) * kLeast;
      row.push_back(mass > 0 ? std::max(kLeast, rounded) : 0.0);
    }
    rows.push_back(row);
  }
  return rows;
}

Status Search::AddPictures(const hipattn_attend_args_t& call) {
  const auto head_dim = static_cast<uint32_t>(config_.head_dim);
  for (const HeadPlace& place : options_.picture_heads) {
    if (place.layer != call.layer) {
      continue;
    }
    const HeadInput input = InputOf(call, config_, place.head);
    const hipattn::core::HeadPattern pattern =
        record_.patterns().Lookup(place.layer, place.head).Pattern();
    const Result<TileMasses> masses = MassesOf(input, head_dim, pattern, &attentions_[0]);
    if (!masses.ok()) {
      return masses.status();
    }
    const Result<TileMasses> dense = MassesOf(input, head_dim, std::nullopt, &attentions_[0]);
    if (!dense.ok()) {
      return dense.status();
    }
    json picture = record_.layers()[place.layer][place.head];
    picture.erase("trials");
    picture.update({{"layer", place.layer},
                    {"head", place.head},
                    {"attended", MassesToJson(masses.value())},
                    {"dense", MassesToJson(dense.value())}});
    pictures_.push_back(picture);
  }
  return {};
}

Status Search::WritePictures() const {
  const json object = {{"kind", "hipattn-search pictures"},
                       {"tokens", options_.tokens},
                       {"tile_tokens", kPictureTile},
                       {"heads", pictures_}};
  const hipattn::Status status =
      hipattn::engine::WriteJsonFile(options_.pictures, object.dump() + "\n");
  return status.ok() ? Status() : Status::Error(status.message());
}

Status CheckPictures(const SearchOptions& options, const LlamaConfig& config) {
  for (const HeadPlace& place : options.picture_heads) {
    if (place.layer >= config.num_layers || place.head >= config.num_q_heads) {
      return Status::Error("--picture-head is ",
                           place.layer,
                           "/",
                           place.head,
                           ", the model has ",
                           config.num_layers,
                           " layers of ",
                           config.num_q_heads,
                           " heads");
    }
  }
  return {};
}

Status Run(const SearchOptions& options) {
  const Result<std::string> text = hipattn_run::ReadTextFile(options.text);
  if (!text.ok()) {
    return text.status();
  }
  const Result<hipattn_run::GgufFile> file = hipattn_run::GgufFile::Open(options.model);
  if (!file.ok()) {
    return file.status();
  }
  Result<hipattn_run::Tokenizer> tokenizer = hipattn_run::Tokenizer::Create(file.value());
  if (!tokenizer.ok()) {
    return tokenizer.status();
  }
  const Result<LlamaModel> model = LlamaModel::Load(file.value());
  if (!model.ok()) {
    return model.status();
  }
  RUN_RETURN_IF_ERROR(CheckPictures(options, model.value().config));
  const Result<std::vector<int32_t>> tokens = TokensOf(options, text.value(), &tokenizer.value());
  if (!tokens.ok()) {
    return tokens.status();
  }
  if (options.tokens > model.value().config.trained_tokens && !options.quiet) {
    std::cerr << "warning: --tokens is " << options.tokens << ", the model was trained to "
              << model.value().config.trained_tokens << '\n';
  }
  const Result<json> run = DescribeRun(options, text.value());
  if (!run.ok()) {
    return run.status();
  }
  Result<SearchRecord> record = SearchRecord::Open(options.out, run.value(), model.value().config);
  if (!record.ok()) {
    return record.status();
  }
  if (record.value().num_layers() < model.value().config.num_layers ||
      !options.picture_heads.empty()) {
    RUN_RETURN_IF_ERROR(Search(options, model.value(), &record.value()).Run(tokens.value()));
  }
  std::cout << FormatTable(record.value());
  return {};
}

int Main(int argc, char** argv) {
  SearchOptions options;
  if (const std::optional<int> exit_code = ParseSearchOptions(argc, argv, &options)) {
    return *exit_code;
  }
  const Status status = Run(options);
  std::cout.flush();
  if (!status.ok()) {
    std::cerr << "hipattn-search: " << status.message() << '\n';
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace pattern_search

int main(int argc, char** argv) {
  try {
    return pattern_search::Main(argc, argv);
  } catch (const std::exception& error) {
    // The standard library's own failures, memory above all.
    std::cerr << "hipattn-search: " << error.what() << '\n';
    return 1;
  }
}
