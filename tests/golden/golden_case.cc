// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "tests/golden/golden_case.h"

#include <fstream>
#include <iterator>

namespace hipattn::golden {
namespace {

using nlohmann::json;

Result<json> ReadJson(const std::filesystem::path& path) {
  std::ifstream file(path);
  json parsed = json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (parsed.is_discarded()) {
    return Status(StatusCode::kCorrupt, StrCat(path.string(), " is missing or no JSON"));
  }
  return parsed;
}

Status LoadArrays(const std::filesystem::path& folder,
                  const json& paths,
                  std::map<std::string, Array>* arrays,
                  std::map<std::string, std::string>* bytes) {
  for (const auto& [name, relative] : paths.items()) {
    const std::filesystem::path path = folder / relative.get<std::string>();
    if (path.extension() == ".npy") {
      HIPATTN_ASSIGN_OR_RETURN(Array array, ReadNpy(path));
      (*arrays)[name] = std::move(array);
      continue;
    }
    std::ifstream file(path, std::ios::binary);
    if (!file) {
      return {StatusCode::kCorrupt, StrCat(path.string(), " is missing")};
    }
    (*bytes)[name] = {std::istreambuf_iterator<char>(file), {}};
  }
  return Status::Ok();
}

Tolerance ReadTolerance(const json& numbers, const std::string& prefix) {
  return {numbers.at(prefix + "rtol").get<double>(),
          numbers.at(prefix + "atol").get<double>(),
          numbers.at(prefix + "lse_atol").get<double>()};
}

}  // namespace

Result<GoldenCase> GoldenCase::Load(const std::filesystem::path& folder) {
  HIPATTN_ASSIGN_OR_RETURN(const json parsed, ReadJson(folder / "case.json"));
  GoldenCase golden;
  golden.op_ = parsed.at("op").get<std::string>();
  golden.params_ = parsed.at("params");
  const auto load = [&](const char* name, std::map<std::string, Array>* arrays) {
    return LoadArrays(folder, parsed.at(name), arrays, &golden.bytes_);
  };
  HIPATTN_RETURN_IF_ERROR(load("inputs", &golden.inputs_));
  if (parsed.contains("expected_files")) {
    golden.inline_expected_ = parsed.at("expected");
    golden.tolerances_ = parsed.value("tolerance", json::object());
    HIPATTN_RETURN_IF_ERROR(load("expected_files", &golden.expected_));
    return golden;
  }
  golden.values_ = parsed.at("values").get<std::map<std::string, std::vector<int64_t>>>();
  golden.wide_ = ReadTolerance(parsed.at("tolerance"), "");
  golden.narrow_ = ReadTolerance(parsed.at("tolerance"), "bf16_");
  HIPATTN_RETURN_IF_ERROR(load("expected", &golden.expected_));
  return golden;
}

int64_t GoldenCase::Int(const std::string& name, int64_t fallback) const {
  return params_.value(name, fallback);
}

uint32_t GoldenCase::Count(const std::string& name, int64_t fallback) const {
  return static_cast<uint32_t>(Int(name, fallback));
}

double GoldenCase::Number(const std::string& name, double fallback) const {
  return params_.value(name, fallback);
}

std::string GoldenCase::Text(const std::string& name, const std::string& fallback) const {
  return params_.value(name, fallback);
}

std::vector<uint32_t> GoldenCase::Counts(const std::string& name) const {
  std::vector<uint32_t> counts;
  for (const json& number : params_.at(name)) {
    counts.push_back(static_cast<uint32_t>(number.get<int64_t>()));
  }
  return counts;
}

Result<std::vector<std::string>> ReadManifest(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  if (std::filesystem::exists(folder / "index.json")) {
    HIPATTN_ASSIGN_OR_RETURN(const json index, ReadJson(folder / "index.json"));
    return index.at("cases").get<std::vector<std::string>>();
  }
  HIPATTN_ASSIGN_OR_RETURN(const json parsed, ReadJson(folder / "manifest.json"));
  for (const json& entry : parsed.at("cases")) {
    names.push_back(entry.at("name").get<std::string>());
  }
  return names;
}

}  // namespace hipattn::golden
