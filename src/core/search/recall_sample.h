// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// RecallSample: how much softmax mass a search with key sketches left out of one query row's
// attention (docs/search.md, "Recall"). Sketches tell where that mass lies, but not how much it is:
// they smooth keys, so that a sum of exponentials comes out too small. So a few blocks, drawn in
// proportion to what their sketches say, are looked at in full and correct the rest.
//
//   sample.List(blocks, walk.tree().blocks(), walk.blocks());
//   score sample.blocks() by their sketches, for each q head;  sample.Draw(scores, lse);
//   sum exp(score) over the keys of sample.drawn();            sample.Accept(log_masses);
//   use sample.share(g), sample.least_share(g), sample.BlocksFor(share);
#ifndef HIPATTN_CORE_SEARCH_RECALL_SAMPLE_H_
#define HIPATTN_CORE_SEARCH_RECALL_SAMPLE_H_

#include "core/search/tree_walk.h"

#include <cstdint>
#include <span>
#include <vector>

namespace hipattn::core {

// Of the blocks that the tree did not keep, so many stand for all.
inline constexpr uint32_t kDiscardedSampled = 64;
// Draws of blocks to be looked at in full; a block may be drawn several times.
inline constexpr uint32_t kRecallDraws = 32;

// Reusable; one thread at a time.
class RecallSample {
 public:
  // `blocks`: all that the search could choose from; `kept` by the tree; `attended` of those. Both
  // ascending.
  void List(const NodeRange& blocks,
            std::span<const int32_t> kept,
            std::span<const int32_t> attended);

  // What to score by sketches, ascending; empty: nothing was left out, the shares are 1.
  std::span<const int32_t> blocks() const { return blocks_; }

  // scores [lse.size()][blocks().size()]: log2 of each block's mass as its sketches have it; lse:
  // natural, of what was attended; one per q head.
  void Draw(std::span<const float> scores, std::span<const float> lse);

  // What to look at in full, ascending, each once.
  std::span<const int32_t> drawn() const { return drawn_; }

  // log_masses [lse.size()][drawn().size()]: natural log of the sum of exp(score) over the keys of
  // each block that the row could have chosen.
  void Accept(std::span<const double> log_masses);

  // Estimated share of the mass that was attended, and what it is if the estimate of the rest is
  // too low by its standard error.
  double share(uint32_t q_head) const { return shares_[q_head]; }
  double least_share(uint32_t q_head) const { return least_shares_[q_head]; }

  // How many blocks, by (score descending, block ascending), the search would have to select of
  // those that the tree kept, so that every q head attends `share` of its mass, by the greater
  // estimate of what was left out. 0: all of them would not do.
  uint32_t BlocksFor(double share) const;

 private:
  struct Left {
    double sketched = 0;  // mass by the sketches; all masses relative to exp2(top_)
    double mass = 0;      // estimate
    double error = 0;     // its standard error
  };
  Left Estimate(uint32_t q_head, std::span<const double> log_masses) const;
  double Sketched(uint32_t q_head, size_t i) const;

  uint32_t num_attended_ = 0;
  std::vector<int32_t> blocks_;
  std::vector<double> weights_;  // blocks that each of blocks_ stands for
  std::vector<bool> kept_;       // by the tree

  std::vector<float> scores_;          // [q head][block]
  std::vector<double> tops_;           // [q head] greatest log2 mass
  std::vector<double> attended_mass_;  // [q head]
  std::vector<double> chances_;        // [block] how likely it is drawn, times all_chances_
  double all_chances_ = 0;
  std::vector<int32_t> drawn_;
  std::vector<uint32_t> places_;  // of drawn_ in blocks_
  std::vector<uint32_t> draws_;   // how often

  std::vector<Left> left_;
  std::vector<double> shares_, least_shares_;
};

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_SEARCH_RECALL_SAMPLE_H_
