// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/search/beam_walk.h"

#include "base/int_math.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>

namespace hipattn::core {

std::vector<int64_t> BeamStarts(int64_t leaves, int64_t beam) {
  const auto below = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(leaves)));
  const int64_t step = CeilDiv(below, beam);
  std::vector<int64_t> starts;
  for (int64_t j = 0; j < beam; ++j) {
    starts.push_back(leaves * j / beam / step * step);
  }
  starts.push_back(leaves);
  return starts;
}

uint32_t BeamLevels(std::span<const int64_t> starts) {
  int64_t longest = 0;
  for (size_t j = 1; j < starts.size(); ++j) {
    longest = std::max(longest, starts[j] - starts[j - 1]);
  }
  const auto bits = static_cast<uint32_t>(std::bit_width(static_cast<uint64_t>(longest - 1)));
  return std::max(1U, bits);
}

void BeamWalk::Begin(const BeamConfig& config,
                     const Extension& extension,
                     const ProbeBlock& block) {
  config_ = config;
  extension_ = extension;
  block_ = block;
  level_ = 0;
  keys_scored_ = 0;
  const int64_t leaf = config.leaf_tokens;
  const int64_t first_leaf = block.lo / leaf;
  const int64_t num_leaves = block.hi > block.lo ? CeilDiv(block.hi, leaf) - first_leaf : 0;
  done_ = block.hi - block.lo <= int64_t{config.budget_tokens};
  if (done_) {
    leaves_.resize(static_cast<size_t>(num_leaves));
    std::iota(leaves_.begin(), leaves_.end(), static_cast<int32_t>(first_leaf));
    return;
  }
  const int64_t most = config.budget_tokens / config.block_tokens;
  beam_ = static_cast<uint32_t>(std::min(most, num_leaves));
  const std::vector<int64_t> starts = BeamStarts(num_leaves, beam_);
  num_levels_ = BeamLevels(starts);
  parts_.clear();
  for (size_t j = 0; j < beam_; ++j) {
    parts_.push_back({first_leaf + starts[j], starts[j + 1] - starts[j], Side::kLeft});
  }
  SplitParts();
}

void BeamWalk::SplitParts() {
  std::vector<Part> halves;
  for (const Part& part : parts_) {
    const int64_t left = part.length / 2;
    if (left > 0) {
      halves.push_back({part.start, left, Side::kLeft});
    }
    if (part.length > left) {
      halves.push_back({part.start + left, part.length - left, Side::kRight});
    }
  }
  parts_ = std::move(halves);
  const ScanFrame frame{FrameMode(extension_, block_.last_pos),
                        static_cast<int64_t>(parts_.size()),
                        ScanWindow(config_),
                        extension_.trained_tokens};
  batch_.Reset(block_, config_.rows.query_stride, frame);
  probe_ends_.clear();
  for (size_t i = 0; i < parts_.size(); ++i) {
    AddProbes(frame, i);
    probe_ends_.push_back(batch_.tokens.size());
  }
}

void BeamWalk::AddProbes(const ScanFrame& frame, size_t candidate) {
  const Part& part = parts_[candidate];
  const int64_t size = config_.block_tokens;
  const int64_t per_leaf = config_.leaf_tokens / size;
  const int64_t first = std::max(part.start * per_leaf, block_.lo / size);
  const int64_t end_block =
      std::min((part.start + part.length) * per_leaf, CeilDiv(block_.hi, size));
  int64_t probe = first;
  if (config_.representative == Representative::kCenter) {
    probe += (end_block - first) / 2;
  } else if (config_.representative == Representative::kLast) {
    probe = end_block - 1;
  }
  const int64_t stride = config_.key_stride;
  const int64_t end = std::min((probe + 1) * size, block_.hi);
  for (int64_t begin = std::max(probe * size, block_.lo); begin < end; begin += stride) {
    const int64_t token = (begin + std::min(begin + stride, end)) / 2;
    batch_.AddKey(frame, token, static_cast<int64_t>(candidate), part.side);
  }
}

void BeamWalk::Accept(std::span<const float> scores) {
  keys_scored_ += scores.size();
  keys_.clear();
  size_t begin = 0;
  for (const size_t end : probe_ends_) {
    float best = -std::numeric_limits<float>::infinity();
    for (; begin < end; ++begin) {
      best = std::max(best, scores[begin]);
    }
    keys_.push_back(OrderedKey(best));
  }
  ++level_;
  if (level_ < num_levels_) {
    KeepBest(beam_);
    SplitParts();
    return;
  }
  KeepBest(config_.budget_tokens / config_.leaf_tokens);
  leaves_.clear();
  for (const Part& part : parts_) {
    leaves_.push_back(static_cast<int32_t>(part.start));
  }
  done_ = true;
}

void BeamWalk::KeepBest(uint32_t keep) {
  if (parts_.size() <= keep) {
    return;
  }
  std::vector<int32_t> order(parts_.size());
  std::iota(order.begin(), order.end(), 0);
  std::vector<int32_t> kept;
  top_k_.Keep(keys_, order, keep, &kept);
  for (size_t i = 0; i < keep; ++i) {
    parts_[i] = parts_[static_cast<size_t>(kept[i])];
  }
  parts_.resize(keep);
}

}  // namespace hipattn::core
