// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "fingerprint.h"

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string_view>

namespace recall_bench {
namespace {

using hipattn_run::Status;
using nlohmann::json;

// FNV-1a.
uint64_t HashOf(std::string_view bytes) {
  uint64_t hash = 0xcbf29ce484222325U;
  for (const char byte : bytes) {
    hash = (hash ^ static_cast<uint8_t>(byte)) * 0x100000001b3U;
  }
  return hash;
}

std::string NameOf(const std::string& path) {
  return std::filesystem::path(path).filename().string();
}

}  // namespace

hipattn_run::Result<json> DescribeModel(const std::string& path) {
  constexpr size_t kBeginning = 1 << 20;
  std::ifstream file(path, std::ios::binary);
  std::string beginning(kBeginning, '\0');
  file.read(beginning.data(), kBeginning);
  beginning.resize(static_cast<size_t>(file.gcount()));
  if (beginning.empty()) {
    return Status::Error("cannot read '", path, "'");
  }
  return json{{"name", NameOf(path)},
              {"bytes", std::filesystem::file_size(path)},
              {"hash", HashOf(beginning)}};
}

json DescribeText(const std::string& path, const std::string& text) {
  return {{"name", NameOf(path)}, {"bytes", text.size()}, {"hash", HashOf(text)}};
}

}  // namespace recall_bench
