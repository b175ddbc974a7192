// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "engine/recall.h"

#include "core/search/recall.h"
#include "core/search/recall_sample.h"
#include "engine/block_ops.h"
#include "engine/call.h"
#include "engine/index_ops.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace hipattn::engine {
namespace {

bool GivesEstimates(const AttentionOptions& options) {
  return options.searches_tree() && options.scorer_kind() == Scorer::kCuboidMean;
}

// Scores of blocks by the sketches of their keys, for each q head of a group -> scores[group].
Status ScoreForEach(EngineState& engine,
                    bool on_host,
                    const HeadStore& store,
                    const float* q,
                    std::span<const int32_t> blocks,
                    Scratch<float>* scores) {
  const EngineOptions& options = engine.options;
  const uint32_t group = options.group();
  Scratch<int32_t> list;
  HIPATTN_RETURN_IF_ERROR(list.Grow(*engine.device, blocks.size()));
  HIPATTN_RETURN_IF_ERROR(scores->Grow(*engine.device, group * blocks.size()));
  std::copy(blocks.begin(), blocks.end(), list.data());
  const device::ScoreSketchJob job = {on_host ? store.sketch_data() : store.sketches(),
                                      list.data(),
                                      0,
                                      static_cast<uint32_t>(blocks.size()),
                                      {q, 0, 1, group},
                                      scores->data(),
                                      blocks.size()};
  const device::ScoreSketchParams params = {
      nullptr, 0, options.head_dim, options.block_tokens, options.softmax_scale};
  return RunIndexOp(engine, on_host, &device::OpTable::score_sketches, job, params);
}

// Natural log of the masses of the keys of `blocks` inside the searchable range, by attending each
// block by itself -> log_masses[group][blocks].
Status SumKeys(EngineState& engine,
               const HeadStore& store,
               const float* q,
               std::span<const int32_t> blocks,
               const core::Partition& range,
               std::vector<double>* log_masses) {
  const EngineOptions& options = engine.options;
  const uint32_t group = options.group();
  const size_t row = size_t{group} * options.head_dim;
  const auto count = static_cast<uint32_t>(blocks.size());
  const uint64_t floats = device::DecodeWorkspaceFloats(1, group, options.head_dim);
  Scratch<device::DecodeJob> jobs;
  Scratch<device::KvRange> ranges;
  Scratch<float> lse;
  Scratch<float, device::MemoryKind::kDevice> out;
  Scratch<float, device::MemoryKind::kDevice> workspace;
  HIPATTN_RETURN_IF_ERROR(jobs.Grow(*engine.device, count));
  HIPATTN_RETURN_IF_ERROR(ranges.Grow(*engine.device, count));
  HIPATTN_RETURN_IF_ERROR(lse.Grow(*engine.device, size_t{count} * group));
  HIPATTN_RETURN_IF_ERROR(out.Grow(*engine.device, count * row));
  HIPATTN_RETURN_IF_ERROR(workspace.Grow(*engine.device, count * floats));
  for (uint32_t i = 0; i < count; ++i) {
    const int64_t first = int64_t{blocks[i]} * options.block_tokens;
    const int64_t begin = std::max(first, range.sink_end);
    const int64_t end = std::min(first + options.block_tokens, range.window_begin);
    ranges[i] = {store.slots()[blocks[i]],
                 static_cast<uint16_t>(begin - first),
                 static_cast<uint16_t>(end - first)};
    jobs[i] = {};
    jobs[i].ranges = ranges.data() + i;
    jobs[i].num_ranges = 1;
    jobs[i].q = q;
    jobs[i].out = out.data() + i * row;
    jobs[i].lse = lse.data() + size_t{i} * group;
  }
  device::DecodeParams params = {};
  params.jobs = jobs.data();
  params.num_jobs = count;
  params.group = group;
  params.scale = options.softmax_scale;
  params.softcap = options.logit_softcap;
  params.out_dtype = DType::kF32;
  params.workspace = workspace.data();
  HIPATTN_RETURN_IF_ERROR(RunOverBlocks(engine, params));
  log_masses->clear();
  for (uint32_t g = 0; g < group; ++g) {
    for (uint32_t i = 0; i < count; ++i) {
      log_masses->push_back(static_cast<double>(lse[size_t{i} * group + g]));
    }
  }
  return Status::Ok();
}

// What the last search of a kv head left out, by its sketches and a few of its keys.
Status SampleHead(EngineState& engine,
                  const SequenceState& sequence,
                  const LayerState& layer,
                  uint32_t kv_head,
                  core::RecallSample* sample,
                  SearchRead* read) {
  const EngineOptions& options = engine.options;
  const uint32_t group = options.group();
  const HeadState& head = layer.heads[kv_head];
  const core::Partition& range = layer.search_partition;
  const float* q = layer.search_q.data() + uint64_t{kv_head} * group * options.head_dim;
  // All that meets the range is complete: the window is at least a block.
  sample->List(
      core::MeetingNodes({range.sink_end, range.window_begin, kMaxTokens}, options.block_tokens),
      head.walk.tree().blocks(),
      head.walk.blocks());
  Scratch<float> scores;
  if (!sample->blocks().empty()) {
    const bool on_host = sequence.context.SketchesOnHost();
    const float* search_q =
        on_host ? layer.search_host_q.data() + uint64_t{kv_head} * group * options.head_dim : q;
    HIPATTN_RETURN_IF_ERROR(
        ScoreForEach(engine, on_host, head.store, search_q, sample->blocks(), &scores));
  }
  sample->Draw({scores.data(), group * sample->blocks().size()},
               {layer.search_lse.data() + uint64_t{kv_head} * group, group});
  std::vector<double> log_masses;
  if (!sample->drawn().empty()) {
    HIPATTN_RETURN_IF_ERROR(SumKeys(engine, head.store, q, sample->drawn(), range, &log_masses));
  }
  sample->Accept(log_masses);
  const uint64_t sketch_tokens = sample->blocks().size() * options.block_tokens;
  const uint64_t key_tokens = sample->drawn().size() * options.block_tokens;
  read->keys += sketch_tokens + key_tokens;
  read->bytes += sketch_tokens / device::kSketchTokens * device::SketchBytes(options.head_dim) +
                 key_tokens * 2 * options.head_dim * DTypeBytes(options.kv());
  return Status::Ok();
}

// Estimates of one kv head's q heads by the summaries of the tree (SPEC D36) -> estimates[group].
Status EstimateBySummaries(EngineState& engine,
                           const LayerState& layer,
                           uint32_t kv_head,
                           float* estimates) {
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
        nullptr, 0, options.head_dim, group, options.softmax_scale, options.logit_softcap};
    HIPATTN_RETURN_IF_ERROR(
        LaunchOneAndSync(engine, engine.device->ops().estimate_nodes, job, params));
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

Status EstimateHead(EngineState& engine,
                    const SequenceState& sequence,
                    const LayerState& layer,
                    uint32_t kv_head,
                    float* estimates) {
  if (!sequence.options.keeps_sketches()) {
    return EstimateBySummaries(engine, layer, kv_head, estimates);
  }
  core::RecallSample sample;
  SearchRead not_counted;  // nobody's step looked at this
  HIPATTN_RETURN_IF_ERROR(SampleHead(engine, sequence, layer, kv_head, &sample, &not_counted));
  for (uint32_t g = 0; g < engine.options.group(); ++g) {
    estimates[g] = static_cast<float>(sample.share(g));
  }
  return Status::Ok();
}

}  // namespace

Result<RecallNeed> NeedOf(EngineState& engine,
                          const SequenceState& sequence,
                          uint32_t layer_number,
                          uint32_t kv_head,
                          SearchRead* read) {
  const LayerState& layer = sequence.layers[layer_number];
  const float target = sequence.options.min_recall;
  const uint32_t group = engine.options.group();
  RecallNeed need;
  if (!sequence.options.keeps_sketches()) {
    std::vector<float> shares(group);
    HIPATTN_RETURN_IF_ERROR(EstimateBySummaries(engine, layer, kv_head, shares.data()));
    need.reached = *std::min_element(shares.begin(), shares.end()) >= target;
    return need;
  }
  core::RecallSample sample;
  HIPATTN_RETURN_IF_ERROR(SampleHead(engine, sequence, layer, kv_head, &sample, read));
  need.reached = true;
  for (uint32_t g = 0; g < group; ++g) {
    need.reached = need.reached && sample.least_share(g) >= static_cast<double>(target);
  }
  need.blocks = need.reached ? 0 : sample.BlocksFor(static_cast<double>(target));
  return need;
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
          EstimateHead(engine,
                       sequence,
                       layer,
                       h,
                       layer.estimate.data() + uint64_t{h} * engine.options.group()));
    }
    layer.estimate_known = true;
  }
  recall.estimate = layer.estimate[q_head];
  return recall;
}

}  // namespace hipattn::engine
