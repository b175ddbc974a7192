// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The numbering of a row tile's panels, by which sparse_prefill is cut into parts.
#ifndef HIPATTN_DEVICE_RANGE_PANELS_H_
#define HIPATTN_DEVICE_RANGE_PANELS_H_

#include "base/prefill_mask.h"
#include "device/params.h"

#include <cstdint>

namespace hipattn::device {

// Calls fn(first, last) with the panels of 16 keys that a row tile's ranges name, in the order of
// the ranges, as runs of neighbours. A panel that two neighbouring ranges share counts once, unless
// one of them is windowed and the other is not. Runs until fn returns false.
template <typename Fn>
void ForEachPanelRun(const PrefillMask& mask, uint32_t tile, const Fn& fn) {
  uint32_t next = 0;  // the panel behind the last run
  for (uint32_t i = mask.range_ptr[tile]; i < mask.range_ptr[tile + 1]; ++i) {
    const MaskRange& range = mask.ranges[i];
    if (i == mask.range_ptr[tile] || range.windowed != mask.ranges[i - 1].windowed) {
      next = 0;
    }
    if (range.begin >= range.end) {
      continue;
    }
    uint32_t first = range.begin / kPanelTokens;
    first = first < next ? next : first;
    const uint32_t last = (range.end - 1) / kPanelTokens;
    if (first <= last && !fn(first, last)) {
      return;
    }
    next = last + 1;
  }
}

inline uint64_t NumRangePanels(const PrefillMask& mask, uint32_t tile) {
  uint64_t count = 0;
  ForEachPanelRun(mask, tile, [&](uint32_t first, uint32_t last) {
    count += last - first + 1;
    return true;
  });
  return count;
}

}  // namespace hipattn::device

#endif  // HIPATTN_DEVICE_RANGE_PANELS_H_
