// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/mask/mask_blocks.h"

#include "base/int_math.h"

#include <algorithm>

namespace hipattn::core {
namespace {

// How many half-open ranges hold each of a row of numbers: two additions a range, one pass at the
// end.
class Cover {
 public:
  // REQUIRES: begin < end.
  void Add(uint32_t begin, uint32_t end) {
    if (steps_.size() <= end) {
      steps_.resize(size_t{end} + 1, 0);
    }
    ++steps_[begin];
    --steps_[end];
  }
  // Calls visit(number) for those that some range holds.
  template <typename Visit>
  void ForEach(const Visit& visit) const {
    int64_t depth = 0;
    for (size_t number = 0; number < steps_.size(); ++number) {
      depth += steps_[number];
      if (depth > 0) {
        visit(static_cast<uint32_t>(number));
      }
    }
  }

 private:
  std::vector<int64_t> steps_;
};

}  // namespace

std::vector<uint32_t> BlocksNeeded(std::span<const PrefillMask> masks,
                                   const RowTiles& tiles,
                                   uint32_t block_tokens) {
  Cover blocks;
  for (const PrefillMask& mask : masks) {
    const uint32_t first = mask.range_ptr[tiles.begin];
    const uint32_t last = mask.range_ptr[tiles.end];
    for (const MaskRange& range : std::span(mask.ranges + first, last - first)) {
      blocks.Add(range.begin / block_tokens, (range.end - 1) / block_tokens + 1);
    }
    Cover columns;
    const uint32_t num_intervals = last - first + tiles.end - tiles.begin;
    for (const ColumnInterval& gap :
         std::span(mask.intervals + first + tiles.begin, num_intervals)) {
      if (gap.begin < gap.end) {
        columns.Add(gap.begin, gap.end);
      }
    }
    columns.ForEach([&](uint32_t place) {
      const uint32_t block = mask.columns[place] / block_tokens;
      blocks.Add(block, block + 1);
    });
  }
  std::vector<uint32_t> needed;
  blocks.ForEach([&](uint32_t block) { needed.push_back(block); });
  return needed;
}

}  // namespace hipattn::core
