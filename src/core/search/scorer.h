// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// NodeScorer: what of a node's keys stands for it in a search (SPEC D28), plainly written. A scorer
// with summaries gives two float32 vectors m and w per node, score = q.m + |q|.w, best over all
// query rows; the op score_nodes computes the same from their int8 form (D30, see quantize.h). One
// file per scorer: <name>_scorer.cc.
#ifndef HIPATTN_CORE_SEARCH_SCORER_H_
#define HIPATTN_CORE_SEARCH_SCORER_H_

#include "base/tree.h"

#include <cstdint>
#include <span>
#include <vector>

namespace hipattn::core {

// A complete node. All keys have head_dim floats, one after another.
struct NodeView {
  std::span<const float> low;   // [head_dim] elementwise over all tokens of the node, as are
  std::span<const float> high;  // high and mean
  std::span<const float> mean;
  std::span<const float> keys;  // [tokens of the node][head_dim]
  int64_t first_token = 0;      // position of keys[0]
};

struct NodeVectors {
  std::vector<float> m;  // [head_dim]
  std::vector<float> w;  // [head_dim]; empty where it is zero
};

// What a node is scored against: rows of the sampled queries, and the searchable range, which only
// the exact scorer looks at.
struct NodeQuery {
  std::span<const float> rows;  // [rows][head_dim]
  int64_t lo = 0;
  int64_t hi = 0;
};

class NodeScorer {
 public:
  NodeScorer() = default;
  NodeScorer(const NodeScorer&) = delete;
  NodeScorer& operator=(const NodeScorer&) = delete;
  virtual ~NodeScorer() = default;

  // Best raw score (D9) over all rows.
  virtual float Score(const NodeView& node, const NodeQuery& query) const = 0;
};

class SummaryScorer : public NodeScorer {
 public:
  virtual NodeVectors Vectors(const NodeView& node) const = 0;
  float Score(const NodeView& node, const NodeQuery& query) const final;
};

// Never null for a valid scorer; lives for ever.
const NodeScorer* ScorerOf(Scorer scorer);
// Null for Scorer::kExact.
const SummaryScorer* SummaryScorerOf(Scorer scorer);

// Best of q.m + |q|.w over rows [rows][head_dim].
float ScoreVectors(const NodeVectors& vectors, std::span<const float> rows);

// The scorers.
const SummaryScorer& RepresentativeScorer();
const SummaryScorer& FirstScorer();
const SummaryScorer& LastScorer();
const SummaryScorer& MeanScorer();
const SummaryScorer& BoundsScorer();
const SummaryScorer& CuboidMeanScorer();
const NodeScorer& ExactScorer();

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_SEARCH_SCORER_H_
