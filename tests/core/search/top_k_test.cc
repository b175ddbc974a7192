// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/search/top_k.h"

#include "tests/core/walk_support.h"

#include <gtest/gtest.h>

#include <limits>
#include <numeric>

namespace hipattn::core {
namespace {

// The rule itself: a stable sort by descending score keeps equal scores in the order of their
// numbers.
std::vector<int32_t> KeepBySorting(std::span<const float> scores, size_t keep) {
  std::vector<int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return scores[static_cast<size_t>(a)] > scores[static_cast<size_t>(b)];
  });
  order.resize(keep);
  std::sort(order.begin(), order.end());
  return order;
}

std::vector<int32_t> Keep(TopK* top_k, std::span<const float> scores, uint32_t keep) {
  std::vector<int32_t> keys;
  for (const float score : scores) {
    keys.push_back(OrderedKey(score));
  }
  std::vector<int32_t> numbers(scores.size());
  std::iota(numbers.begin(), numbers.end(), 0);
  std::vector<int32_t> kept;
  top_k->Keep(keys, numbers, keep, &kept);
  return kept;
}

TEST(TopK, OrderedKeysCompareAsScoresDo) {
  const float infinity = std::numeric_limits<float>::infinity();
  const float ascending[] = {
      -infinity, -3e38F, -1.0F, -1e-45F, 0.0F, 1e-45F, 1.0F, 3e38F, infinity};
  for (size_t i = 1; i < std::size(ascending); ++i) {
    EXPECT_LT(OrderedKey(ascending[i - 1]), OrderedKey(ascending[i]));
  }
  EXPECT_EQ(OrderedKey(-0.0F), OrderedKey(0.0F));
}

TEST(TopK, EqualsSortOnManyKindsOfScores) {
  Random random(1);
  TopK top_k;
  for (int trial = 0; trial < 3000; ++trial) {
    const uint32_t count = 2 + random.Below(trial % 10 == 0 ? 5000 : 300);
    const uint32_t keep = 1 + random.Below(count - 1);
    const float offset = static_cast<float>(random.Below(3)) * 100.0F;
    std::vector<float> scores =
        trial % 3 == 0 ? Whole(&random, count, 1 + random.Below(20)) : random.Normals(count);
    for (float& score : scores) {
      score += offset;
      if (trial % 7 == 0 && random.Below(5) == 0) {
        score = random.Below(2) == 0 ? -0.0F : 0.0F;
      }
      if (trial % 11 == 0 && random.Below(50) == 0) {
        score = random.Below(2) == 0 ? std::numeric_limits<float>::infinity()
                                     : -std::numeric_limits<float>::infinity();
      }
    }
    ASSERT_EQ(Keep(&top_k, scores, keep), KeepBySorting(scores, keep)) << "trial " << trial;
  }
}

// Scores a few units in the last place apart land in one bin, pass after pass.
TEST(TopK, EqualsSortOnScoresThatDifferInTheLastBits) {
  Random random(2);
  TopK top_k;
  for (int trial = 0; trial < 200; ++trial) {
    std::vector<float> scores(1024);
    for (float& score : scores) {
      score = std::bit_cast<float>(0x3f800000U + random.Below(1U << (trial % 24)));
    }
    scores[random.Below(1024)] = -3e38F;
    scores[random.Below(1024)] = 3e38F;
    ASSERT_EQ(Keep(&top_k, scores, 128), KeepBySorting(scores, 128)) << "trial " << trial;
  }
}

TEST(TopK, NaNsStillGiveAValidSelection) {
  Random random(3);
  TopK top_k;
  for (int trial = 0; trial < 100; ++trial) {
    std::vector<float> scores = random.Normals(500);
    for (float& score : scores) {
      if (random.Below(3) == 0) {
        score = std::numeric_limits<float>::quiet_NaN();
      }
    }
    const std::vector<int32_t> kept = Keep(&top_k, scores, 77);
    for (size_t i = 1; i < kept.size(); ++i) {
      ASSERT_LT(kept[i - 1], kept[i]);
    }
    ASSERT_LT(kept.back(), 500);
  }
}

TEST(TopK, KeysMayLieAtBothEndsOfTheirType) {
  std::vector<int32_t> keys(600, INT32_MIN);
  std::vector<int32_t> numbers(keys.size());
  std::iota(numbers.begin(), numbers.end(), 0);
  std::fill_n(keys.begin() + 100, 200, INT32_MAX);
  TopK top_k;
  std::vector<int32_t> kept;
  for (const uint32_t keep : {1U, 150U, 200U, 201U}) {
    top_k.Keep(keys, numbers, keep, &kept);
    ASSERT_EQ(kept.size(), keep);
    EXPECT_EQ(kept[0], keep > 200 ? 0 : 100);
    EXPECT_EQ(kept[keep - 1], static_cast<int32_t>(keep > 200 ? 299 : 99 + keep));
  }
}

}  // namespace
}  // namespace hipattn::core
