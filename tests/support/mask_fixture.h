// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Masks of sparse prefill for tests of ops, made the plain way: ranges per row tile are given, or
// follow from lines by the rules of the vertical-slash conversion (MInference, arXiv 2407.02490).
#ifndef HIPATTN_TESTS_SUPPORT_MASK_FIXTURE_H_
#define HIPATTN_TESTS_SUPPORT_MASK_FIXTURE_H_

#include "base/int_math.h"
#include "base/prefill_mask.h"
#include "tests/support/kv_fixture.h"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

namespace hipattn::testing {

// One head's mask of rows [first_pos, first_pos + num_rows), with its arrays.
class TestMask {
 public:
  using TileRanges = std::function<std::vector<MaskRange>(uint32_t first, uint32_t limit)>;

  // ranges(first, limit) of every row tile, whose first row sits at `first` and whose last row sees
  // the keys below limit: ascending, disjoint, cut to limit here. Columns: ascending.
  TestMask(uint32_t first_pos,
           uint32_t num_rows,
           const TileRanges& ranges,
           std::vector<uint32_t> columns = {},
           uint32_t window = 0)
      : columns_(std::move(columns)), window_(window), range_ptr_{0} {
    for (uint32_t row = 0; row < num_rows; row += kRowTile) {
      const uint32_t limit = first_pos + std::min(row + kRowTile, num_rows);
      uint32_t covered = 0;
      for (MaskRange range : ranges(first_pos + row, limit)) {
        range.end = std::min(range.end, limit);
        if (range.begin < range.end) {
          AddGap(covered, range.begin);
          ranges_.push_back(range);
          covered = range.end;
        }
      }
      AddGap(covered, limit);
      range_ptr_.push_back(static_cast<uint32_t>(ranges_.size()));
    }
  }

  PrefillMask mask() const {
    return {range_ptr_.data(),
            ranges_.data(),
            intervals_.data(),
            columns_.data(),
            static_cast<uint32_t>(range_ptr_.size() - 1),
            static_cast<uint32_t>(columns_.size()),
            window_};
  }
  const std::vector<uint32_t>& columns() const { return columns_; }

  // Whether row `row` of the chunk, at position `position`, attends a key.
  bool Attends(uint32_t row, uint32_t position, uint32_t key) const {
    return key <= position &&
           (InRange(row / kRowTile, position, key) || InColumns(row / kRowTile, key));
  }

 private:
  void AddGap(uint32_t begin, uint32_t end) {
    const auto place = [&](uint32_t key) {
      return static_cast<uint32_t>(std::lower_bound(columns_.begin(), columns_.end(), key) -
                                   columns_.begin());
    };
    intervals_.push_back({place(begin), place(end)});
  }
  bool InRange(uint32_t tile, uint32_t position, uint32_t key) const {
    return std::any_of(ranges_.begin() + range_ptr_[tile],
                       ranges_.begin() + range_ptr_[tile + 1],
                       [&](const MaskRange& range) {
                         return range.begin <= key && key < range.end &&
                                (range.windowed == 0 || position - key < window_);
                       });
  }
  bool InColumns(uint32_t tile, uint32_t key) const {
    for (uint32_t i = range_ptr_[tile] + tile; i <= range_ptr_[tile + 1] + tile; ++i) {
      if (std::binary_search(
              columns_.begin() + intervals_[i].begin, columns_.begin() + intervals_[i].end, key)) {
        return true;
      }
    }
    return false;
  }

  std::vector<uint32_t> columns_;
  uint32_t window_;
  std::vector<uint32_t> range_ptr_;
  std::vector<MaskRange> ranges_;
  std::vector<ColumnInterval> intervals_;
};

// The 64 keys each slash touches, joined: SPEC 5.2 of the vertical-slash masks. Slashes descending.
inline TestMask LinesMask(uint32_t first_pos,
                          uint32_t num_rows,
                          std::vector<uint32_t> verticals,
                          const std::vector<uint32_t>& slashes) {
  const auto ranges = [&slashes](uint32_t first, uint32_t) {
    const uint32_t end = first + kRowTile;
    std::vector<MaskRange> joined;
    uint32_t covered = 0;
    for (const uint32_t slash : slashes) {
      if (slash >= end || end - slash <= covered) {
        continue;
      }
      const uint32_t edge = end - slash;
      const uint32_t start = std::max(covered, edge < kRowTile ? 0 : edge - kRowTile);
      covered = start + kRowTile;
      if (!joined.empty() && joined.back().end == start) {
        joined.back().end = covered;
      } else {
        joined.push_back({start, covered, 0});
      }
    }
    return joined;
  };
  return TestMask(first_pos, num_rows, ranges, std::move(verticals));
}

// The first num_sinks keys, and the window of each row.
inline TestMask ShapeMask(uint32_t first_pos,
                          uint32_t num_rows,
                          uint32_t num_sinks,
                          uint32_t window) {
  const auto ranges = [&](uint32_t first, uint32_t limit) {
    const uint32_t begin = first + 1 > window ? first + 1 - window : 0;
    std::vector<MaskRange> both = {{0, num_sinks, 0}};
    if (window > 0) {
      both.push_back({std::max(begin, num_sinks), limit, 1});
    }
    return both;
  };
  return TestMask(first_pos, num_rows, ranges, {}, window);
}

// Some ranges, one windowed, and some columns.
inline TestMask RandomMask(uint32_t first_pos, uint32_t num_rows, Random* random) {
  const uint32_t num_keys = first_pos + num_rows;
  std::vector<uint32_t> columns;
  for (uint32_t key = 0; key < num_keys; ++key) {
    if (random->Below(9) == 0) {
      columns.push_back(key);
    }
  }
  const auto ranges = [random](uint32_t, uint32_t limit) {
    std::vector<MaskRange> some;
    for (uint32_t begin = random->Below(40); begin < limit;) {
      const uint32_t end = begin + 1 + random->Below(100);
      some.push_back({begin, end, random->Below(3) == 0 ? 1U : 0U});
      begin = end + 1 + random->Below(60);
    }
    return some;
  };
  return TestMask(first_pos, num_rows, ranges, std::move(columns), 1 + random->Below(num_keys));
}

}  // namespace hipattn::testing

#endif  // HIPATTN_TESTS_SUPPORT_MASK_FIXTURE_H_
