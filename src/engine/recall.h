// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The share of softmax mass that decode steps attended: estimated from what the search left out, by
// key sketches and a few keys where there are sketches (docs/search.md, "Recall"), by summaries
// where there are none (SPEC D36). Made when it is asked for and kept until the layer searches
// again.
#ifndef HIPATTN_ENGINE_RECALL_H_
#define HIPATTN_ENGINE_RECALL_H_

#include "base/result.h"
#include "engine/engine.h"
#include "engine/select.h"
#include "engine/state.h"

namespace hipattn::engine {

// Of the last decode step of a layer.
Result<Recall> RecallOf(EngineState& engine,
                        SequenceState& sequence,
                        uint32_t layer_number,
                        uint32_t q_head);

// What a kv head's last search still lacks of a share that every q head should attend.
struct RecallNeed {
  bool reached = false;
  uint32_t blocks = 0;  // to select instead, of those that the tree kept; 0: they would not do
};

// Of the layer's last search; *read grows by what the estimate looks at, where there are sketches.
// REQUIRES: a search that gives estimates (tree or flat, cuboid-mean). Thread-safe for different
// heads.
Result<RecallNeed> NeedOf(EngineState& engine,
                          const SequenceState& sequence,
                          uint32_t layer_number,
                          uint32_t kv_head,
                          SearchRead* read);

}  // namespace hipattn::engine

#endif  // HIPATTN_ENGINE_RECALL_H_
