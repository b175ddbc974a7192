// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The share of softmax mass that decode steps attended: estimated from the summaries of what the
// search left out (SPEC D36), made when it is asked for and kept until the layer searches again.
#ifndef HIPATTN_ENGINE_RECALL_H_
#define HIPATTN_ENGINE_RECALL_H_

#include "base/result.h"
#include "engine/engine.h"
#include "engine/state.h"

namespace hipattn::engine {

// Of the last decode step of a layer.
Result<Recall> RecallOf(EngineState& engine,
                        SequenceState& sequence,
                        uint32_t layer_number,
                        uint32_t q_head);

// The least estimate among a kv head's q heads, of the layer's last search. REQUIRES: a search that
// gives estimates (tree or flat, cuboid-mean).
Result<float> LeastEstimate(EngineState& engine, LayerState& layer, uint32_t kv_head);

}  // namespace hipattn::engine

#endif  // HIPATTN_ENGINE_RECALL_H_
