// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Which lines a vertical-slash head attends (prefill SPEC 4; MInference, arXiv 2407.02490,
// algorithm 2): the columns and diagonals with the most softmax mass of the chunk's last rows. The
// sums are the op estimate_lines' business.
#ifndef HIPATTN_CORE_PATTERN_LINE_SELECT_H_
#define HIPATTN_CORE_PATTERN_LINE_SELECT_H_

#include "core/pattern/top_scores.h"

#include <cstdint>
#include <span>
#include <vector>

namespace hipattn::core {

// Attended whatever the estimate says, as far as the text goes.
inline constexpr uint32_t kForcedVerticals = 30;
inline constexpr uint32_t kForcedSlashes = 100;
// No budget is below these.
inline constexpr uint32_t kMinVerticals = 30;
inline constexpr uint32_t kMinSlashes = 50;

struct LineBudget {
  uint32_t verticals = 0;
  uint32_t slashes = 0;
  // Both are multiplied by it, then cut to whole numbers, before their least and the text's length
  // bound them. Finite, not negative.
  double ratio = 1.0;
};

struct Lines {
  std::vector<int32_t> verticals;  // ascending
  std::vector<int32_t> slashes;    // descending
};

// vertical, slash: [kv_len] sums of a column, and of the pairs of row i and key i - s. *lines is
// set. With fewer slashes than the forced ones the nearest win.
void SelectLines(std::span<const float> vertical,
                 std::span<const float> slash,
                 const LineBudget& budget,
                 TopScores* scratch,
                 Lines* lines);

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_PATTERN_LINE_SELECT_H_
