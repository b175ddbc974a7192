// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The true softmax against a plain loop in double precision, for lengths around whole panels, group
// sizes around what the kernel takes at once, and blocks chosen by exact mass.
#include "key_panels.h"
#include "step_observer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

namespace recall_bench {
namespace {

constexpr size_t kLayers = 2;

struct Case {
  size_t kv_heads;
  size_t group;
  size_t head_dim;
  size_t length;
};

// Random keys of one text and a query, with the softmax of a plain loop.
class Truth {
 public:
  Truth(const Case& c, uint32_t seed)
      : c_(c),
        keys_(kLayers, c.kv_heads, c.head_dim, c.length + 20),
        softmax_(c.kv_heads * c.group) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    k_.resize(c.length * c.kv_heads * c.head_dim);
    std::generate(k_.begin(), k_.end(), [&] { return 2 * normal(random); });
    q_.resize(c.kv_heads * c.group * c.head_dim);
    std::generate(q_.begin(), q_.end(), [&] { return normal(random); });
    // In two parts, so that the second begins inside a panel.
    const size_t first = c.length / 3;
    keys_.Append(1, k_.data(), first);
    keys_.Append(1, k_.data() + first * c.kv_heads * c.head_dim, c.length - first);
    softmax_.Compute(keys_, 1, q_.data(), scale());
  }

  float scale() const { return 1.0F / std::sqrt(static_cast<float>(c_.head_dim)); }

  double Score(size_t head, size_t token) const {
    return Dot(head, token, [](double x) { return x; });
  }

  // Sums of head_dim products in f32 err by at most (head_dim + 2) 2^-24 of the sum of their sizes,
  // exp adds 1e-6 of its value and 16 terms summed in f32 as much again; a share is the quotient of
  // two such sums.
  double ShareError(size_t head) const {
    double largest = 0;
    for (size_t t = 0; t < c_.length; ++t) {
      largest = std::max(largest, Dot(head, t, [](double x) { return std::abs(x); }));
    }
    return 2 * (largest * static_cast<double>(c_.head_dim + 2) * 0x1p-24 + 2e-6);
  }

  double PlainShare(size_t head, size_t begin, size_t end) const {
    double part = 0;
    double all = 0;
    for (size_t t = 0; t < c_.length; ++t) {
      const double e = std::exp(Score(head, t));
      all += e;
      part += t >= begin && t < end ? e : 0;
    }
    return part / all;
  }

  std::vector<int32_t> PlainBest(
      size_t kv_head, size_t begin, size_t end, size_t block, size_t count) const {
    std::vector<std::pair<double, int32_t>> scored;
    for (size_t b = 0; b * block < c_.length; ++b) {
      double best = -std::numeric_limits<double>::infinity();
      for (size_t head = kv_head * c_.group; head < (kv_head + 1) * c_.group; ++head) {
        double sum = 0;
        for (size_t t = std::max(begin, b * block); t < std::min(end, (b + 1) * block); ++t) {
          sum += std::exp(Score(head, t));
        }
        best = std::max(best, std::log(sum));
      }
      if (best > -std::numeric_limits<double>::infinity()) {
        scored.emplace_back(-best, static_cast<int32_t>(b));
      }
    }
    std::sort(scored.begin(), scored.end());
    std::vector<int32_t> blocks;
    for (size_t i = 0; i < std::min(count, scored.size()); ++i) {
      blocks.push_back(scored[i].second);
    }
    std::sort(blocks.begin(), blocks.end());
    return blocks;
  }

  const LayerSoftmax& softmax() const { return softmax_; }

 private:
  template <typename Term>
  double Dot(size_t head, size_t token, const Term& term) const {
    const size_t kv_head = head / c_.group;
    double sum = 0;
    for (size_t d = 0; d < c_.head_dim; ++d) {
      const float k = k_[(token * c_.kv_heads + kv_head) * c_.head_dim + d];
      const double stored = static_cast<double>(WidenBfloat16(RoundToBfloat16(k)));
      sum += term(stored * static_cast<double>(q_[head * c_.head_dim + d]));
    }
    return sum * static_cast<double>(scale());
  }

  Case c_;
  KeyPanels keys_;
  LayerSoftmax softmax_;
  std::vector<float> k_, q_;
};

TEST(RecallTruth, SharesAreThoseOfAPlainLoop) {
  uint32_t seed = 1;
  for (const size_t length : {1U, 15U, 16U, 17U, 31U, 100U, 333U}) {
    for (const auto& [kv_heads, group] : {std::pair(1, 1), {2, 2}, {3, 3}, {1, 4}, {2, 7}}) {
      const Case c = {
          size_t(kv_heads), size_t(group), seed % 2 == 0 ? size_t{64} : size_t{24}, length};
      const Truth truth(c, seed++);
      for (size_t head = 0; head < c.kv_heads * c.group; ++head) {
        const double bound = truth.ShareError(head);
        for (const auto& [begin, end] : {std::pair<size_t, size_t>(0, length),
                                         {0, 16},
                                         {3, 40},
                                         {16, 48},
                                         {length / 2, length + 9}}) {
          const double want = truth.PlainShare(head, begin, end);
          EXPECT_NEAR(truth.softmax().Share(head, begin, end), want, want * bound)
              << "length " << length << " head " << head << " [" << begin << ", " << end << ")";
        }
        double sum = 0;
        for (size_t t = 0; t < length; ++t) {
          sum += std::exp(truth.Score(head, t));
        }
        EXPECT_NEAR(truth.softmax().lse(head), std::log(sum), bound);
      }
    }
  }
}

TEST(RecallTruth, TheOracleTakesTheHeaviestBlocks) {
  const Case c = {2, 3, 64, 333};
  const Truth truth(c, 99);
  for (const size_t block : {16U, 32U, 64U}) {
    for (const size_t count : {1U, 3U, 8U, 100U}) {
      for (const auto& [begin, end] :
           {std::pair<size_t, size_t>(0, 333), {16, 300}, {20, 203}, {50, 50}}) {
        for (size_t head = 0; head < c.kv_heads; ++head) {
          EXPECT_EQ(truth.softmax().BestBlocks(head, begin, end, block, count),
                    truth.PlainBest(head, begin, end, block, count))
              << block << " " << count << " [" << begin << ", " << end << ")";
        }
      }
    }
  }
}

// The fewest blocks of the plain ranking, counted one by one.
TEST(RecallTruth, BlocksForAShareAreTheFewest) {
  const Case c = {2, 3, 64, 333};
  const Truth truth(c, 99);
  const auto share = [&](size_t head, size_t count, size_t q_head) {
    double sum = truth.softmax().Share(q_head, 0, 20) + truth.softmax().Share(q_head, 300, 333);
    for (const int32_t block : truth.softmax().BestBlocks(head, 20, 300, 16, count)) {
      const auto begin = static_cast<size_t>(block) * 16;
      sum += truth.softmax().Share(
          q_head, std::max<size_t>(20, begin), std::min<size_t>(300, begin + 16));
    }
    return sum;
  };
  for (size_t head = 0; head < c.kv_heads; ++head) {
    for (const double wanted : {0.0, 0.5, 0.9, 0.99, 1.1}) {
      for (const size_t least : {0U, 2U, 100U}) {
        size_t count = std::min<size_t>(least, 18);  // that meet [20, 300)
        const auto enough = [&](size_t n) {
          return share(head, n, head * 3) >= wanted && share(head, n, head * 3 + 1) >= wanted &&
                 share(head, n, head * 3 + 2) >= wanted;
        };
        while (count < 18 && !enough(count)) {
          ++count;
        }
        EXPECT_EQ(truth.softmax().BlocksForShare(head, 20, 300, 16, wanted, least), count)
            << head << " " << wanted << " " << least;
      }
    }
  }
}

TEST(RecallTruth, LargeScoresDoNotOverflow) {
  KeyPanels keys(1, 1, 8, 32);
  std::vector<float> k(20 * 8, -100.0F);
  std::fill(k.begin() + 8 * 5, k.begin() + 8 * 6, 100.0F);
  keys.Append(0, k.data(), 20);
  const std::vector<float> q(8, 100.0F);
  LayerSoftmax softmax(1);
  softmax.Compute(keys, 0, q.data(), 1.0F);
  EXPECT_DOUBLE_EQ(softmax.Share(0, 5, 6), 1.0);
  EXPECT_NEAR(softmax.lse(0), 80000.0, 1e-3);
}

TEST(RecallTruth, KeysComeBackRounded) {
  KeyPanels keys(2, 2, 8, 40);
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  std::vector<float> k(35 * 16);
  std::generate(k.begin(), k.end(), [&] { return normal(random); });
  keys.Append(0, k.data(), 35);
  std::vector<float> read(10 * 16);
  keys.Read(0, 20, 30, read.data());
  for (size_t i = 0; i < read.size(); ++i) {
    EXPECT_EQ(read[i], WidenBfloat16(RoundToBfloat16(k[20 * 16 + i])));
  }
  keys.Truncate(33);
  EXPECT_EQ(keys.length(0), 33U);
  EXPECT_EQ(keys.length(1), 0U);
}

TEST(RecallTruth, RoundsToNearestEven) {
  EXPECT_EQ(RoundToBfloat16(1.0F), 0x3f80);
  EXPECT_EQ(RoundToBfloat16(1.0F + 0x1p-8F), 0x3f80);      // half way, to the even one below
  EXPECT_EQ(RoundToBfloat16(1.0F + 3 * 0x1p-8F), 0x3f82);  // half way, to the even one above
  EXPECT_EQ(RoundToBfloat16(1.0F + 0x1p-8F + 0x1p-20F), 0x3f81);
  EXPECT_EQ(RoundToBfloat16(-0.0F), 0x8000);
  EXPECT_EQ(RoundToBfloat16(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_TRUE(std::isnan(WidenBfloat16(RoundToBfloat16(std::numeric_limits<float>::quiet_NaN()))));
}

// Which edges were attended is what the library's lse says.
TEST(RecallTruth, EdgesAreTakenOrLeft) {
  EXPECT_DOUBLE_EQ(AttendedShare(0.9, {}, 0.5), 0.9);
  EXPECT_DOUBLE_EQ(AttendedShare(0.9, {0.1}, 0.9), 0.9);
  EXPECT_DOUBLE_EQ(AttendedShare(0.9, {0.1}, 0.81), 0.8);
  EXPECT_DOUBLE_EQ(AttendedShare(0.9, {0.1, 0.3}, 0.61), 0.6);
  EXPECT_DOUBLE_EQ(AttendedShare(0.9, {0.1, 0.3}, 0.49), 0.5);
}

}  // namespace
}  // namespace recall_bench
