// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// From a source of tiles to a PrefillMask in two passes: the first says how much memory the mask
// takes and what it costs to compute, the second fills memory of the caller's. Nothing is allocated
// but one tile's ranges. A head with the 33 ranges per tile that 6096 slashes in 32 clusters leave
// takes 11 MB at a million tokens; 49 ranges per tile are 16 MB. No number of ranges is too many: a
// head that takes more than there is room for runs as several chunks of rows (shapes with smaller
// q_len and kv_len), whose tiles are those of the whole.
//
// Tiles are independent, and both passes are const on the source: heads may be built by as many
// threads.
#ifndef HIPATTN_CORE_MASK_MASK_BUILD_H_
#define HIPATTN_CORE_MASK_MASK_BUILD_H_

#include "base/prefill_mask.h"
#include "base/result.h"
#include "core/mask/tile_source.h"

#include <cstddef>
#include <cstdint>

namespace hipattn::core {

struct MaskSize {
  uint32_t num_tiles = 0;
  uint32_t num_ranges = 0;
  uint32_t num_columns = 0;
  // 64 x 64 tiles that a kernel computes (prefill SPEC 7.1): per row tile its ranges in 64s, joined
  // where they touch and rounded up, and its columns in 64s, rounded up.
  uint64_t computed_tiles = 0;

  uint64_t num_intervals() const { return uint64_t{num_ranges} + num_tiles; }
  // Of all four arrays.
  uint64_t bytes() const;
};

// kUnsupported: 2^32 ranges or more.
Result<MaskSize> MeasureMask(const TileSource& source);

// The mask, its arrays one behind the other in `memory`. REQUIRES: size.bytes() bytes that the host
// may write, aligned to 4; `size` from MeasureMask of the same source.
PrefillMask FillMask(const TileSource& source, const MaskSize& size, std::byte* memory);

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_MASK_MASK_BUILD_H_
