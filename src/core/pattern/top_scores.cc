// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/pattern/top_scores.h"

#include <cmath>
#include <limits>
#include <numeric>

namespace hipattn::core {

void TopScores::Load(std::span<const float> scores) {
  keys_.resize(scores.size());
  const int32_t least = OrderedKey(-std::numeric_limits<float>::infinity());
  std::transform(scores.begin(), scores.end(), keys_.begin(), [least](float score) {
    return std::isnan(score) ? least : OrderedKey(score);
  });
  if (numbers_.size() < keys_.size()) {
    numbers_.resize(keys_.size());
    std::iota(numbers_.begin(), numbers_.end(), 0);
  }
  num_forced_ = 0;
}

void TopScores::Force(uint32_t begin, uint32_t end) {
  for (uint32_t number = begin; number < end; ++number) {
    num_forced_ += keys_[number] == INT32_MAX ? 0 : 1;
    keys_[number] = INT32_MAX;  // no score's key
  }
}

void TopScores::Keep(uint32_t count, std::vector<int32_t>* kept) {
  const std::span<const int32_t> numbers = std::span(numbers_).first(keys_.size());
  if (count >= keys_.size()) {
    kept->assign(numbers.begin(), numbers.end());
  } else if (count == 0) {
    kept->clear();
  } else {
    top_k_.Keep(keys_, numbers, count, kept);
  }
}

}  // namespace hipattn::core
