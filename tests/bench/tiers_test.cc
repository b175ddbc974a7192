// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "block_predictors.h"
#include "cache_policies.h"
#include "trace_file.h"
#include "trace_replay.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>

namespace tiers_bench {
namespace {

// One layer with one head that attends these blocks, two per step.
Trace OneHead(const std::vector<std::vector<uint32_t>>& steps) {
  Trace trace;
  trace.num_layers = trace.num_kv_heads = 1;
  trace.block_tokens = 16;
  trace.budget_tokens = 32;
  for (const std::vector<uint32_t>& blocks : steps) {
    for (const uint32_t block : blocks) {
      trace.max_blocks = std::max(trace.max_blocks, block + 1);
    }
    trace.steps.push_back({{1, blocks}});
  }
  return trace;
}

Trace Random(uint32_t seed) {
  std::mt19937 random(seed);
  Trace trace;
  trace.num_layers = 3;
  trace.num_kv_heads = 2;
  trace.block_tokens = 16;
  trace.budget_tokens = 64;
  trace.max_blocks = 40;
  for (int step = 0; step < 100; ++step) {
    std::vector<Picks> heads;
    for (uint32_t head = 0; head < trace.num_heads(); ++head) {
      Picks picks;
      picks.num_strong = 1;
      while (picks.blocks.size() < 4) {
        const auto block = static_cast<uint32_t>(random() % (random() % trace.max_blocks + 1));
        if (std::find(picks.blocks.begin(), picks.blocks.end(), block) == picks.blocks.end()) {
          picks.blocks.push_back(block);
        }
      }
      heads.push_back(picks);
    }
    trace.steps.push_back(heads);
  }
  return trace;
}

TEST(TiersReplayTest, CountsByHand) {
  const Trace trace = OneHead({{0, 1}, {0, 2}, {1, 2}, {0, 1}});
  // Two slots, least recently used: 0 of the second step, 2 of the third, 1 of the last.
  EXPECT_DOUBLE_EQ(HitRate(trace, "lru", 2, 0), 3.0 / 8);
  EXPECT_DOUBLE_EQ(HitRate(trace, "lru", 3, 0), 5.0 / 8);
  EXPECT_DOUBLE_EQ(HitRate(trace, "lru", 2, 2), 2.0 / 4);
  EXPECT_DOUBLE_EQ(BestHitRate(trace, 2, 0), 3.0 / 8);
  EXPECT_DOUBLE_EQ(BestHitRate(trace, 3, 0), 5.0 / 8);
}

TEST(TiersReplayTest, NoPolicyBeatsTheBestPossible) {
  for (uint32_t seed = 1; seed <= 3; ++seed) {
    const Trace trace = Random(seed);
    for (const uint32_t capacity : {8U, 24U, 48U, 240U}) {
      const double best = BestHitRate(trace, capacity, 10);
      for (const std::string& policy : PolicyNames()) {
        const double rate = HitRate(trace, policy, capacity, 10);
        EXPECT_LE(rate, best) << policy << " " << capacity;
        EXPECT_GE(rate, 0) << policy;
      }
    }
  }
}

TEST(TiersReplayTest, APredictorThatIsRightIsUseful) {
  // What left the cache comes back in every second step.
  std::vector<std::vector<uint32_t>> steps;
  for (uint32_t i = 0; i < 40; ++i) {
    steps.push_back({i % 2 * 2, i % 2 * 2 + 1});
  }
  const Trace trace = OneHead(steps);
  Prefetch prefetch;
  prefetch.predictor = "markov";
  prefetch.blocks = 2;
  prefetch.partition = 0.5;
  const PrefetchResult result = ReplayPrefetch(trace, "lru", 4, prefetch, 10);
  EXPECT_DOUBLE_EQ(result.hit_rate, 1);
  EXPECT_DOUBLE_EQ(result.useful, 1);
  EXPECT_EQ(result.fetched, 60U);
  EXPECT_DOUBLE_EQ(HitRate(trace, "lru", 2, 10), 0);
}

TEST(TiersReplayTest, AnUselessPredictorSwitchesOff) {
  const Trace trace = Random(5);
  for (const std::string& predictor : PredictorNames()) {
    Prefetch prefetch;
    prefetch.predictor = predictor;
    prefetch.blocks = 4;
    const PrefetchResult always = ReplayPrefetch(trace, "lru", 24, prefetch, 10);
    prefetch.switches_off = true;
    const PrefetchResult sometimes = ReplayPrefetch(trace, "lru", 24, prefetch, 10);
    EXPECT_LE(sometimes.fetched, always.fetched) << predictor;
    EXPECT_EQ(sometimes.attended, always.attended);
  }
}

TEST(TraceFileTest, ComesBackAsItWasAndNamesTheLineThatIsWrong) {
  const std::string path = ::testing::TempDir() + "tiers_trace_test";
  const Trace trace = Random(9);
  const auto writer = TraceWriter::Create(
      path, {{"num_layers", 3}, {"num_kv_heads", 2}, {"block_tokens", 16}, {"budget_tokens", 64}});
  ASSERT_TRUE(writer.ok());
  for (const auto& step : trace.steps) {
    ASSERT_TRUE(writer.value()->Add(step).ok());
  }
  ASSERT_TRUE(writer.value()->Finish().ok());
  const Result<Trace> read = ReadTrace(path);
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_DOUBLE_EQ(HitRate(read.value(), "score", 24, 0), HitRate(trace, "score", 24, 0));
  std::ofstream(path, std::ios::app) << "{\"picks\": []}\n";
  EXPECT_NE(ReadTrace(path).status().message().find("line 102"), std::string::npos);
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace tiers_bench
