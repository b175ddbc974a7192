// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/search/recall_sample.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

namespace hipattn::core {

void RecallSample::List(const NodeRange& blocks,
                        std::span<const int32_t> kept,
                        std::span<const int32_t> attended) {
  num_attended_ = static_cast<uint32_t>(attended.size());
  std::vector<int32_t> left;
  std::set_difference(
      kept.begin(), kept.end(), attended.begin(), attended.end(), std::back_inserter(left));
  const int64_t discarded = blocks.size() - static_cast<int64_t>(kept.size());
  const int64_t sampled = std::min<int64_t>(discarded, kDiscardedSampled);
  blocks_.clear();
  weights_.clear();
  kept_.clear();
  const auto add = [&](int32_t block, double weight, bool was_kept) {
    blocks_.push_back(block);
    weights_.push_back(weight);
    kept_.push_back(was_kept);
  };
  size_t next_left = 0;
  size_t before = 0;  // blocks kept before the one that is sampled
  for (int64_t i = 0; i < sampled; ++i) {
    const int64_t rank = (2 * i + 1) * discarded / (2 * sampled);
    while (before < kept.size() &&
           kept[before] - blocks.first - static_cast<int64_t>(before) <= rank) {
      ++before;
    }
    const auto block = static_cast<int32_t>(blocks.first + rank + static_cast<int64_t>(before));
    while (next_left < left.size() && left[next_left] < block) {
      add(left[next_left++], 1.0, true);
    }
    add(block, static_cast<double>(discarded) / static_cast<double>(sampled), false);
  }
  while (next_left < left.size()) {
    add(left[next_left++], 1.0, true);
  }
}

double RecallSample::Sketched(uint32_t q_head, size_t i) const {
  const auto score = static_cast<double>(scores_[q_head * blocks_.size() + i]);
  return weights_[i] * std::exp2(score - tops_[q_head]);
}

void RecallSample::Draw(std::span<const float> scores, std::span<const float> lse) {
  const size_t count = blocks_.size();
  const auto heads = static_cast<uint32_t>(lse.size());
  scores_.assign(scores.begin(), scores.end());
  left_.assign(heads, {});
  shares_.assign(heads, 1.0);
  least_shares_.assign(heads, 1.0);
  tops_.assign(heads, 0.0);
  attended_mass_.assign(heads, 0.0);
  chances_.assign(count, 0.0);
  drawn_.clear();
  places_.clear();
  draws_.clear();
  if (count == 0) {
    return;
  }
  for (uint32_t g = 0; g < heads; ++g) {
    const auto row = scores.subspan(g * count, count);
    const double attended = static_cast<double>(lse[g]) * std::numbers::log2e;
    tops_[g] = std::max(attended, static_cast<double>(*std::max_element(row.begin(), row.end())));
    attended_mass_[g] = std::exp2(attended - tops_[g]);
    for (size_t i = 0; i < count; ++i) {
      left_[g].sketched += Sketched(g, i);
    }
    for (size_t i = 0; i < count; ++i) {
      chances_[i] += Sketched(g, i) / (attended_mass_[g] + left_[g].sketched);
    }
  }
  all_chances_ = std::accumulate(chances_.begin(), chances_.end(), 0.0);
  double passed = chances_[0];
  size_t place = 0;
  for (uint32_t i = 0; i < kRecallDraws; ++i) {
    const double point = (i + 0.5) * all_chances_ / kRecallDraws;
    while (passed < point && place + 1 < count) {
      passed += chances_[++place];
    }
    if (drawn_.empty() || drawn_.back() != blocks_[place]) {
      drawn_.push_back(blocks_[place]);
      places_.push_back(static_cast<uint32_t>(place));
      draws_.push_back(0);
    }
    ++draws_.back();
  }
}

RecallSample::Left RecallSample::Estimate(uint32_t q_head,
                                          std::span<const double> log_masses) const {
  Left left = left_[q_head];
  double seen = 0;
  double sketched = 0;
  const auto truth = [&](size_t i) {
    return weights_[places_[i]] * std::exp2(log_masses[i] * std::numbers::log2e - tops_[q_head]);
  };
  for (size_t i = 0; i < drawn_.size(); ++i) {
    const double per_chance = draws_[i] / chances_[places_[i]];
    seen += truth(i) * per_chance;
    sketched += Sketched(q_head, places_[i]) * per_chance;
  }
  if (sketched == 0) {  // nothing that this head could see was drawn
    left.mass = left.sketched;
    return left;
  }
  const double ratio = seen / sketched;
  double squares = 0;
  for (size_t i = 0; i < drawn_.size(); ++i) {
    const double off = (truth(i) - ratio * Sketched(q_head, places_[i])) / chances_[places_[i]];
    squares += draws_[i] * off * off;
  }
  left.mass = ratio * left.sketched;
  left.error = all_chances_ * std::sqrt(squares / (kRecallDraws * (kRecallDraws - 1.0)));
  return left;
}

void RecallSample::Accept(std::span<const double> log_masses) {
  for (uint32_t g = 0; g < left_.size() && !blocks_.empty(); ++g) {
    left_[g] = Estimate(g, log_masses.subspan(g * drawn_.size(), drawn_.size()));
    const double attended = attended_mass_[g];
    shares_[g] = attended / (attended + left_[g].mass);
    least_shares_[g] = attended / (attended + left_[g].mass + left_[g].error);
  }
}

uint32_t RecallSample::BlocksFor(double share) const {
  std::vector<uint32_t> order;
  std::vector<float> best(blocks_.size());
  for (uint32_t i = 0; i < blocks_.size(); ++i) {
    for (size_t g = 0; g < left_.size(); ++g) {
      const float score = scores_[g * blocks_.size() + i];
      best[i] = g == 0 ? score : std::max(best[i], score);
    }
    if (kept_[i]) {
      order.push_back(i);
    }
  }
  std::stable_sort(
      order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return best[a] > best[b]; });
  std::vector<double> attended = attended_mass_;
  for (size_t n = 0; n < order.size(); ++n) {
    bool enough = true;
    for (uint32_t g = 0; g < left_.size(); ++g) {
      const double most = left_[g].mass + left_[g].error;
      if (left_[g].sketched > 0) {
        attended[g] += Sketched(g, order[n]) * (most / left_[g].sketched);
      }
      enough = enough && attended[g] >= share * (attended_mass_[g] + most);
    }
    if (enough) {
      return num_attended_ + static_cast<uint32_t>(n) + 1;
    }
  }
  return 0;
}

}  // namespace hipattn::core
