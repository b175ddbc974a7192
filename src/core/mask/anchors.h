// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Anchors of a delta correction (Delta Attention, arXiv 2505.11254): rows that are attended densely
// as well, so that what sparse attention lacks there can be added to the rows behind them. They are
// the chunk's first row, and those at positions that are multiples of an interval; so chunks that
// are cut at such positions have the anchors of the whole.
#ifndef HIPATTN_CORE_MASK_ANCHORS_H_
#define HIPATTN_CORE_MASK_ANCHORS_H_

#include "core/mask/prefill_shape.h"

#include <cstdint>

namespace hipattn::core {

// Positions of the anchors of one chunk.
class Anchors {
 public:
  // interval 0: there are none.
  Anchors(uint32_t chunk_begin, uint32_t interval)
      : chunk_begin_(chunk_begin), interval_(interval) {}

  // The first anchor at `pos` or behind it; 2^31 or more where there is none. REQUIRES: pos at or
  // behind the chunk's begin.
  uint64_t Next(uint32_t pos) const;

  // Tiles of 64 x 64 that hold as many products as the anchors among the rows of `shape`, which is
  // a part of the chunk.
  uint64_t Tiles(const PrefillShape& shape) const;

 private:
  uint32_t chunk_begin_, interval_;
};

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_MASK_ANCHORS_H_
