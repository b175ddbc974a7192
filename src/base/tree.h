// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Words of the block tree that policy (core) and ops (device) share. Level 0 are the blocks; node j
// of level l covers the nodes 8j .. 8j + 7 of level l - 1.
#ifndef HIPATTN_BASE_TREE_H_
#define HIPATTN_BASE_TREE_H_

#include <cstdint>

namespace hipattn {

inline constexpr uint32_t kFanOut = 8;
inline constexpr uint32_t kMaxLevels = 10;  // 16 * 8^9 tokens are more than positions can count

// Nodes 8 * index + i of one level, those whose bit i is set in mask.
struct NodeGroup {
  uint32_t index;
  uint32_t mask;
};

// What of a node's keys stands for it in a search; the numbers are those of hipattn.h.
enum class Scorer : uint32_t {
  kRepresentative = 1,  // HiP: the key of the centre token
  kMean = 2,
  kBounds = 3,
  kCuboidMean = 4,
  kExact = 5,
  kFirst = 6,
  kLast = 7,
};

// Whether a summary has a second vector w (score = q.m + |q|.w).
constexpr bool ScorerHasSpread(Scorer scorer) {
  return scorer == Scorer::kCuboidMean || scorer == Scorer::kBounds;
}

}  // namespace hipattn

#endif  // HIPATTN_BASE_TREE_H_
