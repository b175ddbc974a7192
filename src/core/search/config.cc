// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/search/config.h"

#include <bit>

namespace hipattn::core {
namespace {

Status CheckRange(const char* field, uint32_t value, uint32_t least) {
  if (value < least) {
    return InvalidArgument(field, " is ", value, ", need at least ", least);
  }
  if (value > static_cast<uint32_t>(INT32_MAX)) {
    return InvalidArgument(field, " is ", value, ", need at most ", INT32_MAX);
  }
  return Status::Ok();
}

// value is a positive multiple of unit.
Status CheckMultiple(const char* field, uint32_t value, const char* unit_field, uint32_t unit) {
  HIPATTN_RETURN_IF_ERROR(CheckRange(field, value, 1));
  if (value % unit != 0) {
    return InvalidArgument(field, " is ", value, ", not a multiple of ", unit_field, " ", unit);
  }
  return Status::Ok();
}

Status CheckStride(uint32_t query_stride, uint32_t block_q) {
  HIPATTN_RETURN_IF_ERROR(CheckRange("block_q", block_q, 1));
  if (query_stride < 1 || query_stride > block_q) {
    return InvalidArgument("query_stride is ", query_stride, ", need 1 to block_q ", block_q);
  }
  return Status::Ok();
}

// A narrower window would let the block's last row choose keys that its first row may not see.
Status CheckWindow(uint32_t sink_tokens, uint32_t window_tokens, uint32_t least) {
  HIPATTN_RETURN_IF_ERROR(CheckRange("sink_tokens", sink_tokens, 0));
  return CheckRange("window_tokens", window_tokens, least);
}

Status CheckStage(const Stage& before, const Stage& stage) {
  HIPATTN_RETURN_IF_ERROR(CheckStride(stage.query_stride, stage.block_q));
  HIPATTN_RETURN_IF_ERROR(CheckRange("chunk_tokens", stage.chunk_tokens, 1));
  if (!std::has_single_bit(stage.chunk_tokens)) {
    return InvalidArgument("chunk_tokens is ", stage.chunk_tokens, ", not a power of two");
  }
  HIPATTN_RETURN_IF_ERROR(
      CheckMultiple("keep_tokens", stage.keep_tokens, "chunk_tokens", stage.chunk_tokens));
  if (stage.block_q != before.block_q) {
    return InvalidArgument("block_q is ", stage.block_q, ", another stage has ", before.block_q);
  }
  if (stage.chunk_tokens > before.chunk_tokens) {
    return InvalidArgument(
        "chunk_tokens is ", stage.chunk_tokens, ", the stage before has ", before.chunk_tokens);
  }
  if (stage.keep_tokens > before.keep_tokens) {
    return InvalidArgument(
        "keep_tokens is ", stage.keep_tokens, ", the stage before keeps ", before.keep_tokens);
  }
  return Status::Ok();
}

}  // namespace

Status ValidateTree(const TreeConfig& config,
                    const SearchRows& rows,
                    Scorer scorer,
                    SummaryForm form) {
  HIPATTN_RETURN_IF_ERROR(CheckStride(rows.query_stride, rows.block_q));
  const uint32_t block = config.block_tokens;
  if (block != 16 && block != 32 && block != 64) {
    return InvalidArgument("block_tokens is ", block, ", need 16, 32 or 64");
  }
  HIPATTN_RETURN_IF_ERROR(
      CheckMultiple("budget_tokens", config.budget_tokens, "block_tokens", block));
  HIPATTN_RETURN_IF_ERROR(CheckRange("beam", config.beam, 0));
  const uint32_t blocks = config.budget_tokens / block;
  if (!config.flat && uint64_t{kFanOut} * KeepCount(config, 1) < blocks) {
    return InvalidArgument(
        "beam is ", config.beam, ", 8 times that cannot fill a budget of ", blocks, " blocks");
  }
  HIPATTN_RETURN_IF_ERROR(
      CheckWindow(rows.sink_tokens, rows.window_tokens, block + rows.block_q - 1));
  const auto kind = static_cast<uint32_t>(scorer);
  if (kind < static_cast<uint32_t>(Scorer::kRepresentative) ||
      kind > static_cast<uint32_t>(Scorer::kLast)) {
    return InvalidArgument("scorer is ", kind, ", need 1 to 7");
  }
  if (form != SummaryForm::kFloat32 && form != SummaryForm::kInt8) {
    return InvalidArgument("summary form is ", static_cast<uint32_t>(form), ", need 1 or 2");
  }
  if (scorer == Scorer::kExact && form == SummaryForm::kInt8) {
    return InvalidArgument("scorer is ", kind, " (exact), which has no int8 summary");
  }
  return Status::Ok();
}

Status ValidateBeam(const BeamConfig& config) {
  const SearchRows& rows = config.rows;
  HIPATTN_RETURN_IF_ERROR(CheckStride(rows.query_stride, rows.block_q));
  HIPATTN_RETURN_IF_ERROR(CheckRange("block_tokens", config.block_tokens, 1));
  HIPATTN_RETURN_IF_ERROR(
      CheckMultiple("leaf_tokens", config.leaf_tokens, "block_tokens", config.block_tokens));
  HIPATTN_RETURN_IF_ERROR(
      CheckMultiple("budget_tokens", config.budget_tokens, "leaf_tokens", config.leaf_tokens));
  if (config.key_stride < 1 || config.key_stride > config.block_tokens) {
    return InvalidArgument(
        "key_stride is ", config.key_stride, ", need 1 to block_tokens ", config.block_tokens);
  }
  const auto representative = static_cast<uint32_t>(config.representative);
  if (representative < 1 || representative > 3) {
    return InvalidArgument("representative is ", representative, ", need 1 to 3");
  }
  return CheckWindow(rows.sink_tokens, rows.window_tokens, rows.block_q);
}

Status ValidateStaged(const StagedConfig& config) {
  if (config.stages.empty()) {
    return InvalidArgument("stages has 0 entries, need at least 1");
  }
  const Stage* before = &config.stages[0];
  for (const Stage& stage : config.stages) {
    HIPATTN_RETURN_IF_ERROR(CheckStage(*before, stage));
    before = &stage;
  }
  return CheckWindow(config.sink_tokens, config.window_tokens, config.stages[0].block_q);
}

Status ValidateIntervals(std::span<const uint32_t> intervals) {
  if (intervals.empty()) {
    return InvalidArgument("intervals has 0 entries, need at least 1");
  }
  for (size_t i = 0; i < intervals.size(); ++i) {
    HIPATTN_RETURN_IF_ERROR(CheckRange("refresh interval", intervals[i], 1));
    if (i > 0 && intervals[i - 1] % intervals[i] != 0) {
      return InvalidArgument(
          "refresh interval is ", intervals[i - 1], ", not a multiple of the next, ", intervals[i]);
    }
  }
  return Status::Ok();
}

Status ValidateTreePositions(const Extension& extension, int64_t max_pos) {
  if (extension.trained_tokens > 0 && max_pos >= int64_t{extension.trained_tokens}) {
    return InvalidArgument("position ",
                           max_pos,
                           " reaches trained_tokens ",
                           extension.trained_tokens,
                           ": the tree search knows no position extension");
  }
  return Status::Ok();
}

Status ValidateExtension(const Extension& extension, const ExtensionUse& use) {
  if (extension.mode != ScanMode::kRelative && extension.mode != ScanMode::kStreaming) {
    return InvalidArgument(
        "scan mode is ", static_cast<uint32_t>(extension.mode), ", need relative or streaming");
  }
  const int64_t trained = extension.trained_tokens;
  if (trained == 0 || use.max_pos < trained) {
    return Status::Ok();
  }
  const int64_t reach = use.sink_tokens + use.budget_tokens + use.window_tokens + use.slack_tokens;
  if (reach > trained) {
    return InvalidArgument("trained_tokens is ",
                           trained,
                           ", less than sinks, budget, window and slack together, ",
                           reach);
  }
  if (use.scan_window + 2 > trained) {
    return InvalidArgument(
        "trained_tokens is ", trained, ", less than the scan window and 2, ", use.scan_window + 2);
  }
  return Status::Ok();
}

}  // namespace hipattn::core
