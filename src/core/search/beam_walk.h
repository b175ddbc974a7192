// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// BeamWalk: HiP's search (arXiv 2406.09827; SPEC section 3): a beam over a binary tree of leaves in
// which one probe block stands for a whole part, cut to the best parts of all at every level.
#ifndef HIPATTN_CORE_SEARCH_BEAM_WALK_H_
#define HIPATTN_CORE_SEARCH_BEAM_WALK_H_

#include "core/search/config.h"
#include "core/search/probe_walk.h"
#include "core/search/top_k.h"

#include <cstdint>
#include <span>
#include <vector>

namespace hipattn::core {

// The first beam (D12) over leaves [0, leaves): start[j], start[beam] = leaves. REQUIRES: 0 < beam
// <= leaves.
std::vector<int64_t> BeamStarts(int64_t leaves, int64_t beam);

// Levels a beam with these starts takes (D14).
uint32_t BeamLevels(std::span<const int64_t> starts);

// Reusable; one thread at a time.
class BeamWalk : public ProbeWalk {
 public:
  // REQUIRES: a config that ValidateBeam accepts.
  void Begin(const BeamConfig& config, const Extension& extension, const ProbeBlock& block);

  bool done() const override { return done_; }
  const ProbeBatch& pending() const override { return batch_; }
  void Accept(std::span<const float> scores) override;
  std::span<const int32_t> leaves() const override { return leaves_; }
  uint32_t leaf_tokens() const override { return config_.leaf_tokens; }
  uint64_t keys_scored() const override { return keys_scored_; }
  // Levels walked so far.
  uint32_t levels() const { return level_; }

 private:
  // Leaves [start, start + length), one half of a part of the level before.
  struct Part {
    int64_t start;
    int64_t length;
    Side side;
  };

  // Halves all parts and asks for the keys of their probe blocks (D13).
  void SplitParts();
  void AddProbes(const ScanFrame& frame, size_t candidate);
  void KeepBest(uint32_t keep);

  BeamConfig config_;
  Extension extension_;
  ProbeBlock block_;
  ProbeBatch batch_;
  bool done_ = true;
  uint32_t beam_ = 0;
  uint32_t level_ = 0;
  uint32_t num_levels_ = 0;
  uint64_t keys_scored_ = 0;
  std::vector<Part> parts_;
  std::vector<size_t> probe_ends_;  // keys of part i: [probe_ends_[i - 1], probe_ends_[i])
  std::vector<int32_t> keys_;
  std::vector<int32_t> leaves_;
  TopK top_k_;
};

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_SEARCH_BEAM_WALK_H_
