// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "search_record.h"

#include "engine/json_file.h"
#include "engine/patterns.h"

#include <filesystem>

namespace pattern_search {
namespace {

using hipattn::core::HeadPattern;
using hipattn::core::PatternEntry;
using nlohmann::json;

constexpr const char* kKind = "hipattn-search";
// Counted up when the same head is scored otherwise than before.
constexpr int kVersion = 1;

Status From(const hipattn::Status& status) {
  return status.ok() ? Status() : Status::Error(status.message());
}

json PatternToJson(const HeadPattern& pattern) {
  return json::array({hipattn::core::PatternTypeName(pattern.type), pattern.a, pattern.b});
}

json TrialToJson(const TrialScore& trial) {
  return {{"recall", trial.score.recall},
          {"error", trial.score.error},
          {"cost", trial.score.cost},
          {"density", trial.density},
          {"ran_dense", trial.ran_dense}};
}

json HeadToJson(const HeadChoice& choice) {
  json object = TrialToJson(choice.trial);
  object["pattern"] = PatternToJson(choice.pattern);
  object["label"] = PatternLabel(choice.pattern);
  object["refinements"] = choice.refinements;
  object["trials"] = json::array();
  for (const TrialScore& trial : choice.trials) {
    object["trials"].push_back(TrialToJson(trial));
  }
  return object;
}

}  // namespace

std::string SearchRecord::SidecarPath(const std::string& path) {
  return std::filesystem::path(path).replace_extension(".scores.json").string();
}

Result<SearchRecord> SearchRecord::Open(const std::string& path,
                                        const json& run,
                                        const hipattn_run::LlamaConfig& config) {
  SearchRecord record;
  record.path_ = path;
  record.run_ = run;
  const Status status = record.Read(config);
  if (!status.ok()) {
    return status;
  }
  return record;
}

Status SearchRecord::Read(const hipattn_run::LlamaConfig& config) {
  const std::string sidecar = SidecarPath(path_);
  const bool has_sidecar = std::filesystem::exists(sidecar);
  if (std::filesystem::exists(path_)) {
    if (!has_sidecar) {
      return Status::Error("'",
                           path_,
                           "' is there without '",
                           sidecar,
                           "': a search goes on from both; give another --out");
    }
    const hipattn::engine::PatternLimits limits = {static_cast<uint32_t>(config.num_layers),
                                                   static_cast<uint32_t>(config.num_q_heads)};
    hipattn::Result<hipattn::core::PatternTable> patterns =
        hipattn::engine::ReadPatterns(path_, limits);
    if (!patterns.ok()) {
      return Status::Error("'", path_, "': ", patterns.status().message());
    }
    patterns_ = std::move(patterns.value());
  }
  return has_sidecar ? ReadSidecar() : Status();
}

Status SearchRecord::ReadSidecar() {
  const std::string sidecar = SidecarPath(path_);
  const hipattn::Result<std::string> text = hipattn::engine::ReadJsonFile(sidecar);
  if (!text.ok()) {
    return From(text.status());
  }
  json object = json::parse(text.value(), nullptr, false);
  if (!object.is_object() || object.value("kind", "") != kKind || !object.contains("run") ||
      !object["run"].is_object() || !object.contains("layers") || !object["layers"].is_array()) {
    return Status::Error("'", sidecar, "' has no scores of hipattn-search");
  }
  if (object.value("version", 0) != kVersion) {
    return Status::Error("'", sidecar, "' is of another version of hipattn-search");
  }
  for (const auto& [key, value] : run_.items()) {
    const json there = object["run"].value(key, json());
    if (there != value) {
      return Status::Error("'",
                           sidecar,
                           "' is of another search: ",
                           key,
                           " is ",
                           there.dump(),
                           " there, ",
                           value.dump(),
                           " here");
    }
  }
  TileCosts costs;
  if (!CostsFromJson(object.value("costs", json()), &costs)) {
    return Status::Error("'", sidecar, "' has no costs");
  }
  costs_ = costs;
  // It is written first, so it may be a layer ahead.
  layers_ = std::move(object["layers"]);
  if (layers_.size() < num_layers()) {
    return Status::Error("'", sidecar, "' has fewer layers than '", path_, "'");
  }
  layers_.erase(layers_.begin() + static_cast<ptrdiff_t>(num_layers()), layers_.end());
  for (size_t layer = 0; layer < num_layers(); ++layer) {
    for (const auto& [head, entry] : patterns_.layers[layer]) {
      const json& heads = layers_[layer];
      if (!heads.is_array() || head >= heads.size() || !heads[head].is_object() ||
          heads[head].value("pattern", json()) != PatternToJson(entry.sizes)) {
        return Status::Error(
            "'", path_, "' layer ", layer, " head ", head, " is not what '", sidecar, "' says");
      }
    }
  }
  return {};
}

Status SearchRecord::Add(const std::vector<HeadChoice>& heads) {
  std::map<uint32_t, PatternEntry> entries;
  json scores = json::array();
  for (uint32_t head = 0; head < heads.size(); ++head) {
    entries[head] = {heads[head].pattern, {heads[head].trial.score.recall, false}};
    scores.push_back(HeadToJson(heads[head]));
  }
  patterns_.layers.push_back(std::move(entries));
  layers_.push_back(std::move(scores));
  const json object = {{"kind", kKind},
                       {"version", kVersion},
                       {"run", run_},
                       {"costs", CostsToJson(*costs_)},
                       {"layers", layers_}};
  RUN_RETURN_IF_ERROR(
      From(hipattn::engine::WriteJsonFile(SidecarPath(path_), object.dump(1) + "\n")));
  return From(hipattn::engine::WritePatterns(path_, patterns_));
}

}  // namespace pattern_search
