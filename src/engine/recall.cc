// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "engine/recall.h"

#include "core/search/recall.h"
#include "engine/call.h"

#include <algorithm>
#include <vector>

namespace hipattn::engine {
namespace {

bool GivesEstimates(const AttentionOptions& options) {
  return options.searches_tree() && options.scorer_kind() == Scorer::kCuboidMean;
}

// Estimates of one kv head's q heads -> estimates[group].
Status EstimateHead(EngineState& engine, LayerState& layer, uint32_t kv_head, float* estimates) {
  const EngineOptions& options = engine.options;
  const uint32_t group = options.group();
  const HeadState& head = layer.heads[kv_head];
  core::RecallPlan plan;
  plan.Build(head.walk.tree(),
             head.walk.blocks(),
             options.block_tokens,
             layer.search_partition.sink_end,
             layer.search_partition.window_begin);
  Scratch<NodeGroup> groups;
  Scratch<float> tokens;
  Scratch<float> log_mass;  // [level][group]
  HIPATTN_RETURN_IF_ERROR(
      log_mass.Grow(*engine.device, size_t{std::max(plan.num_levels(), 1U)} * group));
  for (uint32_t level = 0; level < plan.num_levels(); ++level) {
    const std::span<const NodeGroup> pruned = plan.groups(level);
    const std::span<const float> counts = plan.tokens(level);
    HIPATTN_RETURN_IF_ERROR(groups.Grow(*engine.device, pruned.size()));
    HIPATTN_RETURN_IF_ERROR(tokens.Grow(*engine.device, counts.size()));
    std::copy(pruned.begin(), pruned.end(), groups.data());
    std::copy(counts.begin(), counts.end(), tokens.data());
    const device::EstimateJob job = {
        head.store.level(level),
        groups.data(),
        tokens.data(),
        static_cast<uint32_t>(pruned.size()),
        layer.search_q.data() + uint64_t{kv_head} * group * options.head_dim,
        log_mass.data() + size_t{level} * group};
    const device::EstimateParams params = {
        &job, 1, options.head_dim, group, options.softmax_scale, options.logit_softcap};
    HIPATTN_RETURN_IF_ERROR(LaunchAndSync(engine, engine.device->ops().estimate_nodes, params));
  }
  std::vector<float> masses(plan.num_levels());
  for (uint32_t g = 0; g < group; ++g) {
    for (uint32_t level = 0; level < plan.num_levels(); ++level) {
      masses[level] = log_mass[size_t{level} * group + g];
    }
    const double lse = static_cast<double>(layer.search_lse[kv_head * group + g]);
    estimates[g] = static_cast<float>(core::RecallShare(lse, masses));
  }
  return Status::Ok();
}

}  // namespace

Result<float> LeastEstimate(EngineState& engine, LayerState& layer, uint32_t kv_head) {
  std::vector<float> estimates(engine.options.group());
  HIPATTN_RETURN_IF_ERROR(EstimateHead(engine, layer, kv_head, estimates.data()));
  return *std::min_element(estimates.begin(), estimates.end());
}

Result<Recall> RecallOf(EngineState& engine,
                        SequenceState& sequence,
                        uint32_t layer_number,
                        uint32_t q_head) {
  LayerState& layer = sequence.layers[layer_number];
  const core::HeadAudit& audit = sequence.audits.at(layer_number, q_head / engine.options.group());
  Recall recall;
  if (audit.samples != 0) {
    recall.audited_loss = static_cast<float>(audit.loss);
  }
  const bool scanned =
      layer.last_mode == StepMode::kSearched && sequence.options.keeps_sketches() && audit.scanned;
  recall.mode = layer.last_mode == StepMode::kDense ? 0 : scanned ? 2 : 1;
  if (layer.last_mode == StepMode::kNever) {
    recall.mode = 0;
    return recall;
  }
  if (layer.truth.size() == engine.options.num_q_heads) {
    recall.truth = layer.truth[q_head];
  }
  if (layer.last_mode == StepMode::kDense) {
    recall.estimate = 1.0F;
    return recall;
  }
  if (layer.last_mode == StepMode::kExternal || !GivesEstimates(sequence.options)) {
    return recall;
  }
  if (!layer.estimate_known && !layer.search_kept) {
    return recall;
  }
  if (!layer.estimate_known) {
    layer.estimate.resize(engine.options.num_q_heads);
    for (uint32_t h = 0; h < engine.options.num_kv_heads; ++h) {
      HIPATTN_RETURN_IF_ERROR(
          EstimateHead(engine, layer, h, layer.estimate.data() + h * engine.options.group()));
    }
    layer.estimate_known = true;
  }
  recall.estimate = layer.estimate[q_head];
  return recall;
}

}  // namespace hipattn::engine
