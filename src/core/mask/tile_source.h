// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What one q head attends, tile by tile, before it is a PrefillMask: each selector's choice is
// behind this interface, and the two passes of mask_build.h walk it. Sources keep what they were
// made from, never a mask.
#ifndef HIPATTN_CORE_MASK_TILE_SOURCE_H_
#define HIPATTN_CORE_MASK_TILE_SOURCE_H_

#include "base/prefill_mask.h"
#include "core/mask/prefill_shape.h"

#include <cstdint>
#include <span>
#include <vector>

namespace hipattn::core {

class TileSource {
 public:
  virtual ~TileSource() = default;
  TileSource(const TileSource&) = default;
  TileSource& operator=(const TileSource&) = default;
  TileSource(TileSource&&) = default;
  TileSource& operator=(TileSource&&) = default;

  const PrefillShape& shape() const { return shape_; }

  // The tile's ranges: ascending, disjoint, not empty, none behind TileLimit, neighbours that touch
  // differ in `windowed`. The same at every call. Clears *ranges first; may throw std::bad_alloc.
  virtual void Ranges(uint32_t tile, std::vector<MaskRange>* ranges) const = 0;

  // Single keys that all tiles share, ascending, each once.
  virtual std::span<const uint32_t> columns() const { return {}; }
  // Of windowed ranges.
  virtual uint32_t window() const { return 0; }

 protected:
  explicit TileSource(const PrefillShape& shape) : shape_(shape) {}

  // Puts a range behind those before, cut at `limit`; empty: nothing; joined with the last where
  // they touch and are of one kind. REQUIRES: it begins at or behind the last one's end.
  static void AddRange(MaskRange range, uint32_t limit, std::vector<MaskRange>* ranges) {
    range.end = range.end < limit ? range.end : limit;
    if (range.begin >= range.end) {
      return;
    }
    if (!ranges->empty() && ranges->back().end == range.begin &&
        ranges->back().windowed == range.windowed) {
      ranges->back().end = range.end;
      return;
    }
    ranges->push_back(range);
  }

 private:
  PrefillShape shape_;
};

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_MASK_TILE_SOURCE_H_
