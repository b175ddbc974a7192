// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "engine/profile.h"

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace hipattn::engine {
namespace {

using nlohmann::json;

constexpr const char* kFormat = "hipattn head profile";
constexpr uint32_t kVersion = 1;
// The most heads that there can be, 2^17, are less than a quarter of it.
constexpr size_t kMaxBytes = size_t{64} << 20;
constexpr int kMaxDepth = 3;  // the object, its heads, one of them

template <typename... Parts>
Status IoError(const Parts&... parts) {
  return {StatusCode::kIoError, StrCat(parts...)};
}
template <typename... Parts>
Status Corrupt(const Parts&... parts) {
  return {StatusCode::kCorrupt, StrCat(parts...)};
}

Result<std::string> ReadFile(const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::string text;
  std::vector<char> piece(size_t{1} << 16);
  while (file.read(piece.data(), static_cast<std::streamsize>(piece.size())) || file.gcount() > 0) {
    text.append(piece.data(), static_cast<size_t>(file.gcount()));
    if (text.size() > kMaxBytes) {
      return Corrupt("json_path \"", path, "\" has more than ", kMaxBytes, " bytes");
    }
  }
  if (!file.is_open() || !file.eof()) {
    return IoError(
        "json_path \"", path, "\" cannot be read: ", std::generic_category().message(errno));
  }
  return text;
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

// All of `text` into a new file; what went wrong is in errno.
bool WriteNewFile(const std::string& path, std::string_view text) {
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (file < 0) {
    return false;
  }
  bool good = true;
  while (good && !text.empty()) {
    const ssize_t written = write(file, text.data(), text.size());
    good = written > 0 || (written < 0 && errno == EINTR);
    text.remove_prefix(written > 0 ? static_cast<size_t>(written) : 0);
  }
  good = good && fsync(file) == 0;
  const int error = errno;
  const bool closed = close(file) == 0;
  errno = good ? errno : error;
  return good && closed;
}

}  // namespace

Result<core::AuditTable> ReadProfile(const std::string& path, const EngineOptions& engine) {
  HIPATTN_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  HIPATTN_ASSIGN_OR_RETURN(const json document, Parse(text));
  return ReadDocument(document, engine);
}

Status WriteProfile(const std::string& path,
                    const EngineOptions& engine,
                    const core::AuditTable& audits) {
  static std::atomic<uint32_t> number{0};  // two threads of a process never share a name
  const std::string text = ToText(engine, audits);
  const std::string beside = StrCat(path, ".", getpid(), ".", number.fetch_add(1));
  if (WriteNewFile(beside, text) && std::rename(beside.c_str(), path.c_str()) == 0) {
    return Status::Ok();
  }
  const int error = errno;
  if (error != EEXIST) {
    unlink(beside.c_str());
  }
  return IoError(
      "json_path \"", path, "\" cannot be written: ", std::generic_category().message(error));
}

}  // namespace hipattn::engine
