// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Which kv heads the tree loses. In a few heads neighbouring keys have nothing in common, so that
// no summary of a neighbourhood can name the block that matters, while its sketch does. An audit
// compares the two for one query: AuditLoss is the softmax mass that a scan of all sketches finds
// and the tree does not. AuditTable keeps the mean loss of every head of a sequence, and decides
// from it which heads are scanned (docs/search.md, "Audit").
#ifndef HIPATTN_CORE_SEARCH_AUDIT_H_
#define HIPATTN_CORE_SEARCH_AUDIT_H_

#include "core/search/top_k.h"

#include <cstdint>
#include <span>
#include <vector>

namespace hipattn::core {

// Tokens that the tree's candidates and a scan are compared in: the smallest budget in use.
inline constexpr uint32_t kAuditTokens = 256;

// Texts are audited while the tree keeps no more than one of so many blocks. Below it loses little,
// and what it loses says little about a longer text.
inline constexpr uint32_t kAuditLeastShare = 2;

// Mean losses from which a head is scanned, and below which it goes back to the tree. Between them
// it stays as it is.
inline constexpr double kEnterLoss = 0.005;
inline constexpr double kLeaveLoss = 0.0025;

// Samples before a head's loss counts: one query proves nothing.
inline constexpr uint32_t kLeastSamples = 4;
// The mean is over about so many of the last samples.
inline constexpr uint32_t kMeanSamples = 256;

// Scores of one query row of one kv head. A score is the log2 of a block's share of the softmax's
// denominator.
struct AuditScores {
  const float* scores;            // [group][num_blocks]
  const float* outside;           // [group] the same of what is attended without a search
  std::span<const int32_t> kept;  // places of the blocks that the tree kept, ascending
  uint32_t group;
  uint32_t num_blocks;
  uint32_t best;  // blocks that each side may choose
};

// Holds scratch memory. One thread at a time.
class AuditLoss {
 public:
  // The largest over the group's q heads of: mass in the `best` blocks of all, less that in the
  // `best` of those kept; 0 to 1. Both choose as a group does: largest score of any head first
  // (SPEC D9, D10). REQUIRES: 0 < best <= kept.size() < num_blocks.
  double Of(const AuditScores& audit);

 private:
  std::vector<int32_t> keys_, places_, kept_keys_;
  std::vector<int32_t> best_of_all_, best_of_kept_;
  TopK top_k_;
};

// What is known of one kv head.
struct HeadAudit {
  double loss = 0.0;     // mean of its samples
  uint32_t samples = 0;  // at most kMeanSamples are remembered
  bool scanned = false;
  bool waiting = false;  // would be scanned, but that others are worse and no more may be
  bool operator==(const HeadAudit&) const = default;
};

// The heads of one sequence. Losses and modes are apart: samples only change losses, Decide makes
// modes of them. So modes do not depend on where a prompt was cut into chunks.
class AuditTable {
 public:
  AuditTable() = default;
  AuditTable(uint32_t num_layers, uint32_t heads_per_layer);

  uint32_t heads_per_layer() const { return heads_per_layer_; }
  std::span<const HeadAudit> heads() const { return heads_; }  // by layer, then head
  const HeadAudit& at(uint32_t layer, uint32_t head) const;
  void Set(uint32_t layer, uint32_t head, const HeadAudit& audit);

  void AddSample(uint32_t layer, uint32_t head, double loss);

  // Sets the modes of `layer`, or of all. At most max_scanned heads of all layers together are
  // scanned, those that lose most; of equal losses the lower layer, then the lower head.
  void DecideLayer(uint32_t layer, uint32_t max_scanned);
  void DecideAll(uint32_t max_scanned);

  // What a call may change of a layer, to be taken back when it fails.
  void Save(uint32_t layer);
  void Restore(uint32_t layer);

  struct Counts {
    int64_t scanned = 0;
    int64_t waiting = 0;
  };
  Counts Count() const;
  // Growth since Save.
  Counts Change(uint32_t layer) const;

 private:
  void Decide(size_t first, size_t count, uint32_t max_scanned);

  uint32_t heads_per_layer_ = 0;
  std::vector<HeadAudit> heads_;
  std::vector<HeadAudit> saved_;
  std::vector<uint32_t> wanting_;
};

// Whether the head with this number, of `num_heads` in all layers, is audited in the decode step at
// `pos`: every `interval` steps, evenly spread over the heads. interval 0: max(64, length / 400),
// a multiple of 64.
bool AuditIsDue(uint64_t pos, uint32_t interval, uint64_t head, uint64_t num_heads);

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_SEARCH_AUDIT_H_
