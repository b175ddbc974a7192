// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Engine and Sequence as wholes: what a text gives depends on the text alone, not on how it came to
// be.
#include "engine/engine.h"

#include "device/registry.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

namespace hipattn::engine {
namespace {

constexpr uint32_t kKvHeads = 2;
constexpr uint32_t kQHeads = 6;
constexpr uint32_t kDim = 64;

// The same value for the same (seed, row, element) always.
float Noise(uint32_t seed, uint64_t row, uint64_t element) {
  uint64_t x = (row * 1000003 + element) * 2654435761U + seed;
  x ^= x >> 29;
  x *= 0xbf58476d1ce4e5b9U;
  x ^= x >> 32;
  return static_cast<float>(x & 0xffffU) / 32768.0F - 1.0F;
}

std::vector<float> Rows(uint32_t seed, uint64_t first, uint64_t rows, uint32_t heads) {
  std::vector<float> out(rows * heads * kDim);
  for (uint64_t r = 0; r < rows; ++r) {
    for (uint64_t e = 0; e < heads * kDim; ++e) {
      out[r * heads * kDim + e] = Noise(seed, first + r, e);
    }
  }
  return out;
}

struct Step {
  std::vector<float> out, lse;
  bool operator==(const Step&) const = default;
};

class EngineTest : public ::testing::TestWithParam<std::string> {
 protected:
  void Make(EngineOptions given = {}) {
    given.num_layers = std::max(given.num_layers, 1U);
    given.num_q_heads = kQHeads;
    given.num_kv_heads = kKvHeads;
    given.head_dim = kDim;
    given.num_threads = given.num_threads == 0 ? 2 : given.num_threads;
    const EngineOptions resolved = ResolveEngineOptions(given).value();
    engine_ = Engine::Create(resolved, GetParam()).value();
  }

  std::unique_ptr<Sequence> NewSequence(AttentionOptions given) {
    const AttentionOptions resolved = ResolveAttentionOptions(engine_->options(), given).value();
    auto sequence = std::move(Sequence::Create(engine_, resolved).value());
    // An earlier sequence may have had this address.
    std::erase_if(lengths_, [&](const auto& entry) { return entry.first.first == sequence.get(); });
    return sequence;
  }

  // The tree alone.
  static AttentionOptions Sparse(Search search = Search::kTree) {
    AttentionOptions options;
    options.decode_mode = static_cast<uint32_t>(DecodeMode::kSparse);
    options.search = static_cast<uint32_t>(search);
    options.budget_tokens = 128;
    options.sink_tokens = 16;
    options.window_tokens = 64;
    options.rerank_tokens = kNone;
    return options;
  }

  // Tokens of the one text that all tests read, at the sequence's end; `variant` other than 0 makes
  // another text.
  Result<Step> Feed(Sequence& sequence, uint32_t count, uint32_t layer = 0, uint32_t variant = 0) {
    const uint64_t first = lengths_[{&sequence, layer}];
    const std::vector<float> q = Rows(1 + variant, first, count, kQHeads);
    const std::vector<float> k = Rows(1001 + variant, first, count, kKvHeads);
    const std::vector<float> v = Rows(2001 + variant, first, count, kKvHeads);
    Step step{std::vector<float>(q.size()), std::vector<float>(uint64_t{count} * kQHeads)};
    Sequence* pointer = &sequence;
    AttendArgs args;
    args.layer = layer;
    args.sequences = {&pointer, 1};
    args.num_new_tokens = {&count, 1};
    args.q = q.data();
    args.k = k.data();
    args.v = v.data();
    args.out = step.out.data();
    args.lse = step.lse.data();
    HIPATTN_RETURN_IF_ERROR(engine_->Attend(args));
    lengths_[{&sequence, layer}] += count;
    return step;
  }

  void SetLength(Sequence& sequence, uint64_t length, uint32_t layer = 0) {
    lengths_[{&sequence, layer}] = length;
  }

  std::shared_ptr<Engine> engine_;
  std::map<std::pair<Sequence*, uint32_t>, uint64_t> lengths_;
};

TEST_P(EngineTest, TruncateAndForkEqualATextThatEndedThere) {
  for (const Search search : {Search::kTree, Search::kFlat, Search::kStaged, Search::kBeam}) {
    Make();
    for (const uint32_t cut : {1U, 16U, 700U, 1023U, 1024U}) {
      const auto fresh = NewSequence(Sparse(search));
      ASSERT_TRUE(Feed(*fresh, cut).ok());
      const auto longer = NewSequence(Sparse(search));
      ASSERT_TRUE(Feed(*longer, 1100).ok());
      const auto fork = std::move(longer->Fork(cut).value());
      SetLength(*fork, cut);
      ASSERT_TRUE(longer->Truncate(cut).ok());
      SetLength(*longer, cut);
      EXPECT_EQ(longer->length(), cut);
      // The parent writes other tokens first: they must not reach the fork.
      ASSERT_TRUE(Feed(*longer, 1, 0, 7).ok());
      ASSERT_TRUE(longer->Truncate(cut).ok());
      SetLength(*longer, cut);
      for (int s = 0; s < 18; ++s) {
        const Step want = Feed(*fresh, 1).value();
        ASSERT_EQ(Feed(*fork, 1).value(), want) << "fork at " << cut << ", step " << s;
        ASSERT_EQ(Feed(*longer, 1).value(), want) << "truncated to " << cut << ", step " << s;
        ASSERT_EQ(fork->Selection(0, 1).value(), fresh->Selection(0, 1).value());
      }
    }
  }
}

TEST_P(EngineTest, ChunksOfAnySizeGiveTheSameText) {
  Make();
  const auto whole = NewSequence(Sparse());
  ASSERT_TRUE(Feed(*whole, 1311).ok());
  const auto pieces = NewSequence(Sparse());
  for (const uint32_t count : {1U, 15U, 1U, 200U, 33U, 1061U}) {
    ASSERT_TRUE(Feed(*pieces, count).ok());
  }
  for (int s = 0; s < 20; ++s) {
    ASSERT_EQ(Feed(*pieces, 1).value(), Feed(*whole, 1).value());
  }
}

TEST_P(EngineTest, SearchThatIsSwitchedOnLateSeesTheWholeText) {
  Make();
  AttentionOptions dense = Sparse();
  dense.decode_mode = static_cast<uint32_t>(DecodeMode::kDense);
  const auto late = NewSequence(dense);
  const auto early = NewSequence(Sparse());
  ASSERT_TRUE(Feed(*late, 1100).ok());
  ASSERT_TRUE(Feed(*early, 1100).ok());
  ASSERT_TRUE(late->SetOptions(early->options()).ok());
  for (int s = 0; s < 5; ++s) {
    ASSERT_EQ(Feed(*late, 1).value(), Feed(*early, 1).value());
  }
}

TEST_P(EngineTest, LayersTakeTurnsToSearch) {
  EngineOptions options;
  options.num_layers = 4;
  Make(options);
  AttentionOptions sparse = Sparse();
  sparse.refresh_interval = 4;
  const auto sequence = NewSequence(sparse);
  for (uint32_t layer = 0; layer < 4; ++layer) {
    ASSERT_TRUE(Feed(*sequence, 1000, layer).ok());
  }
  for (uint32_t step = 0; step < 9; ++step) {
    for (uint32_t layer = 0; layer < 4; ++layer) {
      engine_->GetStats(true);
      ASSERT_TRUE(Feed(*sequence, 1, layer).ok());
      const bool searched = engine_->GetStats(false).search_keys_read > 0;
      EXPECT_EQ(searched, step == 0 || (step + layer) % 4 == 0) << step << " " << layer;
    }
  }
}

TEST_P(EngineTest, RecallIsKnownOnlyWhereItCanBe) {
  Make();
  AttentionOptions options = Sparse();
  options.verify_recall = 1;
  const auto sequence = NewSequence(options);
  EXPECT_TRUE(std::isnan(sequence->GetRecall(0, 0).value().estimate));
  ASSERT_TRUE(Feed(*sequence, 1000).ok());
  ASSERT_TRUE(Feed(*sequence, 1).ok());
  for (uint32_t h = 0; h < kQHeads; ++h) {
    const Recall recall = sequence->GetRecall(0, h).value();
    EXPECT_EQ(recall.mode, 1U);
    EXPECT_GT(recall.truth, 0.1F);
    EXPECT_LE(recall.truth, 1.0F);
    EXPECT_NEAR(recall.estimate, recall.truth, 0.35F);
    EXPECT_TRUE(std::isnan(recall.audited_loss));
  }
  EXPECT_NEAR(
      engine_->GetStats(false).recall_estimate, sequence->GetRecall(0, 0).value().estimate, 0.3);

  options.scorer = static_cast<uint32_t>(Scorer::kMean);
  const auto mean = NewSequence(options);
  ASSERT_TRUE(Feed(*mean, 1000).ok());
  ASSERT_TRUE(Feed(*mean, 1).ok());
  EXPECT_TRUE(std::isnan(mean->GetRecall(0, 0).value().estimate));
  EXPECT_FALSE(std::isnan(mean->GetRecall(0, 0).value().truth));
}

// A HIP prefill searches with the same walks: an estimate of the step before is known if it was
// asked for in time, and never one of another search.
TEST_P(EngineTest, RecallOfAStepBeforeAHipPrefillIsItsOwnOrUnknown) {
  EngineOptions two;
  two.num_layers = 2;
  Make(two);
  AttentionOptions options = Sparse();
  options.prefill_mode = static_cast<uint32_t>(PrefillMode::kHip);
  options.window_tokens = 96;
  constexpr uint32_t kLayer = 1;  // in its first step the engine's own statistics ask layer 0
  const auto asked = NewSequence(options);
  const auto late = NewSequence(options);
  std::vector<float> before(kQHeads);
  for (Sequence* sequence : {asked.get(), late.get()}) {
    ASSERT_TRUE(Feed(*sequence, 1000, kLayer).ok());
    ASSERT_TRUE(Feed(*sequence, 1, kLayer).ok());
    for (uint32_t h = 0; h < kQHeads && sequence == asked.get(); ++h) {
      before[h] = sequence->GetRecall(kLayer, h).value().estimate;
      EXPECT_FALSE(std::isnan(before[h]));
    }
    ASSERT_TRUE(Feed(*sequence, 500, kLayer).ok());
  }
  for (uint32_t h = 0; h < kQHeads; ++h) {
    EXPECT_EQ(asked->GetRecall(kLayer, h).value().estimate, before[h]);
    EXPECT_TRUE(std::isnan(late->GetRecall(kLayer, h).value().estimate));
  }
}

TEST_P(EngineTest, MinRecallGrowsTheBudgetUntilItIsReached) {
  Make();
  AttentionOptions options = Sparse();
  const auto fixed = NewSequence(options);
  options.min_recall = 0.9F;
  const auto grown = NewSequence(options);
  for (Sequence* sequence : {fixed.get(), grown.get()}) {
    ASSERT_TRUE(Feed(*sequence, 1500).ok());
    ASSERT_TRUE(Feed(*sequence, 1).ok());
  }
  EXPECT_GT(grown->Selection(0, 0).value().size(), fixed->Selection(0, 0).value().size());
  for (uint32_t h = 0; h < kQHeads; ++h) {
    EXPECT_LT(fixed->GetRecall(0, h).value().estimate, 0.9F);
    EXPECT_GE(grown->GetRecall(0, h).value().estimate, 0.9F);
  }
}

TEST_P(EngineTest, OutOfBudgetChangesNothing) {
  EngineOptions small;
  small.device_kv_bytes = uint64_t{2} << 20;
  Make(small);
  const auto sequence = NewSequence(Sparse());
  const auto twin = NewSequence(Sparse());
  ASSERT_TRUE(Feed(*sequence, 600).ok());
  ASSERT_TRUE(Feed(*twin, 600).ok());
  EXPECT_EQ(Feed(*sequence, 60000).status().code(), StatusCode::kOutOfBudget);
  EXPECT_EQ(sequence->length(), 600U);
  EXPECT_EQ(sequence->Reserve(60000).code(), StatusCode::kOutOfBudget);
  EXPECT_EQ(Feed(*sequence, 1).value(), Feed(*twin, 1).value());
}

TEST_P(EngineTest, ReservedRoomIsNeverRefused) {
  EngineOptions small;
  small.device_kv_bytes = uint64_t{3} << 20;
  Make(small);
  const auto sequence = NewSequence(Sparse());
  ASSERT_TRUE(sequence->Reserve(2000).ok());
  const auto greedy = NewSequence(Sparse());
  while (Feed(*greedy, 256).ok()) {
  }
  for (int chunk = 0; chunk < 20; ++chunk) {
    ASSERT_TRUE(Feed(*sequence, 100).ok()) << chunk;
  }
}

// The last block, half full, would have been the child's, too: a copy of it would have to be paid.
TEST_P(EngineTest, AForkThatFailsLeavesTheReservation) {
  EngineOptions small;
  small.device_kv_bytes = uint64_t{3} << 20;
  Make(small);
  const auto sequence = NewSequence(Sparse());
  ASSERT_TRUE(sequence->Reserve(2000).ok());
  ASSERT_TRUE(Feed(*sequence, 104).ok());
  const auto greedy = NewSequence(Sparse());
  for (const uint32_t chunk : {256U, 16U, 1U}) {
    while (Feed(*greedy, chunk).ok()) {
    }
  }
  EXPECT_EQ(sequence->Fork(104).status().code(), StatusCode::kOutOfBudget);
  EXPECT_TRUE(Feed(*sequence, 1896).ok());
  EXPECT_EQ(sequence->length(), 2000U);
}

TEST_P(EngineTest, LastSequenceKeepsTheEngine) {
  Make();
  auto sequence = NewSequence(Sparse());
  std::weak_ptr<Engine> alive = engine_;
  ASSERT_TRUE(Feed(*sequence, 100).ok());
  engine_.reset();
  EXPECT_FALSE(alive.expired());
  sequence.reset();
  EXPECT_TRUE(alive.expired());
}

TEST_P(EngineTest, CancelledCallAppendsNothing) {
  Make();
  const auto sequence = NewSequence(Sparse());
  ASSERT_TRUE(Feed(*sequence, 500).ok());
  engine_->Cancel();  // nothing runs: no effect
  ASSERT_TRUE(Feed(*sequence, 1).ok());
  ASSERT_TRUE(sequence->Truncate(500).ok());
  SetLength(*sequence, 500);
  std::atomic<bool> stop{false};
  std::thread canceller([&] {
    while (!stop.load()) {
      engine_->Cancel();
    }
  });
  Status status;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (status.ok() && std::chrono::steady_clock::now() < deadline) {
    status = Feed(*sequence, 1).status();
    if (status.ok()) {
      ASSERT_TRUE(sequence->Truncate(500).ok());
      SetLength(*sequence, 500);
    }
  }
  stop.store(true);
  canceller.join();
  EXPECT_EQ(status.code(), StatusCode::kCancelled);
  EXPECT_EQ(sequence->length(), 500U);
  const auto fresh = NewSequence(Sparse());
  ASSERT_TRUE(Feed(*fresh, 500).ok());
  EXPECT_EQ(Feed(*sequence, 1).value(), Feed(*fresh, 1).value());
}

std::vector<std::string> InstructionSets() {
  std::vector<std::string> names;
  for (const device::OpTable* table : device::CpuOpTables()) {
    names.emplace_back(table->name);
  }
  return names;
}

INSTANTIATE_TEST_SUITE_P(InstructionSet,
                         EngineTest,
                         ::testing::ValuesIn(InstructionSets()),
                         [](const auto& set) { return set.param; });

}  // namespace
}  // namespace hipattn::engine
