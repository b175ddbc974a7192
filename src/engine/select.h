// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Selecting: core's searches, given scores by the device's ops. One call searches for one query
// block and kv head and leaves the selection in its HeadState. Thread-safe for different heads.
#ifndef HIPATTN_ENGINE_SELECT_H_
#define HIPATTN_ENGINE_SELECT_H_

#include "core/partition.h"
#include "engine/index_ops.h"
#include "engine/state.h"

#include <cstdint>

namespace hipattn::engine {

// The rows of one query block; row r's q of this kv head's group begins at q + r * row_stride.
struct BlockQuery {
  const float* q;
  const float* host_q;  // the same on the host, where a part of the index is; else nullptr
  uint64_t row_stride;  // floats
  uint64_t first_pos;
  uint32_t num_rows;
  core::Partition last_row;  // of the block's last row
};

// Rows of a prefill's query block that take part in its search: every 4th, as in InfiniteHiP's
// presets (arXiv 2502.08910, table 1).
inline constexpr uint32_t kPrefillQueryStride = 4;

// InfiniteHiP's refresh intervals of the three stages (arXiv 2502.08910, section 4).
inline constexpr uint32_t kStagedIntervals[] = {16, 8, 4};

// Configs of the probing searches for these options.
core::BeamConfig BeamConfigOf(const AttentionOptions& options, bool prefill);
core::StagedConfig StagedConfigOf(const AttentionOptions& options, bool prefill);

// What searches looked at; grows.
struct SearchRead {
  uint64_t keys = 0;   // keys, summaries, tokens of scored sketches
  uint64_t bytes = 0;  // of those
};

struct SelectContext {
  EngineState& engine;
  const SequenceState& sequence;
  uint32_t layer;
  bool prefill;
  bool scans;  // the kv head's sketches are all scored; where there are none the tree decides
};

// Of one scored node.
uint64_t SummaryBytes(const EngineState& engine, const SequenceState& sequence);

// Scores what `tree` asks for by the int8 summaries of `store` -> scores. Work memory: groups.
Status ScoreNodes(EngineState& engine,
                  const SequenceState& sequence,
                  const HeadStore& store,
                  const SearchRows& rows,
                  const core::TreeWalk& tree,
                  Scratch<NodeGroup>* groups,
                  Scratch<float>* scores);

// A search from the start, for budget_tokens. Where the head is scanned, or min_recall asks for
// more than the tree keeps, the sketches choose among all blocks.
Status Select(const SelectContext& context,
              const BlockQuery& query,
              uint32_t budget_tokens,
              HeadState* head,
              SearchRead* read);

// Chooses so many blocks by the sketch scores of the last search, which the head still holds.
// REQUIRES: it scored sketches; blocks is not more than the tree kept.
void Reselect(const SelectContext& context, uint32_t blocks, HeadState* head);

// STAGED: the later stages from first_stage on, over an earlier search's candidates (D17).
Status ResumeStaged(const SelectContext& context,
                    const BlockQuery& query,
                    uint32_t first_stage,
                    HeadState* head,
                    SearchRead* read);

}  // namespace hipattn::engine

#endif  // HIPATTN_ENGINE_SELECT_H_
