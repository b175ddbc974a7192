// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// FlexPrefill (arXiv 2502.20766), whose heads need no pattern file: how concentrated the mass of
// the last rows is says how many lines a head attends, and whether mean queries and keys predict
// that mass says whether blocks are chosen beside them. Lines are whole blocks here, so the result
// is a list of key blocks per query block.
//
// Where a chunk begins inside a key block, the block that a query block's last row lies in counts
// as its diagonal, and both that its rows lie in are kept.
#ifndef HIPATTN_CORE_PATTERN_FLEX_SELECT_H_
#define HIPATTN_CORE_PATTERN_FLEX_SELECT_H_

#include "core/mask/block_lists.h"
#include "core/mask/prefill_shape.h"
#include "core/pattern/top_scores.h"

#include <cstdint>
#include <span>
#include <vector>

namespace hipattn::core {

struct FlexOptions {
  uint32_t block_tokens = 64;  // of query and of key blocks, a multiple of 64; the paper: 128
  double gamma = 0.9;          // share of the mass that is kept; the paper compares at 0.95
  double tau = 0.1;            // divergence below which blocks are chosen, too
  // Of each kind of line, the forced ones among them: the paper's 1024 tokens. The published
  // program's single block is the forced one: what else has the mass would be left out.
  uint32_t min_blocks = 16;
  uint32_t max_blocks = UINT32_MAX;
};

// Of one head, from the ops estimate_lines and pool_blocks.
struct FlexEstimate {
  // [kv_len] sums of the softmax over the last probe_rows rows, by key and by distance.
  std::span<const float> vertical, slash;
  uint32_t probe_rows;
  // [key blocks] scale * mean of the probe rows . mean of the block's keys.
  std::span<const float> probe_scores;
};

struct FlexBudget {
  uint32_t vertical_blocks;
  uint32_t slash_blocks;
  bool query_aware;   // blocks are chosen beside the lines; SelectFlex needs their scores
  double divergence;  // square root of Jensen and Shannon's, in nats
};

// The lines of a head, the same for all its query blocks.
struct FlexLines {
  std::vector<int32_t> columns, offsets;  // blocks from the first and blocks behind the diagonal
};

// Texts of up to two blocks keep everything.
FlexBudget PlanFlex(const PrefillShape& shape,
                    const FlexEstimate& estimate,
                    const FlexOptions& options);

// The budget's blocks of most mass, the first and the diagonal among them.
FlexLines PickFlexLines(const FlexEstimate& estimate,
                        const FlexBudget& budget,
                        const FlexOptions& options,
                        TopScores* scratch);

// The blocks of the lines, and where there are block_scores the best blocks beside them.
// block_scores: [query blocks][key blocks] scale * mean query . mean key, of which a query block's
// up to its diagonal are read (fewer than 2^31); empty unless budget.query_aware. Block 0 and the
// diagonal are kept.
BlockLists SelectFlex(const PrefillShape& shape,
                      const FlexLines& lines,
                      std::span<const float> block_scores,
                      const FlexOptions& options,
                      TopScores* scratch);

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_PATTERN_FLEX_SELECT_H_
