// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// When a decode step searches anew (SPEC D16, D34). Steps count from 0 after every prefill, extend,
// truncate or fork of the request.
#ifndef HIPATTN_CORE_REFRESH_H_
#define HIPATTN_CORE_REFRESH_H_

#include <cstdint>
#include <span>

namespace hipattn::core {

// The stage that step `step` begins at: 0 at step 0, else the first whose interval divides the
// step; intervals.size() = reuse the leaves (D16). REQUIRES: intervals that ValidateIntervals
// accepts.
uint32_t RefreshStage(std::span<const uint32_t> intervals, uint64_t step);

// Whether `layer` searches the tree at this step: layers take turns (D34). REQUIRES: interval > 0.
constexpr bool TreeRefreshes(uint32_t interval, uint32_t layer, uint64_t step) {
  return step == 0 || (step + layer) % interval == 0;
}

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_REFRESH_H_
