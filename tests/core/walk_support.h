// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Texts of scores for tests of searches: a walk asks for keys or nodes, a test gives each a number,
// so no vectors are needed.
#ifndef HIPATTN_TESTS_CORE_WALK_SUPPORT_H_
#define HIPATTN_TESTS_CORE_WALK_SUPPORT_H_

#include "core/search/probe_walk.h"
#include "core/search/tree_walk.h"
#include "tests/support/kv_fixture.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <vector>

namespace hipattn::core {

using testing::Random;

// Runs a probing walk on one score per key.
inline void RunProbes(std::span<const float> scores, ProbeWalk* walk) {
  std::vector<float> batch;
  while (!walk->done()) {
    batch.clear();
    for (const uint32_t token : walk->pending().tokens) {
      batch.push_back(scores[token]);
    }
    walk->Accept(batch);
  }
}

// Runs a tree walk on score_node(level, node).
template <typename ScoreNode>
void RunTree(const ScoreNode& score_node, TreeWalk* walk) {
  std::vector<float> scores;
  while (!walk->done()) {
    scores.clear();
    for (const NodeGroup& group : walk->pending()) {
      for (uint32_t i = 0; i < kFanOut; ++i) {
        // What is not asked for is poisoned: it must not be looked at.
        const bool asked = (group.mask >> i & 1) != 0;
        scores.push_back(asked ? score_node(walk->level(), int64_t{group.index} * kFanOut + i)
                               : std::numeric_limits<float>::quiet_NaN());
      }
    }
    walk->Accept(scores.data());
  }
}

// The best score of a node's keys: the exact scorer.
inline float BestKey(std::span<const float> scores, int64_t node_tokens, int64_t node) {
  const auto begin = static_cast<size_t>(node * node_tokens);
  const auto end = std::min(begin + static_cast<size_t>(node_tokens), scores.size());
  return *std::max_element(scores.begin() + static_cast<std::ptrdiff_t>(begin),
                           scores.begin() + static_cast<std::ptrdiff_t>(end));
}

// A first-order autoregressive text of scores with that correlation length.
inline std::vector<float> Ar1(Random* random, size_t count, double length) {
  const double rho = std::exp(-1.0 / length);
  const double noise = std::sqrt(1 - rho * rho);
  std::vector<float> scores;
  double x = random->Normal();
  for (size_t i = 0; i < count; ++i) {
    x = rho * x + noise * random->Normal();
    scores.push_back(static_cast<float>(x));
  }
  return scores;
}

// Brownian motion: fractional of Hurst exponent 1/2.
inline std::vector<float> RandomWalk(Random* random, size_t count) {
  std::vector<float> scores;
  double x = 0;
  for (size_t i = 0; i < count; ++i) {
    x += random->Normal();
    scores.push_back(static_cast<float>(x));
  }
  return scores;
}

// Small whole numbers: ties are frequent.
inline std::vector<float> Whole(Random* random, size_t count, uint32_t bound) {
  std::vector<float> scores(count);
  for (float& score : scores) {
    score = static_cast<float>(random->Below(2 * bound + 1)) - static_cast<float>(bound);
  }
  return scores;
}

inline size_t ArgMax(std::span<const float> scores) {
  return static_cast<size_t>(std::max_element(scores.begin(), scores.end()) - scores.begin());
}

inline std::vector<int32_t> Copy(std::span<const int32_t> list) {
  return {list.begin(), list.end()};
}

// Share of the `count` best keys that lie in the leaves.
inline double RecallOf(std::span<const float> scores,
                       std::span<const int32_t> leaves,
                       size_t leaf_tokens,
                       size_t count) {
  std::vector<float> sorted(scores.begin(), scores.end());
  std::nth_element(sorted.begin(),
                   sorted.begin() + static_cast<std::ptrdiff_t>(count),
                   sorted.end(),
                   std::greater<>());
  const float threshold = sorted[count];
  size_t hits = 0;
  for (const int32_t leaf : leaves) {
    for (size_t i = 0; i < leaf_tokens; ++i) {
      hits += scores[static_cast<size_t>(leaf) * leaf_tokens + i] > threshold ? 1 : 0;
    }
  }
  return static_cast<double>(hits) / static_cast<double>(count);
}

}  // namespace hipattn::core

#endif  // HIPATTN_TESTS_CORE_WALK_SUPPORT_H_
