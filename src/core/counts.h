// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// How much a search looks at, known beforehand (SPEC D19, D33): for tests, plans and statistics.
#ifndef HIPATTN_CORE_COUNTS_H_
#define HIPATTN_CORE_COUNTS_H_

#include "core/search/config.h"

#include <cstdint>
#include <span>

namespace hipattn::core {

// Of one search over [lo, hi) per kv head. Exact when lo and hi are multiples of the first chunk
// size, else upper bounds.
struct StagedCount {
  uint64_t keys_scored = 0;
  uint64_t distinct_keys = 0;         // at most
  uint64_t keys_with_extra_step = 0;  // what InfiniteHiP's released code would score
};
StagedCount CountStaged(std::span<const Stage> stages, int64_t lo, int64_t hi);

// Levels are exact; keys are an upper bound, exact when lo and hi are leaf multiples and the number
// of leaves is the beam times a power of two.
struct BeamCount {
  uint32_t levels = 0;
  uint64_t keys_scored = 0;
};
BeamCount CountBeam(const BeamConfig& config, int64_t lo, int64_t hi);

// start_level -1: nothing is scored. The number is exact when no kept node is cut by lo or hi.
struct TreeCount {
  int start_level = -1;
  uint64_t summaries_at_most = 0;
};
TreeCount CountTree(const TreeConfig& config, const SearchRange& range);

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_COUNTS_H_
