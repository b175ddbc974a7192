// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "trace_replay.h"

#include "block_predictors.h"
#include "cache_policies.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <limits>
#include <list>
#include <memory>
#include <set>
#include <utility>
#include <vector>

namespace tiers_bench {
namespace {

uint32_t IdOf(const Trace& trace, uint32_t head, uint32_t block) {
  return head * trace.max_blocks + block;
}

// What the heads of a layer attend in a step.
std::vector<CachePolicy::Use> UsesOf(const Trace& trace, size_t step, uint32_t layer) {
  std::vector<CachePolicy::Use> uses;
  for (uint32_t i = 0; i < trace.num_kv_heads; ++i) {
    const uint32_t head = layer * trace.num_kv_heads + i;
    const Picks& picks = trace.steps[step][head];
    for (size_t n = 0; n < picks.blocks.size(); ++n) {
      uses.push_back({IdOf(trace, head, picks.blocks[n]), n < picks.num_strong, false});
    }
  }
  return uses;
}

// A cache, and beside it a partition for what was prefetched, which evicts its own oldest.
class Cache {
 public:
  Cache(const Trace& trace, const std::string& policy, uint32_t capacity, uint32_t partition)
      : capacity_(capacity),
        partition_(partition),
        policy_(MakePolicy(policy, trace.num_heads() * trace.max_blocks, capacity)),
        where_(size_t{trace.num_heads()} * trace.max_blocks),
        places_(where_.size()) {}

  CachePolicy& policy() { return *policy_; }
  bool Has(uint32_t id) const { return where_[id] != Where::kNowhere; }

  void Prefetch(uint32_t id) {
    if (waiting_.size() == partition_) {
      where_[waiting_.front()] = Where::kNowhere;
      waiting_.pop_front();
    }
    places_[id] = waiting_.insert(waiting_.end(), id);
    where_[id] = Where::kPartition;
  }

  struct Outcome {
    uint64_t missed = 0;
    uint64_t prefetched = 0;
  };
  Outcome Attend(std::vector<CachePolicy::Use> uses) {
    Outcome outcome;
    for (const CachePolicy::Use& use : uses) {
      if (where_[use.block] == Where::kCache) {
        policy_->Pin(use.block);
      }
    }
    for (CachePolicy::Use& use : uses) {
      if (where_[use.block] == Where::kCache) {
        continue;
      }
      if (where_[use.block] == Where::kPartition) {
        waiting_.erase(places_[use.block]);
        ++outcome.prefetched;
      } else {
        ++outcome.missed;
      }
      if (size_ == capacity_) {
        where_[policy_->TakeVictim()] = Where::kNowhere;
      } else {
        ++size_;
      }
      where_[use.block] = Where::kCache;
      use.fetched = true;
    }
    for (const CachePolicy::Use& use : uses) {
      policy_->Add(use);
    }
    return outcome;
  }

 private:
  enum class Where : uint8_t { kNowhere, kCache, kPartition };

  const uint32_t capacity_;
  const uint32_t partition_;
  std::unique_ptr<CachePolicy> policy_;
  std::vector<Where> where_;
  std::vector<std::list<uint32_t>::iterator> places_;  // in the partition
  std::list<uint32_t> waiting_;
  uint32_t size_ = 0;
};

double Share(uint64_t part, uint64_t all) {
  return all == 0 ? 0 : static_cast<double>(part) / static_cast<double>(all);
}

// The blocks that most speaks for, of those that the cache lacks.
std::vector<uint32_t> Best(const Scores& scores,
                           uint32_t count,
                           const std::function<bool(uint32_t)>& has) {
  std::vector<std::pair<double, uint32_t>> ranked;
  for (const auto& [block, score] : scores) {
    if (score > 0 && !has(block)) {
      ranked.emplace_back(-score, block);
    }
  }
  std::sort(ranked.begin(), ranked.end());
  std::vector<uint32_t> best;
  for (size_t i = 0; i < std::min<size_t>(count, ranked.size()); ++i) {
    best.push_back(ranked[i].second);
  }
  return best;
}

// Whether a layer's prefetches are worth it, by those of about its last ten steps.
class Usefulness {
 public:
  bool IsGood() const { return useful_ >= kLeast * fetched_; }
  void Count(uint64_t fetched, uint64_t useful) {
    fetched_ = kKept * fetched_ + static_cast<double>(fetched);
    useful_ = kKept * useful_ + static_cast<double>(useful);
  }

 private:
  static constexpr double kLeast = 0.3;
  static constexpr double kKept = 0.9;
  double fetched_ = 0;
  double useful_ = 0;
};

}  // namespace

double HitRate(const Trace& trace,
               const std::string& policy,
               uint32_t capacity,
               uint32_t warmup_steps) {
  Cache cache(trace, policy, capacity, 0);
  uint64_t attended = 0;
  uint64_t missed = 0;
  for (size_t step = 0; step < trace.steps.size(); ++step) {
    cache.policy().BeginStep(static_cast<uint32_t>(step));
    for (uint32_t layer = 0; layer < trace.num_layers; ++layer) {
      std::vector<CachePolicy::Use> uses = UsesOf(trace, step, layer);
      const uint64_t count = uses.size();
      const Cache::Outcome outcome = cache.Attend(std::move(uses));
      if (step >= warmup_steps) {
        attended += count;
        missed += outcome.missed;
      }
    }
  }
  return 1 - Share(missed, attended);
}

double BestHitRate(const Trace& trace, uint32_t capacity, uint32_t warmup_steps) {
  constexpr uint32_t kNever = std::numeric_limits<uint32_t>::max();
  std::vector<std::vector<uint32_t>> turns(size_t{trace.num_heads()} * trace.max_blocks);
  uint32_t turn = 0;
  for (size_t step = 0; step < trace.steps.size(); ++step) {
    for (uint32_t layer = 0; layer < trace.num_layers; ++layer, ++turn) {
      for (const CachePolicy::Use& use : UsesOf(trace, step, layer)) {
        turns[use.block].push_back(turn);
      }
    }
  }
  std::vector<size_t> used(turns.size());
  std::vector<uint32_t> keys(turns.size(), 0);  // the next turn; 0: not in the cache
  std::set<std::pair<uint32_t, uint32_t>> cached;
  uint64_t attended = 0;
  uint64_t hits = 0;
  for (size_t step = 0; step < trace.steps.size(); ++step) {
    for (uint32_t layer = 0; layer < trace.num_layers; ++layer) {
      const std::vector<CachePolicy::Use> uses = UsesOf(trace, step, layer);
      const bool counts = step >= warmup_steps;
      for (const CachePolicy::Use& use : uses) {
        hits += counts && keys[use.block] != 0 ? 1 : 0;
        cached.erase({keys[use.block], use.block});
      }
      attended += counts ? uses.size() : 0;
      while (cached.size() + uses.size() > capacity) {
        const auto last = std::prev(cached.end());
        keys[last->second] = 0;
        cached.erase(last);
      }
      for (const CachePolicy::Use& use : uses) {
        const std::vector<uint32_t>& all = turns[use.block];
        const size_t next = ++used[use.block];
        keys[use.block] = next < all.size() ? all[next] : kNever;
        cached.insert({keys[use.block], use.block});
      }
    }
  }
  return Share(hits, attended);
}

PrefetchResult ReplayPrefetch(const Trace& trace,
                              const std::string& policy,
                              uint32_t capacity,
                              const Prefetch& prefetch,
                              uint32_t warmup_steps) {
  constexpr uint32_t kTrySteps = 16;
  const uint32_t partition =
      std::max(1U, static_cast<uint32_t>(prefetch.partition * static_cast<double>(capacity)));
  Cache cache(trace, policy, capacity - partition, partition);
  const std::unique_ptr<Predictor> predictor = MakePredictor(prefetch.predictor, trace);
  std::vector<Usefulness> usefulness(trace.num_layers);
  PrefetchResult result;
  uint64_t missed = 0;
  uint64_t useful = 0;
  for (size_t step = 0; step < trace.steps.size(); ++step) {
    cache.policy().BeginStep(static_cast<uint32_t>(step));
    for (uint32_t layer = 0; layer < trace.num_layers; ++layer) {
      const bool on = !prefetch.switches_off || usefulness[layer].IsGood();
      const uint32_t count = on ? prefetch.blocks : step % kTrySteps == 0 ? 1 : 0;
      const uint32_t first = layer * trace.num_kv_heads;
      uint64_t fetched = 0;
      for (uint32_t head = first; count > 0 && head < first + trace.num_kv_heads; ++head) {
        const auto has = [&](uint32_t block) { return cache.Has(IdOf(trace, head, block)); };
        for (const uint32_t block : Best(predictor->Predict(head), count, has)) {
          cache.Prefetch(IdOf(trace, head, block));
          ++fetched;
        }
      }
      std::vector<CachePolicy::Use> uses = UsesOf(trace, step, layer);
      const uint64_t attended = uses.size();
      const Cache::Outcome outcome = cache.Attend(std::move(uses));
      for (uint32_t head = first; head < first + trace.num_kv_heads; ++head) {
        predictor->Observe(head, trace.steps[step][head].blocks);
      }
      usefulness[layer].Count(fetched, outcome.prefetched);
      if (step >= warmup_steps) {
        result.fetched += fetched;
        result.attended += attended;
        useful += outcome.prefetched;
        missed += outcome.missed;
      }
    }
  }
  result.hit_rate = 1 - Share(missed, result.attended);
  result.useful = Share(useful, result.fetched);
  return result;
}

}  // namespace tiers_bench
