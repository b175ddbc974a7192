// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "engine/profile.h"

#include "engine/json_file.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

namespace hipattn::engine {
namespace {

using nlohmann::json;

constexpr const char* kFormat = "hipattn head profile";
constexpr uint32_t kVersion = 1;
constexpr int kMaxDepth = 3;  // the object, its heads, one of them

template <typename... Parts>
Status Corrupt(const Parts&... parts) {
  return {StatusCode::kCorrupt, StrCat(parts...)};
}

// The document, or why it is none: JSON allows what a profile does not, names twice and any depth.
Result<json> Parse(const std::string& text) {
  std::vector<std::set<std::string>> names;
  std::string twice;
  bool deep = false;
  const auto watch = [&](int depth, json::parse_event_t event, json& value) {
    deep = deep || depth > kMaxDepth;
    if (event == json::parse_event_t::object_start) {
      names.emplace_back();
    } else if (event == json::parse_event_t::object_end) {
      names.pop_back();
    } else if (event == json::parse_event_t::key &&
               !names.back().insert(value.get<std::string>()).second) {
      twice = value.get<std::string>();
    }
    return !deep;
  };
  json document = json::parse(text, watch, false);
  if (deep) {
    return Corrupt("the profile is nested deeper than a profile is");
  }
  if (document.is_discarded()) {
    return Corrupt("the profile is no JSON, or cut off");
  }
  if (!twice.empty()) {
    return Corrupt(twice, " stands twice in the profile");
  }
  return document;
}

// The fields of an object that has exactly those named.
Status CheckFields(const json& object,
                   const std::string& where,
                   const std::vector<const char*>& names) {
  if (!object.is_object()) {
    return Corrupt(where.empty() ? "the profile" : where, " is no object");
  }
  for (const char* name : names) {
    if (!object.contains(name)) {
      return Corrupt(where, where.empty() ? "" : ".", name, " is missing");
    }
  }
  for (const auto& item : object.items()) {
    const auto known = [&](const char* name) { return item.key() == name; };
    if (std::none_of(names.begin(), names.end(), known)) {
      return Corrupt(where, where.empty() ? "" : ".", item.key(), " is not known");
    }
  }
  return Status::Ok();
}

Result<uint32_t> Whole(const json& object,
                       const std::string& where,
                       const char* name,
                       uint64_t most) {
  const json& value = object[name];
  if (!value.is_number_unsigned() || value.get<uint64_t>() > most) {
    return Corrupt(where, name, " is ", value.dump(), ", must be a whole number up to ", most);
  }
  return static_cast<uint32_t>(value.get<uint64_t>());
}

Status CheckHeader(const json& document, const EngineOptions& engine) {
  if (document["format"] != kFormat) {
    return Corrupt("format is ", document["format"].dump(), ", must be \"", kFormat, "\"");
  }
  const struct {
    const char* name;
    uint32_t want;
  } numbers[] = {{"version", kVersion},
                 {"num_layers", engine.num_layers},
                 {"num_q_heads", engine.num_q_heads},
                 {"num_kv_heads", engine.num_kv_heads},
                 {"head_dim", engine.head_dim}};
  for (const auto& number : numbers) {
    HIPATTN_ASSIGN_OR_RETURN(const uint32_t value, Whole(document, "", number.name, UINT32_MAX));
    if (value != number.want) {
      return {StatusCode::kMismatch,
              StrCat(number.name, " is ", value, " in the profile, here ", number.want)};
    }
  }
  return Status::Ok();
}

Status ReadHead(const json& head,
                const std::string& where,
                const EngineOptions& engine,
                std::vector<bool>* seen,
                core::AuditTable* audits) {
  HIPATTN_RETURN_IF_ERROR(
      CheckFields(head, where, {"layer", "kv_head", "loss", "samples", "mode"}));
  const std::string dot = where + ".";
  HIPATTN_ASSIGN_OR_RETURN(const uint32_t layer, Whole(head, dot, "layer", engine.num_layers - 1));
  HIPATTN_ASSIGN_OR_RETURN(const uint32_t kv_head,
                           Whole(head, dot, "kv_head", engine.num_kv_heads - 1));
  core::HeadAudit audit;
  HIPATTN_ASSIGN_OR_RETURN(audit.samples, Whole(head, dot, "samples", core::kMeanSamples));
  const json& loss = head["loss"];
  audit.loss = loss.is_number() ? loss.get<double>() : -1.0;
  if (!(audit.loss >= 0.0 && audit.loss <= 1.0)) {
    return Corrupt(dot, "loss is ", loss.dump(), ", must be a number from 0 to 1");
  }
  if (head["mode"] != "tree" && head["mode"] != "scan") {
    return Corrupt(dot, "mode is ", head["mode"].dump(), ", must be \"tree\" or \"scan\"");
  }
  audit.scanned = head["mode"] == "scan";
  const size_t number = size_t{layer} * engine.num_kv_heads + kv_head;
  if ((*seen)[number]) {
    return Corrupt(where, " is layer ", layer, ", kv_head ", kv_head, " a second time");
  }
  (*seen)[number] = true;
  audits->Set(layer, kv_head, audit);
  return Status::Ok();
}

Result<core::AuditTable> ReadDocument(const json& document, const EngineOptions& engine) {
  HIPATTN_RETURN_IF_ERROR(CheckFields(
      document,
      "",
      {"format", "version", "num_layers", "num_q_heads", "num_kv_heads", "head_dim", "heads"}));
  HIPATTN_RETURN_IF_ERROR(CheckHeader(document, engine));
  const json& heads = document["heads"];
  const size_t num_heads = size_t{engine.num_layers} * engine.num_kv_heads;
  if (!heads.is_array() || heads.size() != num_heads) {
    return Corrupt("heads has ",
                   heads.is_array() ? heads.size() : 0,
                   " entries, the model has ",
                   num_heads,
                   " kv heads");
  }
  core::AuditTable audits(engine.num_layers, engine.num_kv_heads);
  std::vector<bool> seen(num_heads, false);
  for (size_t i = 0; i < num_heads; ++i) {
    HIPATTN_RETURN_IF_ERROR(ReadHead(heads[i], StrCat("heads[", i, "]"), engine, &seen, &audits));
  }
  return audits;
}

std::string ToText(const EngineOptions& engine, const core::AuditTable& audits) {
  const json header = {{"format", kFormat},
                       {"version", kVersion},
                       {"num_layers", engine.num_layers},
                       {"num_q_heads", engine.num_q_heads},
                       {"num_kv_heads", engine.num_kv_heads},
                       {"head_dim", engine.head_dim}};
  std::string text = header.dump();
  text.pop_back();
  text += ",\"heads\":[";
  for (uint32_t i = 0; i < audits.heads().size(); ++i) {
    const core::HeadAudit& audit = audits.heads()[i];
    const json head = {{"layer", i / engine.num_kv_heads},
                       {"kv_head", i % engine.num_kv_heads},
                       {"loss", audit.loss},
                       {"samples", audit.samples},
                       {"mode", audit.scanned ? "scan" : "tree"}};
    text += (i == 0 ? "\n" : ",\n") + head.dump();
  }
  return text + "\n]}\n";
}

}  // namespace

Result<core::AuditTable> ReadProfile(const std::string& path, const EngineOptions& engine) {
  HIPATTN_ASSIGN_OR_RETURN(const std::string text, ReadJsonFile(path));
  HIPATTN_ASSIGN_OR_RETURN(const json document, Parse(text));
  return ReadDocument(document, engine);
}

Status WriteProfile(const std::string& path,
                    const EngineOptions& engine,
                    const core::AuditTable& audits) {
  return WriteJsonFile(path, ToText(engine, audits));
}

}  // namespace hipattn::engine
