// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// StagedWalk: InfiniteHiP's search (arXiv 2502.08910, Alg. 1-3; SPEC section 4): every stage scores
// its chunks one by one, each by a short descent to its best key, cuts once, and hands what stays
// to the next stage in smaller pieces.
#ifndef HIPATTN_CORE_SEARCH_STAGED_WALK_H_
#define HIPATTN_CORE_SEARCH_STAGED_WALK_H_

#include "core/search/config.h"
#include "core/search/probe_walk.h"
#include "core/search/top_k.h"

#include <cstdint>
#include <span>
#include <vector>

namespace hipattn::core {

// Probing steps of one chunk (D15): log2, at least 1.
uint32_t WalkSteps(uint32_t chunk_tokens);

// Chunk numbers (token / chunk_tokens of the stage) that entered and left each stage, ascending:
// what is kept of a search to begin a later one at a later stage (D17).
struct StagedLists {
  std::vector<std::vector<int32_t>> candidates;
  std::vector<std::vector<int32_t>> kept;
};

// Reusable; one thread at a time.
class StagedWalk : public ProbeWalk {
 public:
  // REQUIRES: a config that ValidateStaged accepts.
  void Begin(const StagedConfig& config, const Extension& extension, const ProbeBlock& block);

  // Begins at first_stage with the candidates of an earlier search with the same config; block.lo
  // and block.hi are those of that search (D18). first_stage = number of stages repeats its
  // selection.
  void Resume(uint32_t first_stage,
              const StagedLists& cached,
              const StagedConfig& config,
              const Extension& extension,
              const ProbeBlock& block);

  bool done() const override { return done_; }
  const ProbeBatch& pending() const override { return batch_; }
  void Accept(std::span<const float> scores) override;
  std::span<const int32_t> leaves() const override { return lists_.kept.back(); }
  uint32_t leaf_tokens() const override { return config_.stages.back().chunk_tokens; }
  uint64_t keys_scored() const override { return keys_scored_; }
  // REQUIRES: done().
  const StagedLists& lists() const { return lists_; }

 private:
  // Where the descent inside one chunk stands: the best key is looked for in [left, right).
  struct Descent {
    int64_t left;
    int64_t right;
    float best;
  };

  // Runs stages from stage_ on, until one needs scores or all are done.
  void RunStages();
  void ListCandidates();
  // Begins the descents of stage_; false when its keep covers all chunks, so nothing is scored
  // (D6).
  bool BeginDescents();
  void AskForProbes();
  void CutStage();

  StagedConfig config_;
  Extension extension_;
  ProbeBlock block_;
  ProbeBatch batch_;
  bool done_ = true;
  uint32_t stage_ = 0;
  uint32_t step_ = 0;
  uint64_t keys_scored_ = 0;
  StagedLists lists_;
  std::vector<Descent> descents_;
  std::vector<int32_t> keys_;
  TopK top_k_;
};

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_SEARCH_STAGED_WALK_H_
