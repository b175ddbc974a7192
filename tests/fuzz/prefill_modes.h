// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Sparse prefill for the fuzzed C API: random modes, and what the model can say of a row whatever
// lines or blocks were chosen.
#ifndef HIPATTN_TESTS_FUZZ_PREFILL_MODES_H_
#define HIPATTN_TESTS_FUZZ_PREFILL_MODES_H_

#include "hipattn/hipattn.h"

#include "tests/support/naive_model.h"

#include <algorithm>
#include <cmath>

namespace hipattn::test {

inline bool IsMaskedMode(uint32_t mode) {
  return mode >= HIPATTN_PREFILL_A_SHAPE && mode != HIPATTN_PREFILL_HIP;
}

// next() gives a byte. Where keys may be kept un-rotated there are no masks.
template <typename Next>
void RandomPrefill(const Next& next, bool masks, hipattn_attention_options_t* options) {
  options->prefill_mode = next() % (masks ? 10 : 2);
  if (!masks && options->prefill_mode == 1) {
    options->prefill_mode = HIPATTN_PREFILL_HIP;
  }
  switch (options->prefill_mode) {
    case HIPATTN_PREFILL_A_SHAPE:
    case HIPATTN_PREFILL_VERTICAL_SLASH:
      options->prefill_sizes[1] = next();
      [[fallthrough]];
    case HIPATTN_PREFILL_BLOCK_SPARSE:
      options->prefill_sizes[0] = next() % 32;
      break;
    case HIPATTN_PREFILL_FLEX:
    case HIPATTN_PREFILL_XATTENTION:
    case HIPATTN_PREFILL_FLASH_V2:
      options->prefill_threshold = static_cast<float>(next() % 5) / 4.0F;
      break;
    default:
      break;
  }
  if (IsMaskedMode(options->prefill_mode) && next() % 4 == 0) {
    options->prefill_skip_threshold = 1e-6F;
  }
  if (masks && options->prefill_mode != HIPATTN_PREFILL_DENSE && next() % 4 == 0) {
    options->prefill_delta_interval = 1 + next() % 48;
  }
}

// Bound of a row's values, which are means of values below 2 sqrt(3): a corrected row is the sum of
// three.
inline double OutBound(const hipattn_attention_options_t& options) {
  return options.prefill_delta_interval == 0 ? 4.0 : 12.0;
}

// Whether the row may be what a masked prefill gives: every head attends a part of its past that
// holds the row's own key, A_SHAPE exactly its sinks and window unless it ran densely.
inline bool IsMaskedRow(const Geometry& geometry,
                        const NaiveLayer& layer,
                        const hipattn_attention_options_t& options,
                        uint64_t position,
                        const float* q,
                        const float* out,
                        const float* lse) {
  const NaiveResult all = layer.AttendAll(q, position);
  const NaiveResult own =
      layer.Attend(q, position, [&](uint32_t, uint64_t t) { return t == position; });
  for (uint32_t h = 0; h < geometry.q_heads; ++h) {
    if (!(lse[h] <= all.lse[h] + 1e-4 && lse[h] >= own.lse[h] - 1e-4)) {
      return false;
    }
  }
  const bool finite = std::all_of(
      out, out + geometry.q_row(), [&](float x) { return std::abs(x) <= OutBound(options); });
  if (options.prefill_mode != HIPATTN_PREFILL_A_SHAPE || options.prefill_delta_interval > 1 ||
      !finite) {
    return finite;
  }
  const uint64_t sinks = options.prefill_sizes[0] == 0 ? 1024 : options.prefill_sizes[0];
  const uint64_t window = options.prefill_sizes[1] == 0 ? 4096 : options.prefill_sizes[1];
  const NaiveResult shape = layer.Attend(
      q, position, [&](uint32_t, uint64_t t) { return t < sinks || position - t < window; });
  // Weights below the skip threshold may be missing.
  const double bound = options.prefill_skip_threshold > 0 ? 2e-3 : 2e-5;
  return RelativeError(out, shape.out, geometry.head_dim) <= bound ||
         RelativeError(out, all.out, geometry.head_dim) <= bound;
}

}  // namespace hipattn::test

#endif  // HIPATTN_TESTS_FUZZ_PREFILL_MODES_H_
