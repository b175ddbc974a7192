// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
// Golden cases of policy alone: positions, blocks, schedules, counts and errors.
#include "core/counts.h"
#include "core/plan.h"
#include "core/query_blocks.h"
#include "core/refresh.h"
#include "core/search/beam_walk.h"
#include "tests/golden/checks.h"
#include "tests/golden/expect.h"
#include "tests/golden/settings.h"

#include <algorithm>

namespace hipattn::golden {
namespace {

using core::ScanFrame;
using core::Side;

int32_t Narrow(int64_t value) {
  return static_cast<int32_t>(value);
}

bool IsValidExtension(const GoldenCase& golden, const core::ExtensionUse& use) {
  if (golden.Text("rope_layout", "none") == "none") {
    return true;
  }
  return RopeOf(golden).layout != core::RopeLayout::kNone &&
         core::ValidateExtension(ExtensionOf(golden), use).ok();
}

core::ExtensionUse UseOf(const GoldenCase& golden, uint32_t block_q, uint32_t budget) {
  const std::vector<uint32_t> intervals = golden.Counts("intervals");
  core::ExtensionUse use;
  use.sink_tokens = golden.Int("sink_tokens");
  use.budget_tokens = budget;
  use.window_tokens = golden.Int("window_tokens");
  use.slack_tokens = std::max(block_q, intervals.empty() ? 0 : intervals[0]);
  use.max_pos = golden.Int("max_pos");
  return use;
}

bool IsValidSearch(const GoldenCase& golden) {
  const std::string search = golden.Text("search");
  if (search == "tree") {
    return core::ValidateTree(TreeOf(golden), RowsOf(golden), ScorerOf(golden), FormOf(golden))
               .ok() &&
           core::ValidateTreePositions(ExtensionOf(golden), golden.Int("max_pos")).ok();
  }
  if (search == "staged") {
    const core::StagedConfig config = StagedOf(golden);
    if (!core::ValidateStaged(config).ok()) {
      return false;
    }
    core::ExtensionUse use =
        UseOf(golden, config.stages[0].block_q, config.stages.back().keep_tokens);
    use.scan_window = core::ScanWindow(config);
    return IsValidExtension(golden, use);
  }
  const core::BeamConfig config = BeamOf(golden);
  core::ExtensionUse use = UseOf(golden, config.rows.block_q, config.budget_tokens);
  use.scan_window = core::ScanWindow(config);
  return core::ValidateBeam(config).ok() && IsValidExtension(golden, use);
}

}  // namespace

void CheckPartition(const GoldenCase& golden, const Machine& /*machine*/) {
  const Array& queries = golden.Input("queries");
  std::vector<int32_t> bounds;
  for (size_t i = 0; i < queries.shape[0]; ++i) {
    const auto query = queries.IntRow(i);
    const int64_t anchor = query[4] < 0 ? query[0] : query[4];
    const core::Partition part =
        core::SplitPartition(query[0], query[1], {query[2], query[3]}, anchor);
    bounds.push_back(Narrow(part.sink_end));
    bounds.push_back(Narrow(part.window_begin));
    bounds.push_back(Narrow(part.end));
  }
  ExpectInts(golden, "bounds", bounds);
}

void CheckQueryBlocks(const GoldenCase& golden, const Machine& /*machine*/) {
  std::vector<int32_t> rows;
  for (const core::RowRange& block : core::QueryBlocks(
           golden.Int("first_pos"), golden.Count("n_queries"), golden.Count("block_q"))) {
    rows.push_back(Narrow(block.begin));
    rows.push_back(Narrow(block.end));
  }
  ExpectInts(golden, "rows", rows);
}

void CheckScanPositions(const GoldenCase& golden, const Machine& /*machine*/) {
  const core::ScanMode mode =
      golden.Text("mode") == "relative" ? core::ScanMode::kRelative : core::ScanMode::kStreaming;
  const ScanFrame frame{
      mode, golden.Int("n_candidates"), golden.Int("scan_window"), golden.Int("trained_len")};
  std::vector<int32_t> left;
  std::vector<int32_t> right;
  std::vector<int32_t> query;
  for (int64_t i = 0; i < frame.num_candidates; ++i) {
    left.push_back(Narrow(frame.KeyPosition(0, i, Side::kLeft)));
    right.push_back(Narrow(frame.KeyPosition(0, i, Side::kRight)));
  }
  for (const int32_t pos : golden.Input("row_pos").ints) {
    query.push_back(Narrow(frame.QueryPosition(pos)));
  }
  ExpectInts(golden, "left", left);
  ExpectInts(golden, "right", right);
  ExpectInts(golden, "query", query);
}

void CheckAttendPositions(const GoldenCase& golden, const Machine& /*machine*/) {
  const std::vector<int64_t> positions = core::AttendPositions(
      golden.Int("sink_tokens"), golden.Int("n_selected"), golden.Int("window_begin"));
  ExpectInts(golden, "positions", std::vector<int32_t>(positions.begin(), positions.end()));
}

void CheckRefreshSchedule(const GoldenCase& golden, const Machine& /*machine*/) {
  const std::vector<uint32_t> intervals = golden.Counts("intervals");
  std::vector<int32_t> first_stage;
  for (int64_t step = 0; step < golden.Int("n_steps"); ++step) {
    first_stage.push_back(Narrow(core::RefreshStage(intervals, static_cast<uint64_t>(step))));
  }
  ExpectInts(golden, "first_stage", first_stage);
}

void CheckTreeRefresh(const GoldenCase& golden, const Machine& /*machine*/) {
  std::vector<int32_t> refreshed;
  for (uint32_t layer = 0; layer < golden.Count("n_layers"); ++layer) {
    for (uint32_t step = 0; step < golden.Count("n_steps"); ++step) {
      refreshed.push_back(core::TreeRefreshes(golden.Count("interval"), layer, step) ? 1 : 0);
    }
  }
  ExpectInts(golden, "refreshed", refreshed);
}

void CheckProbeCount(const GoldenCase& golden, const Machine& /*machine*/) {
  const int64_t lo = golden.Int("lo");
  const int64_t hi = golden.Int("hi");
  const auto wide = [](uint64_t count) { return static_cast<int64_t>(count); };
  if (golden.Text("search") == "staged") {
    const core::StagedCount count = core::CountStaged(StagedOf(golden).stages, lo, hi);
    ExpectValues(golden, "probes", {wide(count.keys_scored)});
    ExpectValues(golden, "distinct_keys_at_most", {wide(count.distinct_keys)});
    ExpectValues(golden, "probes_with_extra_step", {wide(count.keys_with_extra_step)});
    return;
  }
  const core::BeamCount count = core::CountBeam(BeamOf(golden), lo, hi);
  ExpectValues(golden, "levels", {count.levels});
  ExpectValues(golden, "probes", {wide(count.keys_scored)});
}

void CheckTreeCount(const GoldenCase& golden, const Machine& /*machine*/) {
  const core::TreeCount count =
      core::CountTree(TreeOf(golden), {golden.Int("lo"), golden.Int("hi"), golden.Int("complete")});
  ExpectValues(golden, "start_level", {count.start_level});
  ExpectValues(golden, "summaries_at_most", {static_cast<int64_t>(count.summaries_at_most)});
}

void CheckValidate(const GoldenCase& golden, const Machine& /*machine*/) {
  const bool valid =
      core::ValidateIntervals(golden.Counts("intervals")).ok() && IsValidSearch(golden);
  ExpectValues(golden, "valid", {valid ? 1 : 0});
}

}  // namespace hipattn::golden
