// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Every op that reads or writes blocks is launched here. Where everything is resident, that is all.
// With tiers behind the device, the slots that jobs name are ids of the block cache: the jobs are
// cut by position into parts small enough for the least budget, as many parts as have room together
// are fetched and pinned, and one launch computes them. docs/offload.md has the rule of the cuts
// that makes the bits those of the uncut jobs.
#ifndef HIPATTN_ENGINE_BLOCK_OPS_H_
#define HIPATTN_ENGINE_BLOCK_OPS_H_

#include "engine/state.h"

namespace hipattn::engine {

// Each waits for the op. params.pool need not be set. One at a time per engine where there are
// tiers.
Status RunOverBlocks(EngineState& engine, device::AppendParams params);
Status RunOverBlocks(EngineState& engine, device::SummarizeParams params);
Status RunOverBlocks(EngineState& engine, device::WriteSketchParams params);
Status RunOverBlocks(EngineState& engine, device::ScoreKeysParams params);
Status RunOverBlocks(EngineState& engine,
                     const device::ScoreKeysJob& job,  // the only one; params.jobs is not read
                     device::ScoreKeysParams params);
Status RunOverBlocks(EngineState& engine, device::DecodeParams params);
Status RunOverBlocks(EngineState& engine, device::RotatedParams params);
Status RunOverBlocks(EngineState& engine, device::PrefillParams params);
Status RunOverBlocks(EngineState& engine, device::SparsePrefillParams params);
Status RunOverBlocks(EngineState& engine, device::PackParams params);
Status RunOverBlocks(EngineState& engine, device::LinesParams params);
Status RunOverBlocks(EngineState& engine, device::PoolParams params);
Status RunOverBlocks(EngineState& engine, device::AntidiagonalParams params);

// Slots that a text of num_tokens needs at once, whatever is done with it.
uint32_t FloorSlots(const EngineOptions& engine,
                    const AttentionOptions& attention,
                    uint64_t num_tokens);

// Sees to it that a sequence of num_tokens has them. Nothing to do where everything is resident.
Status RaiseFloor(EngineState& engine, const SequenceState& sequence, uint64_t num_tokens);

// Sinks and window of a text that has grown from `before` to `after` tokens are evicted last. Takes
// time with the tokens that came.
void KeepEnds(EngineState& engine,
              const SequenceState& sequence,
              const HeadStore& store,
              uint64_t before,
              uint64_t after);

// Whether searches of this sequence read keys, and so run one head after another where there are
// tiers.
inline bool SearchReadsKeys(const AttentionOptions& options) {
  return !options.searches_tree() || options.scorer_kind() == Scorer::kExact;
}

}  // namespace hipattn::engine

#endif  // HIPATTN_ENGINE_BLOCK_OPS_H_
