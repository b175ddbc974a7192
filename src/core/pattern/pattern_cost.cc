// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/pattern/pattern_cost.h"

#include <algorithm>

namespace hipattn::core {

double KernelFlops(uint64_t computed_tiles, uint32_t head_dim) {
  return 4.0 * head_dim * kRowTile * kRowTile * static_cast<double>(computed_tiles);
}

double EstimateFlops(const HeadPattern& pattern,
                     const PrefillShape& shape,
                     uint32_t head_dim,
                     uint32_t last_q) {
  switch (pattern.type) {
    case PatternType::kVerticalSlash:
      return 2.0 * std::min(last_q, shape.q_len) * shape.kv_len * head_dim;
    case PatternType::kBlockSparse: {
      const double pairs =
          static_cast<double>(NumRowTiles(shape)) * CeilDiv(shape.kv_len, kRowTile);
      const double pooled = static_cast<double>(shape.q_len) + shape.kv_len;
      return 2.0 * head_dim * pairs + head_dim * pooled;
    }
    case PatternType::kAShape:
      break;
  }
  return 0.0;
}

}  // namespace hipattn::core
