// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/search/staged_walk.h"

#include "base/int_math.h"

#include <algorithm>
#include <bit>
#include <limits>

namespace hipattn::core {
namespace {

// The keys probed in one step: the middles of the two halves of [left, right).
struct Probes {
  int64_t middle;
  int64_t a;
  int64_t b;
};

Probes ProbesOf(int64_t left, int64_t right) {
  const int64_t middle = (left + right) / 2;
  return {middle, (left + middle) / 2, (middle + right) / 2};
}

}  // namespace

uint32_t WalkSteps(uint32_t chunk_tokens) {
  const auto bits = static_cast<uint32_t>(std::bit_width(chunk_tokens));
  return std::max(2U, bits) - 1;
}

void StagedWalk::Begin(const StagedConfig& config,
                       const Extension& extension,
                       const ProbeBlock& block) {
  Resume(0, StagedLists{}, config, extension, block);
}

void StagedWalk::Resume(uint32_t first_stage,
                        const StagedLists& cached,
                        const StagedConfig& config,
                        const Extension& extension,
                        const ProbeBlock& block) {
  config_ = config;
  extension_ = extension;
  block_ = block;
  lists_ = cached;
  lists_.candidates.resize(config.stages.size());
  lists_.kept.resize(config.stages.size());
  keys_scored_ = 0;
  stage_ = first_stage;
  done_ = false;
  if (first_stage == 0) {
    const int64_t size = config.stages[0].chunk_tokens;
    lists_.candidates[0].clear();
    for (int64_t chunk = block.lo / size; chunk * size < block.hi && block.hi > block.lo; ++chunk) {
      lists_.candidates[0].push_back(static_cast<int32_t>(chunk));
    }
  }
  RunStages();
}

void StagedWalk::RunStages() {
  while (stage_ < config_.stages.size()) {
    if (BeginDescents()) {
      AskForProbes();
      return;
    }
    lists_.kept[stage_] = lists_.candidates[stage_];
    ListCandidates();
  }
  done_ = true;
}

void StagedWalk::ListCandidates() {
  const uint32_t before = stage_++;
  if (stage_ == config_.stages.size()) {
    return;
  }
  const int64_t size = config_.stages[stage_].chunk_tokens;
  const int64_t ratio = config_.stages[before].chunk_tokens / size;
  std::vector<int32_t>& chunks = lists_.candidates[stage_];
  chunks.clear();
  for (const int32_t kept : lists_.kept[before]) {
    for (int64_t chunk = kept * ratio; chunk < (kept + 1) * ratio; ++chunk) {
      if (chunk * size < block_.hi && (chunk + 1) * size > block_.lo) {
        chunks.push_back(static_cast<int32_t>(chunk));
      }
    }
  }
}

bool StagedWalk::BeginDescents() {
  const int64_t size = config_.stages[stage_].chunk_tokens;
  int64_t covered = 0;
  descents_.clear();
  for (const int32_t chunk : lists_.candidates[stage_]) {
    const int64_t left = std::max(chunk * size, block_.lo);
    const int64_t right = std::min((chunk + 1) * size, block_.hi);
    descents_.push_back({left, right, -std::numeric_limits<float>::infinity()});
    covered += right - left;
  }
  step_ = 0;
  return covered > int64_t{config_.stages[stage_].keep_tokens};
}

void StagedWalk::AskForProbes() {
  const ScanFrame frame{FrameMode(extension_, block_.last_pos),
                        static_cast<int64_t>(descents_.size()),
                        ScanWindow(config_),
                        extension_.trained_tokens};
  batch_.Reset(block_, config_.stages[stage_].query_stride, frame);
  for (size_t i = 0; i < descents_.size(); ++i) {
    const Probes probes = ProbesOf(descents_[i].left, descents_[i].right);
    batch_.AddKey(frame, probes.a, static_cast<int64_t>(i), Side::kLeft);
    batch_.AddKey(frame, probes.b, static_cast<int64_t>(i), Side::kRight);
  }
}

void StagedWalk::Accept(std::span<const float> scores) {
  keys_scored_ += scores.size();
  for (size_t i = 0; i < descents_.size(); ++i) {
    Descent& descent = descents_[i];
    const float score_a = scores[2 * i];
    const float score_b = scores[2 * i + 1];
    descent.best = std::max({descent.best, score_a, score_b});
    const Probes probes = ProbesOf(descent.left, descent.right);
    if (probes.a == probes.b) {
      continue;
    }
    if (score_a > score_b) {
      descent.right = probes.middle;
    } else {
      descent.left = probes.middle;  // a tie goes right
    }
  }
  if (++step_ < WalkSteps(config_.stages[stage_].chunk_tokens)) {
    AskForProbes();
    return;
  }
  CutStage();
  ListCandidates();
  RunStages();
}

void StagedWalk::CutStage() {
  const Stage& stage = config_.stages[stage_];
  const uint32_t keep = stage.keep_tokens / stage.chunk_tokens;
  const std::vector<int32_t>& chunks = lists_.candidates[stage_];
  std::vector<int32_t>& kept = lists_.kept[stage_];
  keys_.clear();
  for (const Descent& descent : descents_) {
    keys_.push_back(OrderedKey(descent.best));
  }
  top_k_.Keep(keys_, chunks, keep, &kept);
}

}  // namespace hipattn::core
