// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "block_predictors.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <unordered_map>

namespace tiers_bench {
namespace {

// Of sorted lists.
std::vector<uint32_t> NewBlocks(const std::vector<uint32_t>& now,
                                const std::vector<uint32_t>& before) {
  std::vector<uint32_t> blocks;
  std::set_difference(
      now.begin(), now.end(), before.begin(), before.end(), std::back_inserter(blocks));
  return blocks;
}

std::vector<uint32_t> Sorted(std::vector<uint32_t> blocks) {
  std::sort(blocks.begin(), blocks.end());
  return blocks;
}

class LastStep final : public Predictor {
 public:
  explicit LastStep(const Trace& trace) : last_(trace.num_heads()) {}

  Scores Predict(uint32_t head) const override {
    Scores scores;
    for (const uint32_t block : last_[head]) {
      scores[block] = 1;
    }
    return scores;
  }
  void Observe(uint32_t head, const std::vector<uint32_t>& blocks) override {
    last_[head] = blocks;
  }

 private:
  std::vector<std::vector<uint32_t>> last_;
};

class OftenUsed final : public Predictor {
 public:
  explicit OftenUsed(const Trace& trace) : scores_(trace.num_heads()) {}

  Scores Predict(uint32_t head) const override { return scores_[head]; }
  void Observe(uint32_t head, const std::vector<uint32_t>& blocks) override {
    constexpr double kHalfLifeSteps = 16;
    for (auto& entry : scores_[head]) {
      entry.second *= std::exp2(-1 / kHalfLifeSteps);
    }
    for (const uint32_t block : blocks) {
      scores_[head][block] += 1;
    }
  }

 private:
  std::vector<Scores> scores_;
};

class Neighbours final : public Predictor {
 public:
  explicit Neighbours(const Trace& trace)
      : last_(trace.num_heads()), num_blocks_(trace.max_blocks) {}

  Scores Predict(uint32_t head) const override {
    constexpr double kFarther = 0.4;  // less than a next one, two of them more than half of it
    Scores scores;
    for (const uint32_t block : last_[head]) {
      for (const auto& [distance, score] : {std::pair(1U, 1.0), std::pair(2U, kFarther)}) {
        if (block >= distance) {
          scores[block - distance] += score;
        }
        if (block + distance < num_blocks_) {
          scores[block + distance] += score;
        }
      }
    }
    return scores;
  }
  void Observe(uint32_t head, const std::vector<uint32_t>& blocks) override {
    last_[head] = blocks;
  }

 private:
  std::vector<std::vector<uint32_t>> last_;
  uint32_t num_blocks_;
};

class LayerBelow final : public Predictor {
 public:
  explicit LayerBelow(const Trace& trace)
      : num_kv_heads_(trace.num_kv_heads),
        last_(trace.num_heads()),
        weights_(trace.num_heads(), std::vector<double>(trace.num_kv_heads, kFirstWeight)) {}

  Scores Predict(uint32_t head) const override {
    Scores scores;
    for (uint32_t i = 0; head >= num_kv_heads_ && i < num_kv_heads_; ++i) {
      for (const uint32_t block : last_[Below(head) + i]) {
        scores[block] += weights_[head][i];
      }
    }
    return scores;
  }
  void Observe(uint32_t head, const std::vector<uint32_t>& blocks) override {
    constexpr double kRate = 0.1;  // the mean of about ten steps
    const std::vector<uint32_t> now = Sorted(blocks);
    const std::vector<uint32_t> fresh = NewBlocks(now, last_[head]);
    for (uint32_t i = 0; head >= num_kv_heads_ && i < num_kv_heads_; ++i) {
      const std::vector<uint32_t>& below = last_[Below(head) + i];
      const size_t right = fresh.size() - NewBlocks(fresh, below).size();
      const double share =
          static_cast<double>(right) / static_cast<double>(std::max<size_t>(1, below.size()));
      weights_[head][i] += kRate * (share - weights_[head][i]);
    }
    last_[head] = now;
  }

 private:
  static constexpr double kFirstWeight = 0.1;

  // The first head of the layer below.
  uint32_t Below(uint32_t head) const { return (head / num_kv_heads_ - 1) * num_kv_heads_; }

  uint32_t num_kv_heads_;
  std::vector<std::vector<uint32_t>> last_;  // sorted
  std::vector<std::vector<double>> weights_;
};

class Markov final : public Predictor {
 public:
  explicit Markov(const Trace& trace) : heads_(trace.num_heads()) {}

  Scores Predict(uint32_t head) const override {
    constexpr double kDoubt = 2;  // uses that a block is thought to have had before
    const Head& known = heads_[head];
    Scores scores;
    for (const uint32_t block : known.last) {
      const auto found = known.from.find(block);
      if (found == known.from.end()) {
        continue;
      }
      for (const auto& [next, count] : found->second.to) {
        scores[next] += count / (found->second.uses + kDoubt);
      }
    }
    return scores;
  }
  void Observe(uint32_t head, const std::vector<uint32_t>& blocks) override {
    Head& known = heads_[head];
    std::vector<uint32_t> now = Sorted(blocks);
    const std::vector<uint32_t> fresh = NewBlocks(now, known.last);
    for (const uint32_t block : known.last) {
      From& from = known.from[block];
      from.uses += 1;
      for (const uint32_t next : fresh) {
        from.to[next] += 1;
      }
    }
    known.last = std::move(now);
  }

 private:
  struct From {
    double uses = 0;
    std::unordered_map<uint32_t, double> to;
  };
  struct Head {
    std::vector<uint32_t> last;  // sorted
    std::unordered_map<uint32_t, From> from;
  };
  std::vector<Head> heads_;
};

}  // namespace

std::vector<std::string> PredictorNames() {
  return {"last", "frequency", "neighbours", "layer", "markov"};
}

std::unique_ptr<Predictor> MakePredictor(const std::string& name, const Trace& trace) {
  if (name == "frequency") {
    return std::make_unique<OftenUsed>(trace);
  }
  if (name == "neighbours") {
    return std::make_unique<Neighbours>(trace);
  }
  if (name == "layer") {
    return std::make_unique<LayerBelow>(trace);
  }
  if (name == "markov") {
    return std::make_unique<Markov>(trace);
  }
  return std::make_unique<LastStep>(trace);
}

}  // namespace tiers_bench
