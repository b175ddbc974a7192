// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Whether a head's pattern is worth it, or dense attention runs instead (prefill SPEC 7).
#ifndef HIPATTN_CORE_MASK_DENSITY_H_
#define HIPATTN_CORE_MASK_DENSITY_H_

#include "core/mask/prefill_shape.h"

#include <cstdint>

namespace hipattn::core {

enum class DenseReason {
  kNone,     // the pattern runs
  kLayer,    // the layer comes before starting_layer
  kDecode,   // one row
  kShort,    // kv_len <= dense_up_to
  kDensity,  // the pattern costs as much as dense attention, which is exact
};

// "", "layer", "decode", "short", "density".
const char* DenseReasonName(DenseReason reason);

struct DenseRules {
  int64_t starting_layer = -1;
  uint32_t dense_up_to = 0;
  double cost_ratio =
      1.0;  // cost of a sparse tile over that of a dense one; 0: density never decides
};

// Before there is an estimate: never kDensity.
DenseReason WhyDense(const PrefillShape& shape, int64_t layer, const DenseRules& rules);

// With what the mask computes. The first rule that holds, in the order of DenseReason.
DenseReason WhyDense(const PrefillShape& shape,
                     int64_t layer,
                     uint64_t computed_tiles,
                     const DenseRules& rules);

// computed_tiles over CausalTiles. Above 1 where tiles that no block of 64 bounds, and columns in
// part-filled 64s, come to more than the dense ones.
double Density(const PrefillShape& shape, uint64_t computed_tiles);

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_MASK_DENSITY_H_
