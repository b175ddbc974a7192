// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The int8 form of a summary vector (SPEC D30), plainly written.
#ifndef HIPATTN_CORE_SEARCH_QUANTIZE_H_
#define HIPATTN_CORE_SEARCH_QUANTIZE_H_

#include "core/search/scorer.h"

#include <cstdint>
#include <span>
#include <vector>

namespace hipattn::core {

// Stands for scale * steps.
struct QuantizedVector {
  float scale = 0.0F;
  std::vector<int8_t> steps;
};

// scale = max |x| / 127, steps = x / scale rounded half to even, in IEEE f32; all zero: 0 and 0.
QuantizedVector Quantize(std::span<const float> x);

// Best of scale_m (q.m8) + scale_w (|q|.w8) over rows [rows][head_dim]; w may be empty.
float ScoreQuantized(const QuantizedVector& m,
                     const QuantizedVector& w,
                     std::span<const float> rows);

// The float vectors that the int8 form of `vectors` stands for.
NodeVectors ThroughInt8(const NodeVectors& vectors);

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_SEARCH_QUANTIZE_H_
