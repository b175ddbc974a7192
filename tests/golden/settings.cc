// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "tests/golden/settings.h"

#include <map>
#include <string>

namespace hipattn::golden {
namespace {

// The value of a name; 0, which is never valid, for an unknown one.
template <typename Enum>
Enum Named(const std::map<std::string, Enum>& names, const std::string& name) {
  const auto found = names.find(name);
  return found == names.end() ? Enum{} : found->second;
}

}  // namespace

RopeSettings RopeOf(const GoldenCase& golden) {
  RopeSettings rope;
  rope.layout = Named<core::RopeLayout>(
      {{"half", core::RopeLayout::kHalf}, {"interleaved", core::RopeLayout::kInterleaved}},
      golden.Text("rope_layout", "none"));
  rope.inv_freq = core::RopeInvFreq(golden.Count("rope_dim"), golden.Number("rope_base", 1.0));
  return rope;
}

core::Extension ExtensionOf(const GoldenCase& golden) {
  const bool rotated = golden.Text("rope_layout", "none") != "none";
  return {rotated ? golden.Count("trained_len") : 0,
          Named<core::ScanMode>({{"true", core::ScanMode::kTrue},
                                 {"relative", core::ScanMode::kRelative},
                                 {"streaming", core::ScanMode::kStreaming}},
                                golden.Text("scan_mode", "relative"))};
}

core::PartitionSizes SizesOf(const GoldenCase& golden) {
  return {golden.Int("sink_tokens"), golden.Int("window_tokens")};
}

core::SearchRows RowsOf(const GoldenCase& golden) {
  return {golden.Count("block_q", 1),
          golden.Count("query_stride", 1),
          golden.Count("sink_tokens"),
          golden.Count("window_tokens")};
}

core::TreeConfig TreeOf(const GoldenCase& golden) {
  return {golden.Count("block_tokens"), golden.Count("budget_tokens"), golden.Count("beam"), false};
}

core::BeamConfig BeamOf(const GoldenCase& golden) {
  return {RowsOf(golden),
          golden.Count("block_tokens"),
          golden.Count("budget_tokens"),
          golden.Count("leaf_tokens"),
          golden.Count("key_stride"),
          Named<core::Representative>({{"center", core::Representative::kCenter},
                                       {"first", core::Representative::kFirst},
                                       {"last", core::Representative::kLast}},
                                      golden.Text("representative"))};
}

core::StagedConfig StagedOf(const GoldenCase& golden) {
  core::StagedConfig config{{}, golden.Count("sink_tokens"), golden.Count("window_tokens")};
  const auto block_q = golden.Counts("stage_block_q");
  const auto stride = golden.Counts("stage_query_stride");
  const auto chunk = golden.Counts("stage_chunk_tokens");
  const auto keep = golden.Counts("stage_keep_tokens");
  for (size_t i = 0; i < chunk.size(); ++i) {
    config.stages.push_back({block_q.at(i), stride.at(i), chunk[i], keep.at(i)});
  }
  return config;
}

Scorer ScorerOf(const GoldenCase& golden) {
  return Named<Scorer>({{"representative", Scorer::kRepresentative},
                        {"mean", Scorer::kMean},
                        {"bounds", Scorer::kBounds},
                        {"cuboid_mean", Scorer::kCuboidMean},
                        {"exact", Scorer::kExact},
                        {"first", Scorer::kFirst},
                        {"last", Scorer::kLast}},
                       golden.Text("scorer"));
}

core::SummaryForm FormOf(const GoldenCase& golden) {
  return Named<core::SummaryForm>(
      {{"float32", core::SummaryForm::kFloat32}, {"int8", core::SummaryForm::kInt8}},
      golden.Text("summary_form"));
}

}  // namespace hipattn::golden
