// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The search over one layer: every candidate on every head, against dense attention, and the choice
// (MInference, arXiv 2407.02490, algorithm 1; Qwen2.5-1M, arXiv 2501.15383, for --refine).
//
// A candidate whose mask the library took for not worth it ran dense: its recall is 1, its cost
// dense attention's. Of a longer text that says nothing, so it is not chosen: dense attention is,
// which is a candidate itself.
#ifndef HIPATTN_BENCH_SEARCH_LAYER_SEARCH_H_
#define HIPATTN_BENCH_SEARCH_LAYER_SEARCH_H_

#include "core/pattern/candidate_score.h"
#include "head_attention.h"
#include "search_options.h"
#include "tile_costs.h"

#include <functional>
#include <vector>

namespace pattern_search {

struct TrialScore {
  hipattn::core::CandidateScore score;  // cost: share of dense attention's
  double density = 0;                   // share of dense attention's tiles
  bool ran_dense = false;
};

struct HeadChoice {
  hipattn::core::HeadPattern pattern;
  TrialScore trial;                // of the pattern
  std::vector<TrialScore> trials;  // of the candidates, in their order
  uint32_t refinements = 0;        // how often lines were added
};

// The place of the candidate to take. REQUIRES: kDensePattern is among the candidates.
size_t ChooseTrial(const SearchOptions& options, const std::vector<TrialScore>& trials);

Result<HeadChoice> SearchHead(const SearchOptions& options,
                              const TileCosts& costs,
                              const HeadInput& input,
                              HeadAttention* attention);

// Head `head`'s rows of what a layer attends, all tokens at once.
HeadInput InputOf(const hipattn_attend_args_t& call,
                  const hipattn_run::LlamaConfig& config,
                  uint32_t head);

// All q heads of the layer that `call` attends; attentions.size() at a time. head_done is called
// after each, by one thread at a time.
Result<std::vector<HeadChoice>> SearchLayer(const SearchOptions& options,
                                            const hipattn_run::LlamaConfig& config,
                                            const TileCosts& costs,
                                            const hipattn_attend_args_t& call,
                                            std::vector<HeadAttention>* attentions,
                                            const std::function<void()>& head_done);

}  // namespace pattern_search

#endif  // HIPATTN_BENCH_SEARCH_LAYER_SEARCH_H_
