// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What a search has found so far: the pattern file, and its sidecar with every score, what was
// searched, and what tiles cost. Both are replaced as a whole after each layer; a search that was
// interrupted goes on behind the layers of the pattern file.
#ifndef HIPATTN_BENCH_SEARCH_SEARCH_RECORD_H_
#define HIPATTN_BENCH_SEARCH_SEARCH_RECORD_H_

#include "core/pattern/pattern_table.h"
#include "layer_search.h"
#include "tile_costs.h"

#include <nlohmann/json.hpp>

#include <optional>
#include <string>
#include <vector>

namespace pattern_search {

class SearchRecord {
 public:
  // Reads what is there. `run` is what all layers have in common: a sidecar of another run is
  // refused, and so is a pattern file without its sidecar or with other patterns.
  static Result<SearchRecord> Open(const std::string& path,
                                   const nlohmann::json& run,
                                   const hipattn_run::LlamaConfig& config);

  static std::string SidecarPath(const std::string& path);

  size_t num_layers() const { return patterns_.layers.size(); }
  const hipattn::core::PatternTable& patterns() const { return patterns_; }
  // One array per layer of one object per head: pattern, recall, error, cost, density, trials.
  const nlohmann::json& layers() const { return layers_; }

  // Of the layers that are there.
  std::optional<TileCosts> costs() const { return costs_; }
  void set_costs(const TileCosts& costs) { costs_ = costs; }

  // The next layer. REQUIRES: costs are set.
  Status Add(const std::vector<HeadChoice>& heads);

 private:
  Status Read(const hipattn_run::LlamaConfig& config);
  Status ReadSidecar();

  std::string path_;
  nlohmann::json run_;
  hipattn::core::PatternTable patterns_;
  nlohmann::json layers_ = nlohmann::json::array();
  std::optional<TileCosts> costs_;
};

}  // namespace pattern_search

#endif  // HIPATTN_BENCH_SEARCH_SEARCH_RECORD_H_
