// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Rotary position embedding (arXiv 2104.09864; SPEC D20): pair i of the leading dimensions turns by
// position * inv_freq[i].
#ifndef HIPATTN_CORE_ROPE_H_
#define HIPATTN_CORE_ROPE_H_

#include <cstdint>
#include <span>
#include <vector>

namespace hipattn::core {

// The numbers are those of hipattn.h.
enum class RopeLayout : uint32_t {
  kNone = 0,
  kHalf = 1,         // pair i is dimensions (i, i + dim / 2)
  kInterleaved = 2,  // pair i is dimensions (2i, 2i + 1)
};

// theta^(-2i / dim) for the dim / 2 pairs.
std::vector<double> RopeInvFreq(uint32_t dim, double theta);

// Turns x as a query or key at `position`; dimensions from 2 * inv_freq.size() on stay. Angles in
// f64, cosine and sine rounded to f32: an f32 angle near position 10^6 is wrong by up to 0.06 rad.
void ApplyRope(RopeLayout layout,
               std::span<const double> inv_freq,
               int64_t position,
               std::span<float> x);

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_ROPE_H_
