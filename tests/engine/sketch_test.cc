// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Sketches in the engine: they choose among what the tree kept, they belong to the text alone, and
// every instruction set selects the same.
#include "device/registry.h"
#include "engine/engine.h"
#include "tests/support/kv_fixture.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

namespace hipattn::engine {
namespace {

constexpr uint32_t kQHeads = 6;
constexpr uint32_t kKvHeads = 2;
constexpr uint32_t kDim = 80;
constexpr uint32_t kMostTokens = 6000;

// A text: q, k and v of every token. Keys that drift, so that neighbours are alike, and lone keys
// that queries look for.
class TokenRows {
 public:
  explicit TokenRows(uint64_t seed) : random_(seed) {
    q_ = random_.Normals(size_t{kMostTokens} * kQHeads * kDim);
    v_ = random_.Normals(size_t{kMostTokens} * kKvHeads * kDim);
    std::vector<float> drift = random_.Normals(size_t{kKvHeads} * kDim);
    for (uint32_t t = 0; t < kMostTokens; ++t) {
      for (float& x : drift) {
        x = 0.97F * x + 0.24F * random_.Normal();
        k_.push_back(x + 0.7F * random_.Normal());
      }
    }
    for (float& x : q_) {
      x *= 2.0F;
    }
  }
  const float* q(uint64_t token) const { return q_.data() + token * kQHeads * kDim; }
  const float* k(uint64_t token) const { return k_.data() + token * kKvHeads * kDim; }
  const float* v(uint64_t token) const { return v_.data() + token * kKvHeads * kDim; }

 private:
  testing::Random random_;
  std::vector<float> q_, k_, v_;
};

const TokenRows& Rows() {
  static const TokenRows rows(1);
  return rows;
}

EngineOptions SmallEngine(uint32_t block_tokens = 16, uint32_t num_threads = 2) {
  EngineOptions options;
  options.num_layers = 1;
  options.num_q_heads = kQHeads;
  options.num_kv_heads = kKvHeads;
  options.head_dim = kDim;
  options.block_tokens = block_tokens;
  options.num_threads = num_threads;
  options.device_kv_bytes = uint64_t{256} << 20;
  return ResolveEngineOptions(options).value();
}

AttentionOptions Sketched(uint32_t budget, uint32_t rerank) {
  AttentionOptions options;
  options.decode_mode = static_cast<uint32_t>(DecodeMode::kSparse);
  options.budget_tokens = budget;
  options.rerank_tokens = rerank;
  options.audit_interval = kNone;
  options.sink_tokens = 16;
  options.window_tokens = 128;
  return options;
}

std::unique_ptr<Sequence> NewSequence(const std::shared_ptr<Engine>& engine,
                                      const AttentionOptions& options) {
  const AttentionOptions resolved = ResolveAttentionOptions(engine->options(), options).value();
  return std::move(Sequence::Create(engine, resolved).value());
}

// Appends the next `count` tokens of the text; what they attended to.
std::vector<float> Feed(Sequence& sequence, uint64_t first, uint32_t count) {
  std::vector<float> out(size_t{count} * kQHeads * kDim);
  Sequence* pointer = &sequence;
  AttendArgs args;
  args.sequences = {&pointer, 1};
  args.num_new_tokens = {&count, 1};
  args.q = Rows().q(first);
  args.k = Rows().k(first);
  args.v = Rows().v(first);
  args.out = out.data();
  const Status status = sequence.engine().Attend(args);
  EXPECT_TRUE(status.ok()) << status.message();
  return out;
}

// Appends the first `count` tokens without attending them.
void Append(Sequence& sequence, uint32_t count) {
  Sequence* pointer = &sequence;
  AttendArgs args;
  args.sequences = {&pointer, 1};
  args.num_new_tokens = {&count, 1};
  args.k = Rows().k(0);
  args.v = Rows().v(0);
  const Status status = sequence.engine().Attend(args);
  ASSERT_TRUE(status.ok()) << status.message();
}

std::unique_ptr<Sequence> Read(const std::shared_ptr<Engine>& engine,
                               const AttentionOptions& options,
                               uint64_t tokens,
                               uint32_t chunk = kMostTokens) {
  auto sequence = NewSequence(engine, options);
  for (uint64_t at = 0; at < tokens; at += chunk) {
    Feed(*sequence, at, static_cast<uint32_t>(std::min<uint64_t>(chunk, tokens - at)));
  }
  return sequence;
}

std::shared_ptr<Engine> NewEngine(const EngineOptions& options, std::string_view set = {}) {
  return Engine::Create(options, set).value();
}

using Selections = std::vector<std::vector<int32_t>>;  // by step and kv head

struct Steps {
  std::vector<float> out;
  Selections selections;
  bool operator==(const Steps&) const = default;
};

Steps DecodeSteps(Sequence& sequence, uint64_t first, uint32_t count) {
  Steps steps;
  for (uint32_t i = 0; i < count; ++i) {
    const std::vector<float> out = Feed(sequence, first + i, 1);
    steps.out.insert(steps.out.end(), out.begin(), out.end());
    for (uint32_t h = 0; h < kKvHeads; ++h) {
      steps.selections.push_back(sequence.Selection(0, h).value());
    }
  }
  return steps;
}

TEST(Sketches, EveryInstructionSetSelectsTheSame) {
  for (const uint32_t block_tokens : {16U, 32U, 64U}) {
    Selections want;
    for (const device::OpTable* table : device::CpuOpTables()) {
      const auto engine = NewEngine(SmallEngine(block_tokens), table->name);
      Selections got;
      for (const uint32_t candidates : {1024U, 4096U}) {  // what the tree finds; all
        const auto sequence = NewSequence(engine, Sketched(256, candidates));
        Append(*sequence, 3000);
        const Selections steps = DecodeSteps(*sequence, 3000, 5).selections;
        got.insert(got.end(), steps.begin(), steps.end());
      }
      want = want.empty() ? got : want;
      EXPECT_EQ(got, want) << table->name;
      EXPECT_GE(got[0].size(), (256 + 128) / block_tokens);
    }
  }
}

TEST(Sketches, WithoutCandidatesBeyondTheBudgetTheTreeDecides) {
  const auto engine = NewEngine(SmallEngine());
  const auto tree = Read(engine, Sketched(512, kNone), 5000);
  const auto equal = Read(engine, Sketched(512, 512), 5000);
  const auto wide = Read(engine, Sketched(512, 2048), 5000);
  const Steps want = DecodeSteps(*tree, 5000, 20);
  EXPECT_EQ(DecodeSteps(*equal, 5000, 20), want);
  EXPECT_NE(DecodeSteps(*wide, 5000, 20).selections, want.selections);
}

TEST(Sketches, ABudgetThatCoversTheTextIsDense) {
  const auto engine = NewEngine(SmallEngine());
  AttentionOptions dense = Sketched(512, 2048);
  dense.decode_mode = static_cast<uint32_t>(DecodeMode::kDense);
  const auto all = Read(engine, dense, 650);
  const auto covered = Read(engine, Sketched(512, 2048), 650);
  engine->GetStats(true);
  const std::vector<float> got = Feed(*covered, 650, 1);
  EXPECT_EQ(engine->GetStats(false).search_keys_read, 0U);
  const std::vector<float> want = Feed(*all, 650, 1);
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(got[i], want[i], 1e-5F);
  }
}

TEST(Sketches, DoNotDependOnChunksThreadsForksAndTruncates) {
  const AttentionOptions options = Sketched(256, 1024);
  const auto engine = NewEngine(SmallEngine());
  const auto whole = Read(engine, options, 4000);
  const Steps want = DecodeSteps(*whole, 4000, 30);

  EXPECT_EQ(DecodeSteps(*Read(engine, options, 4000, 37), 4000, 30), want) << "chunks";
  const auto other = NewEngine(SmallEngine(16, 5));
  EXPECT_EQ(DecodeSteps(*Read(other, options, 4000, 1000), 4000, 30), want) << "threads";

  const auto longer = Read(engine, options, 5500);
  for (const uint64_t at : {4000U, 3001U}) {
    auto fork = std::move(longer->Fork(at).value());
    if (at < 4000) {
      Feed(*fork, at, static_cast<uint32_t>(4000 - at));
    }
    EXPECT_EQ(DecodeSteps(*fork, 4000, 30), want) << "fork at " << at;
  }
  const Steps parent = DecodeSteps(*longer, 5500, 10);
  EXPECT_EQ(DecodeSteps(*Read(engine, options, 5500), 5500, 10), parent)
      << "forks left the parent as it was";
  ASSERT_TRUE(longer->Truncate(3333).ok());
  Feed(*longer, 3333, 4000 - 3333);
  EXPECT_EQ(DecodeSteps(*longer, 4000, 30), want) << "truncate";
}

// Both sides go on after a fork, each with its own tokens in the chunk of sketches they shared.
TEST(Sketches, AForkAndItsParentWriteIntoChunksOfTheirOwn) {
  const AttentionOptions options = Sketched(128, 1024);
  const auto engine = NewEngine(SmallEngine());
  const auto parent = Read(engine, options, 2000);
  auto child = std::move(parent->Fork(1900).value());
  Feed(*child, 1900, 600);
  Feed(*parent, 2000, 500);
  const Steps of_child = DecodeSteps(*child, 2500, 10);
  EXPECT_EQ(DecodeSteps(*parent, 2500, 10), of_child);
  EXPECT_EQ(DecodeSteps(*Read(engine, options, 2500), 2500, 10), of_child);
}

TEST(Sketches, SearchSwitchedOnLateSeesTheWholeText) {
  const auto engine = NewEngine(SmallEngine());
  AttentionOptions dense = Sketched(256, 1024);
  dense.decode_mode = static_cast<uint32_t>(DecodeMode::kDense);
  const auto late = Read(engine, dense, 3000, 100);
  const auto early = Read(engine, Sketched(256, 1024), 3000);
  EXPECT_LT(engine->GetStats(false).device_index_bytes, uint64_t{2} << 20);
  ASSERT_TRUE(late->SetOptions(early->options()).ok());
  EXPECT_EQ(DecodeSteps(*late, 3000, 5), DecodeSteps(*early, 3000, 5));
}

// Dense steps of AUTO let the index fall behind; whatever reads it finds it whole.
TEST(Sketches, StepsAfterDenseOnesSelectTheSame) {
  const auto engine = NewEngine(SmallEngine());
  AttentionOptions options = Sketched(256, 1024);
  options.decode_mode = static_cast<uint32_t>(DecodeMode::kAuto);
  options.dense_up_to_tokens = 2190;
  const Steps want = DecodeSteps(*Read(engine, options, 2190), 2190, 30);

  const auto grown = Read(engine, options, 2000);
  DecodeSteps(*grown, 2000, 110);
  auto fork = std::move(grown->Fork(2105).value());
  DecodeSteps(*grown, 2110, 80);
  EXPECT_EQ(DecodeSteps(*grown, 2190, 30), want);

  DecodeSteps(*fork, 2105, 85);
  EXPECT_EQ(DecodeSteps(*fork, 2190, 30), want) << "fork";

  ASSERT_TRUE(grown->Truncate(2150).ok());
  DecodeSteps(*grown, 2150, 40);
  EXPECT_EQ(DecodeSteps(*grown, 2190, 30), want) << "truncate";
}

TEST(Sketches, WhetherTheyAreKeptIsFixedOnceThereAreTokens) {
  const auto engine = NewEngine(SmallEngine());
  const auto resolve = [&](uint32_t rerank) {
    return ResolveAttentionOptions(engine->options(), Sketched(256, rerank)).value();
  };
  const auto sequence = NewSequence(engine, Sketched(256, kNone));
  ASSERT_TRUE(sequence->SetOptions(resolve(1024)).ok());
  Feed(*sequence, 0, 2000);
  EXPECT_TRUE(sequence->SetOptions(resolve(512)).ok());
  const Status refused = sequence->SetOptions(resolve(kNone));
  EXPECT_EQ(refused.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(refused.message().find("rerank_tokens is 4294967295"), std::string::npos)
      << refused.message();
}

TEST(Sketches, KeysReadAreSummariesAndSketchedTokens) {
  const auto engine = NewEngine(SmallEngine());
  const auto short_text = Read(engine, Sketched(256, 4096), 3000);
  engine->GetStats(true);
  Feed(*short_text, 3000, 1);
  // [16, 2873): the tree keeps all of it, blocks 1 to 179.
  const Stats scan = engine->GetStats(true);
  EXPECT_EQ(scan.search_keys_read, kKvHeads * 179U * 16);
  EXPECT_EQ(scan.search_bytes_read, kKvHeads * 179U * 6 * kDim);
  const auto tree = Read(engine, Sketched(1024, kNone), 5000);
  engine->GetStats(true);
  Feed(*tree, 5000, 1);
  const Stats summaries = engine->GetStats(true);
  const auto both = Read(engine, Sketched(256, 1024), 5000);
  engine->GetStats(true);
  Feed(*both, 5000, 1);
  const Stats reranked = engine->GetStats(true);
  EXPECT_EQ(reranked.search_keys_read, summaries.search_keys_read + kKvHeads * 1024);
  EXPECT_EQ(reranked.search_bytes_read,
            summaries.search_bytes_read + kKvHeads * 1024 / 16 * 6 * kDim);
  // Eight summaries: 16 scales in f32 and two int8 per dimension, in multiples of 64 bytes.
  EXPECT_EQ(summaries.search_bytes_read, summaries.search_keys_read * (64 + 16 * kDim) / 8);
}

// Keys of a block differ by .7 per dimension around a drift that the sketch holds to 2 bits; 32
// draws of blocks whose true mass is off by a factor of e^(+-.5) or so leave .5 / sqrt(32) = .09 of
// what was left out, so at most .022 of the whole, and twice that in one head of six.
TEST(Sketches, TheEstimateIsNearTheTruth) {
  for (const float softcap : {0.0F, 5.0F}) {
    EngineOptions geometry = SmallEngine();
    geometry.logit_softcap = softcap;
    const auto engine = NewEngine(geometry);
    AttentionOptions options = Sketched(128, 4096);
    options.verify_recall = 1;
    double share = 0;
    for (const uint32_t budget : {128U, 512U, 1024U}) {
      options.budget_tokens = budget;
      const auto sequence = Read(engine, options, 3000);
      Feed(*sequence, 3000, 1);
      double error = 0;
      double truth = 0;
      for (uint32_t h = 0; h < kQHeads; ++h) {
        const Recall recall = sequence->GetRecall(0, h).value();
        EXPECT_LT(recall.estimate, 0.999);
        EXPECT_NEAR(recall.estimate, recall.truth, 0.1) << budget << " softcap " << softcap;
        error += std::abs(double{recall.estimate} - double{recall.truth}) / kQHeads;
        truth += double{recall.truth} / kQHeads;
      }
      EXPECT_LT(error, 0.04) << budget << " softcap " << softcap;
      EXPECT_GT(truth, share);
      share = truth;
    }
  }
}

// Of what the tree discarded, 64 sketches speak for the rest: coarser, as these keys drift.
TEST(Sketches, TheEstimateCountsWhatTheTreeDiscarded) {
  const auto engine = NewEngine(SmallEngine());
  AttentionOptions options = Sketched(128, 512);
  options.verify_recall = 1;
  const auto sequence = Read(engine, options, 5000);
  double estimate = 0;
  double truth = 0;
  constexpr int kSteps = 8;
  for (int step = 0; step < kSteps; ++step) {
    Feed(*sequence, 5000 + static_cast<uint64_t>(step), 1);
    for (uint32_t h = 0; h < kQHeads; ++h) {
      estimate += double{sequence->GetRecall(0, h).value().estimate} / (kSteps * kQHeads);
      truth += double{sequence->GetRecall(0, h).value().truth} / (kSteps * kQHeads);
    }
  }
  EXPECT_LT(truth, 0.9);
  EXPECT_NEAR(estimate, truth, 0.05);
}

TEST(Sketches, AskingForTheEstimateChangesNothing) {
  const auto engine = NewEngine(SmallEngine());
  const auto asked = Read(engine, Sketched(256, 1024), 4000);
  const auto not_asked = Read(engine, Sketched(256, 1024), 4000);
  for (uint64_t step = 4000; step < 4005; ++step) {
    const std::vector<float> got = Feed(*asked, step, 1);
    engine->GetStats(true);
    const float first = asked->GetRecall(0, 1).value().estimate;
    EXPECT_EQ(asked->GetRecall(0, 1).value().estimate, first);
    EXPECT_EQ(engine->GetStats(false).search_keys_read, 0U);
    EXPECT_EQ(got, Feed(*not_asked, step, 1));
  }
}

// Budgets of 64 tokens grow to what is needed, not to a power of two: beyond what the tree keeps,
// and with a share of 1 to the whole text.
TEST(Sketches, MinRecallSelectsWhatReachesIt) {
  const auto engine = NewEngine(SmallEngine());
  AttentionOptions options = Sketched(64, 256);
  options.verify_recall = 1;
  std::vector<size_t> sizes;
  for (const float share : {0.6F, 0.8F, 0.9F, 1.0F}) {
    options.min_recall = share;
    const auto sequence = Read(engine, options, 5000);
    int reached = 0;
    size_t size = 0;
    constexpr int kSteps = 6;
    for (int step = 0; step < kSteps; ++step) {
      Feed(*sequence, 5000 + static_cast<uint64_t>(step), 1);
      for (uint32_t h = 0; h < kQHeads; ++h) {
        const Recall recall = sequence->GetRecall(0, h).value();
        EXPECT_GE(recall.estimate, share);
        EXPECT_GE(recall.truth, share - 0.1F);
        reached += recall.truth >= share - 1e-5F ? 1 : 0;
      }
      for (uint32_t h = 0; h < kKvHeads; ++h) {
        size += sequence->Selection(0, h).value().size();
      }
    }
    EXPECT_GE(reached, 0.9 * kSteps * kQHeads) << share;
    sizes.push_back(size / (kSteps * kKvHeads));
  }
  EXPECT_LT(sizes[0], sizes[1]);
  EXPECT_LT(sizes[1], sizes[2]);
  EXPECT_LT(sizes[2], 0.95 * static_cast<double>(sizes[3]));
  EXPECT_EQ(sizes[3], 5003 / 16 + 1);
}

TEST(Sketches, MinRecallSelectsTheSameWhateverTheThreads) {
  AttentionOptions options = Sketched(64, 256);
  options.min_recall = 0.8F;
  std::vector<Steps> steps;
  for (const uint32_t threads : {1U, 3U}) {
    const auto engine = NewEngine(SmallEngine(16, threads));
    steps.push_back(DecodeSteps(*Read(engine, options, 4000), 4000, 6));
  }
  EXPECT_EQ(steps[0], steps[1]);
}

TEST(Sketches, WhatMinRecallLooksAtIsCounted) {
  const auto engine = NewEngine(SmallEngine());
  AttentionOptions options = Sketched(256, 1024);
  const auto fixed = Read(engine, options, 4000);
  engine->GetStats(true);
  Feed(*fixed, 4000, 1);
  const Stats search = engine->GetStats(true);
  options.min_recall = 0.01F;  // reached at once, so there is one estimate per kv head
  const auto grown = Read(engine, options, 4000);
  engine->GetStats(true);
  Feed(*grown, 4000, 1);
  const Stats both = engine->GetStats(true);
  // 48 blocks that were kept and not selected, 64 that were discarded, up to 32 attended.
  const uint64_t keys = both.search_keys_read - search.search_keys_read;
  EXPECT_GT(keys, kKvHeads * (48U + 64U) * 16);
  EXPECT_LE(keys, kKvHeads * (48U + 64U + 32U) * 16);
  const uint64_t key_tokens = keys - uint64_t{kKvHeads} * (48 + 64) * 16;
  EXPECT_EQ(both.search_bytes_read - search.search_bytes_read,
            uint64_t{kKvHeads} * (48 + 64) * 6 * kDim + key_tokens * kDim * 4);
}

TEST(Sketches, HipPrefillSearchesByThem) {
  const auto engine = NewEngine(SmallEngine());
  AttentionOptions options = Sketched(256, 1024);
  options.prefill_mode = static_cast<uint32_t>(PrefillMode::kHip);
  const auto whole = NewSequence(engine, options);
  const std::vector<float> want = Feed(*whole, 0, 2560);
  const auto pieces = NewSequence(engine, options);
  std::vector<float> got;
  for (uint32_t at = 0; at < 2560; at += 640) {
    const std::vector<float> out = Feed(*pieces, at, 640);
    got.insert(got.end(), out.begin(), out.end());
  }
  EXPECT_EQ(got, want) << "chunks end at multiples of 64";
  options.rerank_tokens = kNone;
  const auto tree = NewSequence(engine, options);
  EXPECT_NE(Feed(*tree, 0, 2560), want);
}

}  // namespace
}  // namespace hipattn::engine
