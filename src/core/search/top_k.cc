// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/search/top_k.h"

#include <algorithm>
#include <functional>

namespace hipattn::core {
namespace {

// Below this many keys a partial sort beats another histogram.
constexpr size_t kSmall = 64;

struct KeyRange {
  uint32_t low;
  uint32_t high;
};

KeyRange FindRange(std::span<const uint32_t> keys) {
  KeyRange range{keys[0], keys[0]};
  for (const uint32_t key : keys) {
    range.low = std::min(range.low, key);
    range.high = std::max(range.high, key);
  }
  return range;
}

}  // namespace

Cut CutFinder::Find(std::span<const uint32_t> keys, uint32_t keep) {
  for (;;) {
    const KeyRange range = FindRange(keys);
    const auto bits = static_cast<uint32_t>(std::bit_width(range.high - range.low));
    const uint32_t shift = bits > kBinBits ? bits - kBinBits : 0;
    bins_.fill(0);
    for (const uint32_t key : keys) {
      ++bins_[(key - range.low) >> shift];
    }
    uint32_t bin = (range.high - range.low) >> shift;
    while (bins_[bin] < keep) {
      keep -= bins_[bin];
      --bin;
    }
    const uint32_t first = range.low + (bin << shift);
    if (shift == 0) {
      return {first, keep};
    }
    if (bins_[bin] == keep && first > 0) {
      return {first - 1, 0};  // the whole bin stays
    }
    const size_t count = bins_[bin];
    if (keys.data() != inside_.data()) {
      inside_.resize(std::max(inside_.size(), keys.size() + 1));
    }
    size_t filled = 0;
    for (const uint32_t key : keys) {  // in place from the second pass on: filled never overtakes
      inside_[filled] = key;
      filled += (key - range.low) >> shift == bin ? 1 : 0;
    }
    keys = std::span(inside_).first(count);
    if (count <= kSmall) {
      const auto nth = inside_.begin() + static_cast<std::ptrdiff_t>(keep - 1);
      const auto end = inside_.begin() + static_cast<std::ptrdiff_t>(count);
      std::nth_element(inside_.begin(), nth, end, std::greater<>());
      const uint32_t threshold = *nth;
      const auto above = std::count_if(
          inside_.begin(), end, [threshold](uint32_t key) { return key > threshold; });
      return {threshold, keep - static_cast<uint32_t>(above)};
    }
  }
}

uint32_t ApplyCut(const Cut& cut,
                  std::span<const uint32_t> keys,
                  std::span<const int32_t> numbers,
                  int32_t* kept) {
  uint32_t count = 0;
  uint32_t ties = cut.ties;
  for (size_t i = 0; i < keys.size(); ++i) {
    kept[count] = numbers[i];
    const uint32_t tie = keys[i] == cut.threshold && ties > 0 ? 1 : 0;
    ties -= tie;
    count += (keys[i] > cut.threshold ? 1U : 0U) | tie;
  }
  return count;
}

}  // namespace hipattn::core
