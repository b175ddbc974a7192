// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The best of many scores, as every selector of patterns cuts (prefill SPEC 4.5): larger scores
// first, of equal ones the lower number, -0 equal to +0, NaN as -inf, forced ones above all.
#ifndef HIPATTN_CORE_PATTERN_TOP_SCORES_H_
#define HIPATTN_CORE_PATTERN_TOP_SCORES_H_

#include "core/search/top_k.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace hipattn::core {

// Holds scratch memory, so that a warm one allocates nothing. One thread at a time.
class TopScores {
 public:
  // Begins anew with these scores, numbered from 0. REQUIRES: fewer than 2^31.
  void Load(std::span<const float> scores);
  // Numbers [begin, end) rank above all others. REQUIRES: begin <= end <= the number of scores.
  void Force(uint32_t begin, uint32_t end);
  uint32_t num_forced() const { return num_forced_; }
  // Sets *kept to the best `count` numbers, ascending; to all when there are not more.
  void Keep(uint32_t count, std::vector<int32_t>* kept);

 private:
  std::vector<int32_t> keys_;
  std::vector<int32_t> numbers_;
  uint32_t num_forced_ = 0;
  TopK top_k_;
};

// How many of the largest values can be taken, largest first, before fits(sum of those taken) turns
// false. O(n): halves, no sort. Changes the order of *values. REQUIRES: no value is negative or
// NaN, fits(0) holds, and once false it stays so for larger sums.
template <typename Fits>
size_t CountWhile(std::vector<float>* values, const Fits& fits) {
  const auto first = values->begin();
  size_t taken = 0;
  size_t end = values->size();  // what is not yet decided ends here
  double mass = 0.0;
  while (taken < end) {
    const size_t middle = taken + (end - taken + 1) / 2;
    const auto at = first + static_cast<ptrdiff_t>(taken);
    const auto cut = first + static_cast<ptrdiff_t>(middle);
    std::nth_element(at, cut - 1, first + static_cast<ptrdiff_t>(end), std::greater<>());
    double sum = mass;
    for (auto value = at; value != cut; ++value) {
      sum += *value;
    }
    if (fits(sum)) {
      mass = sum;
      taken = middle;
    } else {
      end = middle - 1;  // the least of the half, which stands last, does not fit
    }
  }
  return taken;
}

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_PATTERN_TOP_SCORES_H_
