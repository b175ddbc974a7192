// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/pattern/line_select.h"

#include <algorithm>

namespace hipattn::core {
namespace {

uint32_t Scaled(uint32_t budget, double ratio, uint32_t least, size_t kv_len) {
  const double most = static_cast<double>(kv_len);
  const auto scaled = static_cast<uint32_t>(std::min(budget * ratio, most));
  return static_cast<uint32_t>(std::min<size_t>(std::max(scaled, least), kv_len));
}

void KeepBest(std::span<const float> scores,
              uint32_t num_forced,
              uint32_t count,
              TopScores* scratch,
              std::vector<int32_t>* kept) {
  scratch->Load(scores);
  scratch->Force(0, static_cast<uint32_t>(std::min<size_t>(num_forced, scores.size())));
  scratch->Keep(count, kept);
}

}  // namespace

void SelectLines(std::span<const float> vertical,
                 std::span<const float> slash,
                 const LineBudget& budget,
                 TopScores* scratch,
                 Lines* lines) {
  const uint32_t verticals = Scaled(budget.verticals, budget.ratio, kMinVerticals, vertical.size());
  const uint32_t slashes = Scaled(budget.slashes, budget.ratio, kMinSlashes, slash.size());
  KeepBest(vertical, kForcedVerticals, verticals, scratch, &lines->verticals);
  KeepBest(slash, kForcedSlashes, slashes, scratch, &lines->slashes);
  std::reverse(lines->slashes.begin(), lines->slashes.end());
}

}  // namespace hipattn::core
