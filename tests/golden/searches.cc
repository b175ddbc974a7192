// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "tests/golden/searches.h"

#include <bit>

namespace hipattn::golden {
namespace {

// The sampled rows of the group, one after another.
std::vector<float> SampledRows(const device::QueryRows& rows, size_t head_dim) {
  std::vector<float> sampled;
  for (uint32_t row = 0; row < rows.num_rows; ++row) {
    const float* first = rows.q + row * rows.row_stride;
    sampled.insert(sampled.end(), first, first + rows.group * head_dim);
  }
  return sampled;
}

}  // namespace

ProbeSearch::ProbeSearch(const GoldenCase& golden, const KvText* text)
    : text_(text),
      is_staged_(golden.Text("search") == "staged"),
      sizes_(SizesOf(golden)),
      extension_(ExtensionOf(golden)),
      rope_(RopeOf(golden)) {
  if (is_staged_) {
    staged_ = StagedOf(golden);
  } else {
    beam_ = BeamOf(golden);
  }
}

uint32_t ProbeSearch::leaf_tokens() const {
  return is_staged_ ? staged_.stages.back().chunk_tokens : beam_.leaf_tokens;
}

uint32_t ProbeSearch::block_q() const {
  return is_staged_ ? staged_.stages[0].block_q : beam_.rows.block_q;
}

std::vector<Found> ProbeSearch::Find(const QueryBlock& block,
                                     uint32_t first_stage,
                                     const std::vector<Found>& cached) const {
  if (first_stage > 0 && !is_staged_) {
    return cached;
  }
  std::vector<Found> found;
  for (uint32_t head = 0; head < text_->num_kv_heads(); ++head) {
    found.push_back(FindHead(block, head, first_stage, first_stage > 0 ? cached[head] : Found()));
  }
  return found;
}

Found ProbeSearch::FindHead(const QueryBlock& block,
                            uint32_t kv_head,
                            uint32_t first_stage,
                            const Found& cached) const {
  Found found;
  found.anchor_pos = first_stage > 0 ? cached.anchor_pos : block.last_pos();
  const core::Partition part =
      core::SplitPartition(block.last_pos(), block.kv_len, sizes_, found.anchor_pos);
  const core::ProbeBlock probe_block{
      part.sink_end, part.window_begin, block.last_pos(), block.num_rows};
  const device::QueryRows rows = block.Rows(kv_head, text_->num_kv_heads());
  if (is_staged_) {
    core::StagedWalk walk;
    if (first_stage > 0) {
      walk.Resume(first_stage, cached.lists, staged_, extension_, probe_block);
    } else {
      walk.Begin(staged_, extension_, probe_block);
    }
    text_->RunProbes(kv_head, rows, rope_, &walk);
    found.leaves.assign(walk.leaves().begin(), walk.leaves().end());
    found.lists = walk.lists();
    found.keys_scored = static_cast<int64_t>(walk.keys_scored());
    return found;
  }
  core::BeamWalk walk;
  walk.Begin(beam_, extension_, probe_block);
  text_->RunProbes(kv_head, rows, rope_, &walk);
  found.leaves.assign(walk.leaves().begin(), walk.leaves().end());
  found.keys_scored = static_cast<int64_t>(walk.keys_scored());
  found.levels = walk.levels();
  return found;
}

TreeSearch::TreeSearch(const GoldenCase& golden,
                       const Machine& machine,
                       const Array& k,
                       const KvText* text)
    : head_dim_(static_cast<uint32_t>(k.shape[2])),
      config_(TreeOf(golden)),
      rows_(RowsOf(golden)),
      sizes_(SizesOf(golden)),
      scorer_(ScorerOf(golden)),
      form_(FormOf(golden)) {
  const size_t row_stride = k.shape[1] * k.shape[2];
  for (uint32_t head = 0; head < text->num_kv_heads(); ++head) {
    std::vector<float> keys;
    for (size_t token = 0; token < k.shape[0]; ++token) {
      const float* key = k.floats.data() + token * row_stride + head * head_dim_;
      keys.insert(keys.end(), key, key + head_dim_);
    }
    trees_.emplace_back(config_.block_tokens, head_dim_);
    trees_.back().Append(keys);
    if (scorer_ != Scorer::kExact) {
      summaries_.push_back(std::make_unique<KvSummaries>(machine, *text, head, scorer_));
    }
  }
}

void TreeSearch::Find(const QueryBlock& block, uint32_t kv_head, core::TreeWalk* walk) const {
  const core::Partition part = core::SplitPartition(block.last_pos(), block.kv_len, sizes_);
  const core::SearchRange range{part.sink_end, part.window_begin, block.first_pos + 1};
  device::QueryRows rows = block.Rows(kv_head, static_cast<uint32_t>(trees_.size()));
  rows.q += (rows.num_rows - 1) % rows_.query_stride * rows.row_stride;
  rows.row_stride *= rows_.query_stride;
  rows.num_rows = (rows.num_rows - 1) / rows_.query_stride + 1;
  walk->Begin(config_, range);
  if (form_ == core::SummaryForm::kInt8) {
    summaries_[kv_head]->RunTree(rows, walk);
  } else {
    RunPlain(rows, range, kv_head, walk);
  }
}

void TreeSearch::RunPlain(const device::QueryRows& rows,
                          const core::SearchRange& range,
                          uint32_t kv_head,
                          core::TreeWalk* walk) const {
  const std::vector<float> sampled = SampledRows(rows, head_dim_);
  const core::NodeScorer& scorer = *core::ScorerOf(scorer_);
  std::vector<float> scores;
  while (!walk->done()) {
    scores.assign(walk->pending().size() * kFanOut, 0.0F);
    float* group_scores = scores.data();
    for (const NodeGroup& group : walk->pending()) {
      for (uint32_t mask = group.mask; mask != 0; mask &= mask - 1) {
        const int i = std::countr_zero(mask);
        const core::NodeView node =
            trees_[kv_head].node(walk->level(), int64_t{group.index} * kFanOut + i);
        group_scores[i] = scorer.Score(node, {sampled, range.lo, range.hi});
      }
      group_scores += kFanOut;
    }
    walk->Accept(scores.data());
  }
}

double TreeSearch::PlainRecall(const core::RecallPlan& plan,
                               uint32_t kv_head,
                               core::SummaryForm form,
                               const core::RecallQuery& query) const {
  return core::PlainRecall(plan, trees_[kv_head], form, query);
}

}  // namespace hipattn::golden
