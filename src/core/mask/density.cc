// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/mask/density.h"

namespace hipattn::core {

const char* DenseReasonName(DenseReason reason) {
  switch (reason) {
    case DenseReason::kLayer:
      return "layer";
    case DenseReason::kDecode:
      return "decode";
    case DenseReason::kShort:
      return "short";
    case DenseReason::kDensity:
      return "density";
    case DenseReason::kNone:
      break;
  }
  return "";
}

DenseReason WhyDense(const PrefillShape& shape, int64_t layer, const DenseRules& rules) {
  if (layer < rules.starting_layer) {
    return DenseReason::kLayer;
  }
  if (shape.q_len == 1) {
    return DenseReason::kDecode;
  }
  return shape.kv_len <= rules.dense_up_to ? DenseReason::kShort : DenseReason::kNone;
}

DenseReason WhyDense(const PrefillShape& shape,
                     int64_t layer,
                     uint64_t computed_tiles,
                     const DenseRules& rules) {
  const DenseReason reason = WhyDense(shape, layer, rules);
  if (reason != DenseReason::kNone) {
    return reason;
  }
  const double cost = static_cast<double>(computed_tiles) * rules.cost_ratio;
  return cost >= static_cast<double>(CausalTiles(shape)) ? DenseReason::kDensity
                                                         : DenseReason::kNone;
}

double Density(const PrefillShape& shape, uint64_t computed_tiles) {
  return static_cast<double>(computed_tiles) / static_cast<double>(CausalTiles(shape));
}

}  // namespace hipattn::core
