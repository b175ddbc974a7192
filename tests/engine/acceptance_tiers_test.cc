// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Acceptance tests of the project's brief for texts that lie in tiers: hit rates (T29) and many
// texts that share one budget. docs/testing.md names the others.
#include "tests/engine/batch_fixture.h"

#include <memory>
#include <random>
#include <utility>

namespace hipattn::test {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

hipattn_engine_options_t TieredOptions(const Geometry& geometry,
                                       const hipattn_attention_options_t& attention,
                                       uint64_t tokens,
                                       uint32_t num_sequences) {
  hipattn_engine_options_t options = EngineOptionsOf(geometry, HIPATTN_BF16, 1, 2);
  options.host_kv_bytes = 256 * kMiB;
  hipattn_memory_need_t need = HIPATTN_MEMORY_NEED_INIT;
  EXPECT_EQ(hipattn_memory_need(&options, &attention, tokens, num_sequences, &need), HIPATTN_OK)
      << hipattn_last_error_message();
  options.device_kv_bytes = need.device_bytes_min;
  return options;
}

// What `steps` decode steps had to fetch.
uint64_t FetchedBy(
    Engine& engine, Sequence& sequence, const Geometry& geometry, uint64_t at, uint64_t steps) {
  const uint64_t before = engine.Stats().blocks_fetched;
  for (uint64_t step = 0; step < steps; ++step) {
    Decode(engine, sequence, geometry, 1, at + step);
  }
  return engine.Stats().blocks_fetched - before;
}

// T29: steps that keep their selection miss nothing once it is there, however long the text.
TEST(TiersAcceptance, T29_AKeptSelectionIsAllHits) {
  constexpr Geometry kGeometry = {4, 2, 64};
  hipattn_attention_options_t attention = SparseOptions(128, 16, 64);
  attention.prefill_mode = HIPATTN_PREFILL_DENSE;
  attention.refresh_interval = 1000;
  Engine engine(TieredOptions(kGeometry, attention, 6000, 1));
  Sequence sequence(engine, attention);
  Feed(engine, sequence, kGeometry, 1, 0, 5000, {.chunk = 1000});
  EXPECT_GT(FetchedBy(engine, sequence, kGeometry, 5000, 1), 0U);
  const uint64_t hits = engine.Stats().blocks_hit;
  EXPECT_EQ(FetchedBy(engine, sequence, kGeometry, 5001, 100), 0U);
  EXPECT_GT(engine.Stats().blocks_hit, hits);
}

// T29: where all of a text fits, one pass over it brings it and the others are hits.
TEST(TiersAcceptance, T29_AWorkingSetThatFitsIsAllHitsAfterOnePass) {
  constexpr Geometry kGeometry = {4, 2, 64};
  hipattn_attention_options_t attention = SparseOptions(128, 16, 64);
  attention.prefill_mode = HIPATTN_PREFILL_DENSE;
  attention.decode_mode = HIPATTN_DECODE_DENSE;
  hipattn_engine_options_t options = TieredOptions(kGeometry, attention, 2000, 1);
  options.device_kv_bytes += 2 * kMiB;  // 2000 tokens of two heads have 1 MB
  Engine engine(options);
  Sequence sequence(engine, attention);
  Feed(engine, sequence, kGeometry, 1, 0, 1900, {.chunk = 500});
  {
    Sequence other(engine, attention);
    Feed(engine, other, kGeometry, 2, 0, 8000, {.chunk = 500});
  }
  EXPECT_GE(FetchedBy(engine, sequence, kGeometry, 1900, 1), 1900U / 16);
  EXPECT_EQ(FetchedBy(engine, sequence, kGeometry, 1901, 50), 0U);
}

// Up to 32 texts that begin and end at random, all of them in every call, with the budget that
// hipattn_memory_need names as the least for 32 of the longest: each text has its token in every
// round, with the bits it would have alone with everything resident, and nothing is left behind.
class ManyTexts {
 public:
  ManyTexts()
      : attention_(SparseOptions(64, 16, 64)),
        tiered_(TieredOptions(kGeometry, attention_, kMostTokens, kMostTexts)),
        resident_(EngineOptionsOf(kGeometry, HIPATTN_BF16, 1, 2)) {}

  void Round() {
    while (texts_.size() < kMostTexts && Below(3) != 0) {
      texts_.push_back(std::make_unique<Text>(
          Text{Sequence(tiered_, attention_), Sequence(resident_, attention_), next_seed_++, 0}));
    }
    if (texts_.empty()) {
      return;
    }
    std::vector<uint32_t> counts;
    for (const auto& text : texts_) {
      counts.push_back(text->length == 0 ? 1 + Below(500) : 1);
    }
    const Floats got = Attend(tiered_, counts, [](Text& text) { return text.tiered.get(); });
    const Floats want = Attend(resident_, counts, [](Text& text) { return text.resident.get(); });
    ExpectSameBits(got, want, "out");
    most_ = std::max(most_, texts_.size());
    for (size_t i = texts_.size(); i-- > 0;) {
      texts_[i]->length += counts[i];
      if (texts_[i]->length == kMostTokens || Below(24) == 0) {
        texts_.erase(texts_.begin() + static_cast<ptrdiff_t>(i));
      }
    }
  }

  void End() {
    EXPECT_EQ(most_, kMostTexts);
    EXPECT_GT(tiered_.Stats().blocks_evicted, 0U);
    texts_.clear();
    const hipattn_stats_t stats = tiered_.Stats();
    EXPECT_EQ(stats.device_bytes, 0U);
    EXPECT_EQ(stats.host_bytes, 0U);
  }

 private:
  static constexpr Geometry kGeometry = {2, 1, 32};
  static constexpr uint32_t kMostTexts = 32;
  static constexpr uint64_t kMostTokens = 600;

  struct Text {
    Sequence tiered, resident;
    uint32_t seed;
    uint64_t length;
  };

  uint32_t Below(uint32_t n) { return static_cast<uint32_t>(random_() % n); }

  template <typename HandleOf>
  Floats Attend(Engine& engine, const std::vector<uint32_t>& counts, const HandleOf& handle_of) {
    std::vector<BatchPart> parts;
    for (size_t i = 0; i < texts_.size(); ++i) {
      parts.push_back({handle_of(*texts_[i]), texts_[i]->seed, texts_[i]->length, counts[i]});
    }
    return AttendBatch(engine, kGeometry, 0, parts);
  }

  std::mt19937_64 random_{32};
  hipattn_attention_options_t attention_;
  Engine tiered_, resident_;
  std::vector<std::unique_ptr<Text>> texts_;
  uint32_t next_seed_ = 0;
  size_t most_ = 0;
};

TEST(TiersAcceptance, ThirtyTwoTextsShareABudget) {
  ManyTexts texts;
  for (uint32_t round = 0; round < 150 && !::testing::Test::HasFailure(); ++round) {
    SCOPED_TRACE(::testing::Message() << "round " << round);
    texts.Round();
  }
  texts.End();
}

}  // namespace
}  // namespace hipattn::test
