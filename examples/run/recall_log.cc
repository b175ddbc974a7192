// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "recall_log.h"

#include <algorithm>
#include <cmath>

namespace hipattn_run {
namespace {

Status AddQHead(const Sequence& sequence, uint32_t layer, uint32_t head, RecallLog* log) {
  hipattn_recall_t recall = HIPATTN_RECALL_INIT;
  RUN_RETURN_IF_ERROR(CheckHipattn(hipattn_sequence_recall(sequence.get(), layer, head, &recall),
                                   "ask the recall"));
  RecallLog::QHead& logged = log->q_heads[size_t{layer} * log->num_q_heads + head];
  const double estimate = double{recall.estimate};
  const double truth = double{recall.truth};
  if (!std::isnan(estimate)) {
    logged.estimate.Add(estimate);
  }
  if (!std::isnan(truth)) {
    logged.truth.Add(truth);
    logged.least_truth = std::min(logged.least_truth, truth);
  }
  if (!std::isnan(estimate) && !std::isnan(truth)) {
    logged.error.Add(std::abs(estimate - truth));
  }
  const uint32_t kv_head = head / (log->num_q_heads / log->num_kv_heads);
  RecallLog::KvHead& kv = log->kv_heads[size_t{layer} * log->num_kv_heads + kv_head];
  constexpr uint32_t kScanned = 2;
  kv.audited_loss = double{recall.audited_loss};
  kv.scanned = recall.mode == kScanned;
  return {};
}

Status AddKvHead(const Sequence& sequence, uint32_t layer, uint32_t head, RecallLog* log) {
  std::vector<int32_t> blocks(hipattn_sequence_length(sequence.get()) / log->block_tokens + 1);
  uint32_t count = 0;
  RUN_RETURN_IF_ERROR(CheckHipattn(
      hipattn_sequence_selection(
          sequence.get(), layer, head, blocks.data(), static_cast<uint32_t>(blocks.size()), &count),
      "read the selection"));
  std::vector<uint32_t>& steps =
      log->kv_heads[size_t{layer} * log->num_kv_heads + head].attended_steps;
  steps.resize(std::max(steps.size(), blocks.size()));
  for (size_t i = 0; i < std::min<size_t>(count, blocks.size()); ++i) {
    ++steps[static_cast<size_t>(blocks[i])];
  }
  return {};
}

}  // namespace

Status AddStep(const Engine& engine, const Sequence& sequence, RecallLog* log) {
  hipattn_engine_options_t options = HIPATTN_ENGINE_OPTIONS_INIT;
  RUN_RETURN_IF_ERROR(
      CheckHipattn(hipattn_engine_get_options(engine.get(), &options), "read engine options"));
  log->block_tokens = options.block_tokens;
  log->num_q_heads = options.num_q_heads;
  log->num_kv_heads = options.num_kv_heads;
  log->q_heads.resize(size_t{options.num_layers} * options.num_q_heads);
  log->kv_heads.resize(size_t{options.num_layers} * options.num_kv_heads);
  for (uint32_t layer = 0; layer < options.num_layers; ++layer) {
    for (uint32_t head = 0; head < options.num_q_heads; ++head) {
      RUN_RETURN_IF_ERROR(AddQHead(sequence, layer, head, log));
    }
    for (uint32_t head = 0; head < options.num_kv_heads; ++head) {
      RUN_RETURN_IF_ERROR(AddKvHead(sequence, layer, head, log));
    }
  }
  ++log->steps;
  return {};
}

}  // namespace hipattn_run
