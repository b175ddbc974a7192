// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "engine/select.h"

#include "engine/block_ops.h"
#include "engine/call.h"

#include <algorithm>
#include <limits>

namespace hipattn::engine {
namespace {

// Layers that see sliding diagonals rather than content keep chunk-indexed positions while they
// search past the trained length (arXiv 2502.08910, section 4: the first three).
constexpr uint32_t kStreamingLayers = 3;

SearchRows SampledRows(const BlockQuery& query, uint32_t group, uint32_t stride) {
  const uint32_t sampled = (query.num_rows - 1) / stride + 1;
  const uint32_t first = query.num_rows - 1 - (sampled - 1) * stride;  // counted from the end (D8)
  const uint64_t skipped = first * query.row_stride;
  return {{query.q + skipped, query.row_stride * stride, sampled, group},
          query.host_q == nullptr ? nullptr : query.host_q + skipped};
}

core::Extension ExtensionOf(const SelectContext& context) {
  core::Extension extension;
  if (!context.sequence.keys_rotated) {
    extension.trained_tokens = context.engine.options.trained_tokens;
    extension.mode =
        context.layer < kStreamingLayers ? core::ScanMode::kStreaming : core::ScanMode::kRelative;
  }
  return extension;
}

uint64_t KeyBytes(const EngineOptions& options) {
  return options.head_dim * DTypeBytes(options.kv());
}

// Scores nodes by all their keys inside [lo, hi): the exact scorer. *bytes_read grows.
Status ScoreByKeys(const SelectContext& context,
                   const BlockQuery& query,
                   const device::QueryRows& rows,
                   HeadState* head,
                   uint64_t* bytes_read) {
  device::Device& device = *context.engine.device;
  const core::TreeWalk& tree = head->walk.tree();
  const std::span<const NodeGroup> pending = tree.pending();
  const int64_t size = int64_t{context.engine.options.block_tokens} << (3 * tree.level());
  std::vector<uint32_t> tokens;
  std::vector<size_t> ends(pending.size() * kFanOut);
  for (size_t i = 0; i < ends.size(); ++i) {
    if ((pending[i / kFanOut].mask >> (i % kFanOut) & 1U) != 0) {
      const auto node =
          static_cast<int64_t>(uint64_t{pending[i / kFanOut].index} * kFanOut + i % kFanOut);
      const int64_t end = std::min((node + 1) * size, query.last_row.window_begin);
      for (int64_t t = std::max(node * size, query.last_row.sink_end); t < end; ++t) {
        tokens.push_back(static_cast<uint32_t>(t));
      }
    }
    ends[i] = tokens.size();
  }
  HIPATTN_RETURN_IF_ERROR(head->tokens.Grow(device, tokens.size()));
  HIPATTN_RETURN_IF_ERROR(head->scores.Grow(device, ends.size() + tokens.size()));
  std::copy(tokens.begin(), tokens.end(), head->tokens.data());
  *bytes_read += tokens.size() * KeyBytes(context.engine.options);
  float* key_scores = head->scores.data() + ends.size();
  const device::ScoreKeysJob job = {head->store.slots(),
                                    head->tokens.data(),
                                    nullptr,
                                    static_cast<uint32_t>(tokens.size()),
                                    rows,
                                    nullptr,
                                    key_scores};
  const device::ScoreKeysParams params = {{}, {}, nullptr, 0};
  HIPATTN_RETURN_IF_ERROR(RunOverBlocks(context.engine, job, params));
  for (size_t i = 0, begin = 0; i < ends.size(); begin = ends[i++]) {
    float best = -std::numeric_limits<float>::infinity();
    for (size_t t = begin; t < ends[i]; ++t) {
      best = std::max(best, key_scores[t]);
    }
    head->scores[i] = best;
  }
  return Status::Ok();
}

// Scores the blocks that the tree kept by the sketches of their keys.
Status ScoreBySketch(const SelectContext& context, const SearchRows& rows, HeadState* head) {
  device::Device& device = *context.engine.device;
  const EngineOptions& options = context.engine.options;
  const std::span<const int32_t> pending = head->walk.pending();
  HIPATTN_RETURN_IF_ERROR(head->blocks.Grow(device, pending.size()));
  HIPATTN_RETURN_IF_ERROR(head->scores.Grow(device, pending.size()));
  std::copy(pending.begin(), pending.end(), head->blocks.data());
  const HeadStore& store = head->store;
  const bool copied =
      context.scans && store.sketch_copy().blocks() > static_cast<uint64_t>(pending.back());
  const bool on_host = context.sequence.context.SketchesOnHost() && !copied;
  const device::ScoreSketchJob job = {copied    ? store.sketch_copy().table()
                                      : on_host ? store.sketch_data()
                                                : store.sketches(),
                                      head->blocks.data(),
                                      0,
                                      static_cast<uint32_t>(pending.size()),
                                      rows.For(on_host),
                                      head->scores.data(),
                                      0};
  const device::ScoreSketchParams params = {
      nullptr, 0, options.head_dim, options.block_tokens, options.softmax_scale};
  return RunIndexOp(context.engine, on_host, &device::OpTable::score_sketches, job, params);
}

// What the tree keeps for sketches to choose from; all of the text when the head is scanned.
uint32_t CandidateTokens(const AttentionOptions& options, bool scans) {
  if (!options.keeps_sketches()) {
    return 0;
  }
  return scans ? static_cast<uint32_t>(kMaxTokens / 64 * 64) : options.rerank_tokens;
}

void TakeBlocks(uint32_t block_tokens, HeadState* head) {
  head->leaves.assign(head->walk.blocks().begin(), head->walk.blocks().end());
  head->leaf_tokens = block_tokens;
}

Status SelectByTree(const SelectContext& context,
                    const BlockQuery& query,
                    uint32_t budget_tokens,
                    HeadState* head,
                    SearchRead* read) {
  const EngineOptions& options = context.engine.options;
  core::TreeConfig config;
  config.block_tokens = options.block_tokens;
  config.budget_tokens = budget_tokens;
  config.flat = context.sequence.options.search_kind() == Search::kFlat;
  const auto complete = static_cast<int64_t>(query.first_pos) + 1;
  core::RerankWalk& walk = head->walk;
  walk.Begin(config,
             CandidateTokens(context.sequence.options, context.scans),
             {query.last_row.sink_end, query.last_row.window_begin, complete});
  const SearchRows rows =
      SampledRows(query, options.group(), context.prefill ? kPrefillQueryStride : 1);
  const bool exact = context.sequence.options.scorer_kind() == Scorer::kExact;
  while (!walk.tree().done()) {
    HIPATTN_RETURN_IF_ERROR(exact ? ScoreByKeys(context, query, rows.rows, head, &read->bytes)
                                  : ScoreNodes(context.engine,
                                               context.sequence,
                                               head->store,
                                               rows,
                                               walk.tree(),
                                               &head->groups,
                                               &head->scores));
    walk.tree().Accept(head->scores.data());
  }
  if (!walk.Rerank()) {
    HIPATTN_RETURN_IF_ERROR(ScoreBySketch(context, rows, head));
    walk.Accept(head->scores.data());
  }
  const uint64_t summary_bytes = SummaryBytes(context.engine, context.sequence);
  const uint64_t sketch_tokens = walk.blocks_scored() * options.block_tokens;
  read->keys += walk.tree().summaries_scored() + sketch_tokens;
  read->bytes += walk.tree().summaries_scored() * (exact ? 0 : summary_bytes) +
                 sketch_tokens / device::kSketchTokens * device::SketchBytes(options.head_dim);
  TakeBlocks(options.block_tokens, head);
  return Status::Ok();
}

// Answers a walk's questions until it is done.
Status RunProbes(const SelectContext& context,
                 const BlockQuery& query,
                 core::ProbeWalk* walk,
                 HeadState* head,
                 SearchRead* read) {
  device::Device& device = *context.engine.device;
  const bool rotate = !context.sequence.keys_rotated;
  while (!walk->done()) {
    const core::ProbeBatch& batch = walk->pending();
    HIPATTN_RETURN_IF_ERROR(head->tokens.Grow(device, batch.tokens.size()));
    HIPATTN_RETURN_IF_ERROR(head->key_pos.Grow(device, batch.key_pos.size()));
    HIPATTN_RETURN_IF_ERROR(head->row_pos.Grow(device, batch.row_pos.size()));
    HIPATTN_RETURN_IF_ERROR(head->scores.Grow(device, batch.tokens.size()));
    std::copy(batch.tokens.begin(), batch.tokens.end(), head->tokens.data());
    std::copy(batch.key_pos.begin(), batch.key_pos.end(), head->key_pos.data());
    std::copy(batch.row_pos.begin(), batch.row_pos.end(), head->row_pos.data());
    const uint32_t stride = batch.rows.size() > 1 ? batch.rows[1] - batch.rows[0] : 1;
    const device::QueryRows rows = {query.q + batch.rows[0] * query.row_stride,
                                    query.row_stride * stride,
                                    static_cast<uint32_t>(batch.rows.size()),
                                    context.engine.options.group()};
    const device::ScoreKeysJob job = {head->store.slots(),
                                      head->tokens.data(),
                                      rotate ? head->key_pos.data() : nullptr,
                                      static_cast<uint32_t>(batch.tokens.size()),
                                      rows,
                                      rotate ? head->row_pos.data() : nullptr,
                                      head->scores.data()};
    const device::ScoreKeysParams params = {
        {}, rotate ? context.engine.rope : device::Rope{}, nullptr, 0};
    HIPATTN_RETURN_IF_ERROR(RunOverBlocks(context.engine, job, params));
    walk->Accept({head->scores.data(), batch.tokens.size()});
  }
  read->keys += walk->keys_scored();
  read->bytes += walk->keys_scored() * KeyBytes(context.engine.options);
  head->leaves.assign(walk->leaves().begin(), walk->leaves().end());
  head->leaf_tokens = walk->leaf_tokens();
  return Status::Ok();
}

core::ProbeBlock ProbeBlockOf(const BlockQuery& query) {
  core::ProbeBlock block;
  block.lo = query.last_row.sink_end;
  block.hi = query.last_row.window_begin;
  block.last_pos = static_cast<int64_t>(query.first_pos) + query.num_rows - 1;
  block.num_rows = query.num_rows;
  return block;
}

core::Representative RepresentativeOf(Scorer scorer) {
  return scorer == Scorer::kFirst  ? core::Representative::kFirst
         : scorer == Scorer::kLast ? core::Representative::kLast
                                   : core::Representative::kCenter;
}

}  // namespace

uint64_t SummaryBytes(const EngineState& engine, const SequenceState& sequence) {
  return device::SummaryGroupBytes(engine.options.head_dim, sequence.context.has_spread) / kFanOut;
}

Status ScoreNodes(EngineState& engine,
                  const SequenceState& sequence,
                  const HeadStore& store,
                  const SearchRows& rows,
                  const core::TreeWalk& tree,
                  Scratch<NodeGroup>* groups,
                  Scratch<float>* scores) {
  const std::span<const NodeGroup> pending = tree.pending();
  HIPATTN_RETURN_IF_ERROR(groups->Grow(*engine.device, pending.size()));
  HIPATTN_RETURN_IF_ERROR(scores->Grow(*engine.device, pending.size() * kFanOut));
  std::copy(pending.begin(), pending.end(), groups->data());
  const bool on_host = sequence.context.OnHost(tree.level());
  const device::ScoreJob job = {
      on_host ? store.level_data(tree.level()) : store.level(tree.level()),
      groups->data(),
      static_cast<uint32_t>(pending.size()),
      rows.For(on_host),
      scores->data()};
  const device::ScoreParams params = {
      nullptr, 0, engine.options.head_dim, sequence.context.has_spread ? 1U : 0U};
  return RunIndexOp(engine, on_host, &device::OpTable::score_nodes, job, params);
}

core::BeamConfig BeamConfigOf(const AttentionOptions& options, bool prefill) {
  core::BeamConfig config;  // probe blocks and leaves of 2 tokens, as published
  config.rows.block_q = prefill ? kPrefillBlockRows : 1;
  config.rows.query_stride = prefill ? 2 : 1;
  config.rows.sink_tokens = options.sink_tokens;
  config.rows.window_tokens = options.window_tokens;
  config.budget_tokens = options.budget_tokens;
  config.representative = RepresentativeOf(options.scorer_kind());
  return config;
}

core::StagedConfig StagedConfigOf(const AttentionOptions& options, bool prefill) {
  core::StagedConfig config;  // the published chunks; no stage keeps less than the budget
  config.sink_tokens = options.sink_tokens;
  config.window_tokens = options.window_tokens;
  config.stages.back().keep_tokens = options.budget_tokens;
  for (core::Stage& stage : config.stages) {
    stage.keep_tokens = std::max(stage.keep_tokens, options.budget_tokens);
    stage.keep_tokens = stage.keep_tokens / stage.chunk_tokens * stage.chunk_tokens;
    if (!prefill) {
      stage.block_q = 1;
      stage.query_stride = 1;
    }
  }
  return config;
}

Status Select(const SelectContext& context,
              const BlockQuery& query,
              uint32_t budget_tokens,
              HeadState* head,
              SearchRead* read) {
  const AttentionOptions& options = context.sequence.options;
  switch (options.search_kind()) {
    case Search::kTree:
    case Search::kFlat:
      return SelectByTree(context, query, budget_tokens, head, read);
    case Search::kBeam:
      head->beam.Begin(
          BeamConfigOf(options, context.prefill), ExtensionOf(context), ProbeBlockOf(query));
      return RunProbes(context, query, &head->beam, head, read);
    case Search::kStaged:
      head->staged.Begin(
          StagedConfigOf(options, context.prefill), ExtensionOf(context), ProbeBlockOf(query));
      HIPATTN_RETURN_IF_ERROR(RunProbes(context, query, &head->staged, head, read));
      head->staged_lists = head->staged.lists();
      return Status::Ok();
  }
  return Internal("search is ", options.search);
}

void Reselect(const SelectContext& context, uint32_t blocks, HeadState* head) {
  head->walk.Keep(blocks);
  TakeBlocks(context.engine.options.block_tokens, head);
}

Status ResumeStaged(const SelectContext& context,
                    const BlockQuery& query,
                    uint32_t first_stage,
                    HeadState* head,
                    SearchRead* read) {
  head->staged.Resume(first_stage,
                      head->staged_lists,
                      StagedConfigOf(context.sequence.options, context.prefill),
                      ExtensionOf(context),
                      ProbeBlockOf(query));
  HIPATTN_RETURN_IF_ERROR(RunProbes(context, query, &head->staged, head, read));
  head->staged_lists = head->staged.lists();
  return Status::Ok();
}

}  // namespace hipattn::engine
