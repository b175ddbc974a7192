// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Random operations on texts whose blocks lie in the host tier, each beside the same operation on a
// fully resident engine: the same bits, and no byte left at the end.
#include "tests/engine/engine_fixture.h"
#include "tests/support/temporary_folder.h"

#include <memory>
#include <random>
#include <span>
#include <utility>

namespace hipattn::test {
namespace {

#if defined(HIPATTN_TEST_OPERATIONS)
constexpr uint64_t kOperations = HIPATTN_TEST_OPERATIONS;
#else
constexpr uint64_t kOperations = 10'000;
#endif
constexpr Geometry kGeometry = {2, 1, 16};
constexpr uint32_t kLayers = 2;
constexpr uint64_t kMostTokens = 1500;
constexpr size_t kMostTexts = 5;

hipattn_engine_options_t EngineOptions(bool tiers) {
  hipattn_engine_options_t options = EngineOptionsOf(kGeometry, HIPATTN_BF16, kLayers, 1);
  if (tiers) {
    options.host_kv_bytes = uint64_t{64} << 20;
  }
  return options;
}

hipattn_attention_options_t AttentionOptions() {
  hipattn_attention_options_t options = SparseOptions(64, 16, 64);
  options.rerank_tokens = 128;
  options.prefill_mode = HIPATTN_PREFILL_DENSE;
  options.audit_interval = 16;
  return options;
}

// The same text in both engines.
struct Text {
  Sequence tiered, resident;
  uint32_t seed;
};

class RandomTexts {
 public:
  explicit RandomTexts(uint64_t device_kv_bytes)
      : tiered_(Limited(device_kv_bytes)), resident_(EngineOptions(false)) {}

  void Run(uint64_t operations) {
    for (step_ = 0; step_ < operations && !::testing::Test::HasFailure(); ++step_) {
      SCOPED_TRACE(::testing::Message() << "operation " << step_);
      Operate();
    }
    texts_.clear();
    const hipattn_stats_t stats = tiered_.Stats();
    EXPECT_EQ(stats.device_bytes, 0U);
    EXPECT_EQ(stats.host_bytes, 0U);
    EXPECT_GT(stats.blocks_fetched, 0U);
    EXPECT_GT(stats.blocks_evicted, 0U);
    EXPECT_LE(stats.device_bytes_peak, limit_);
  }

 private:
  hipattn_engine_options_t Limited(uint64_t device_kv_bytes) {
    limit_ = device_kv_bytes;
    hipattn_engine_options_t options = EngineOptions(true);
    options.device_kv_bytes = device_kv_bytes;
    return options;
  }

  uint64_t Below(uint64_t n) { return random_() % n; }

  void Operate() {
    if (texts_.empty()) {
      return Create();
    }
    Text& text = *texts_[Below(texts_.size())];
    const uint64_t length = hipattn_sequence_length(text.tiered.get());
    const uint64_t kind = Below(100);
    if (kind < 70) {
      Attend(text, length, 1, kDecode);
    } else if (kind < 84) {
      Attend(text, length, 2 + Below(Below(8) == 0 ? 600 : 60), kPrefill);
    } else if (kind < 86) {
      Attend(text, length, 1 + Below(4), kDecode);
    } else if (kind < 89) {
      Create();
    } else if (kind < 92) {
      Fork(text, Below(length + 1));
    } else if (kind < 95) {
      const uint64_t tokens =
          Below(4) == 0 ? 0 : length - Below(std::min<uint64_t>(length, 100) + 1);
      ExpectSame(hipattn_sequence_truncate(text.tiered.get(), tokens),
                 hipattn_sequence_truncate(text.resident.get(), tokens));
      text.seed = static_cast<uint32_t>(random_());
    } else if (kind < 97) {
      SetOptions(text);
    } else if (kind < 98) {
      Reserve(text, Below(kMostTokens));
    } else if (kind < 99) {
      SaveAndLoad(text);
    } else {
      texts_.erase(texts_.begin() + static_cast<ptrdiff_t>(Below(texts_.size())));
    }
  }

  void Create() {
    if (texts_.size() < kMostTexts) {
      const hipattn_attention_options_t options = AttentionOptions();
      texts_.push_back(std::make_unique<Text>(Text{Sequence(tiered_, options),
                                                   Sequence(resident_, options),
                                                   static_cast<uint32_t>(random_())}));
    }
  }

  static void ExpectSame(hipattn_status_t got, hipattn_status_t want) {
    EXPECT_EQ(got, want) << hipattn_last_error_message();
  }

  void Attend(Text& text, uint64_t at, uint64_t count, uint32_t phase) {
    count = std::min(count, kMostTokens - at);
    if (count == 0) {
      ExpectSame(hipattn_sequence_truncate(text.tiered.get(), 0), HIPATTN_OK);
      ExpectSame(hipattn_sequence_truncate(text.resident.get(), 0), HIPATTN_OK);
      return;
    }
    for (uint32_t layer = 0; layer < kLayers; ++layer) {
      Rows got = MakeRows(kGeometry, text.seed, layer, at, count);
      const hipattn_status_t status = TryAttend(tiered_, text.tiered, layer, got, phase);
      if (status == HIPATTN_OUT_OF_BUDGET) {
        ++refused_;
        EXPECT_EQ(got.out[0], Rows::kUnset);
        ExpectSame(hipattn_sequence_truncate(text.tiered.get(), at), HIPATTN_OK);
        ExpectSame(hipattn_sequence_truncate(text.resident.get(), at), HIPATTN_OK);
        return;
      }
      ASSERT_EQ(status, HIPATTN_OK) << hipattn_last_error_message();
      Rows want = MakeRows(kGeometry, text.seed, layer, at, count);
      ASSERT_EQ(TryAttend(resident_, text.resident, layer, want, phase), HIPATTN_OK);
      ExpectSameRows(got, want);
    }
  }

  void Fork(Text& text, uint64_t tokens) {
    if (texts_.size() == kMostTexts) {
      return;
    }
    try {
      Sequence tiered = text.tiered.Fork(tokens);
      texts_.push_back(std::make_unique<Text>(
          Text{std::move(tiered), text.resident.Fork(tokens), static_cast<uint32_t>(random_())}));
    } catch (const Error& error) {
      EXPECT_EQ(error.status(), HIPATTN_OUT_OF_BUDGET) << error.what();
      ++refused_;
    }
  }

  void SetOptions(Text& text) {
    hipattn_attention_options_t options = AttentionOptions();
    options.decode_mode = Below(3) == 0 ? HIPATTN_DECODE_DENSE : HIPATTN_DECODE_SPARSE;
    options.prefill_mode = Below(3) == 0 ? HIPATTN_PREFILL_HIP : HIPATTN_PREFILL_DENSE;
    options.window_tokens = Below(2) == 0 ? 80 : 160;
    options.budget_tokens = Below(2) == 0 ? 64 : 128;
    const hipattn_status_t status = hipattn_sequence_set_options(text.tiered.get(), &options);
    if (status == HIPATTN_OUT_OF_BUDGET) {
      ++refused_;
      return;
    }
    ExpectSame(status, hipattn_sequence_set_options(text.resident.get(), &options));
  }

  void Reserve(Text& text, uint64_t tokens) {
    const hipattn_status_t status = hipattn_sequence_reserve(text.tiered.get(), tokens);
    EXPECT_TRUE(status == HIPATTN_OK || status == HIPATTN_OUT_OF_BUDGET)
        << hipattn_last_error_message();
    refused_ += status == HIPATTN_OUT_OF_BUDGET ? 1 : 0;
  }

  // The text goes on from its snapshot; the resident one is not saved.
  void SaveAndLoad(Text& text) {
    const std::string path = folder_.Path("text.snapshot");
    ASSERT_EQ(hipattn_sequence_save(text.tiered.get(), path.c_str(), &kName, sizeof(kName)),
              HIPATTN_OK)
        << hipattn_last_error_message();
    try {
      text.tiered = Sequence::Load(tiered_, path, std::as_bytes(std::span(&kName, 1)));
      ++loaded_;
    } catch (const Error& error) {  // there are two of it for a moment
      EXPECT_EQ(error.status(), HIPATTN_OUT_OF_BUDGET) << error.what();
      ++refused_;
    }
  }

  static constexpr uint32_t kName = 7;

  TemporaryFolder folder_;
  std::mt19937_64 random_{11};
  uint64_t limit_ = 0;
  Engine tiered_, resident_;
  std::vector<std::unique_ptr<Text>> texts_;
  uint64_t step_ = 0;

 public:
  uint64_t refused_ = 0;
  uint64_t loaded_ = 0;
};

uint64_t LeastBytes(uint32_t num_texts) {
  const hipattn_engine_options_t engine = EngineOptions(true);
  hipattn_attention_options_t attention = AttentionOptions();
  attention.prefill_mode = HIPATTN_PREFILL_HIP;
  attention.window_tokens = 80;
  hipattn_memory_need_t need = HIPATTN_MEMORY_NEED_INIT;
  EXPECT_EQ(hipattn_memory_need(&engine, &attention, kMostTokens, num_texts, &need), HIPATTN_OK);
  return need.device_bytes_min;
}

// Nothing may be refused: the budget is what the longest texts need at least.
TEST(TiersRandom, SameBitsAsResident) {
  RandomTexts texts(LeastBytes(kMostTexts + 1));  // a text and its snapshot for a moment
  texts.Run(kOperations);
  EXPECT_EQ(texts.refused_, 0U);
  EXPECT_GT(texts.loaded_, kOperations / 200);
}

// Too little for all texts: refusals change nothing.
TEST(TiersRandom, SameBitsAsResidentWhereTheBudgetRunsOut) {
  RandomTexts texts(LeastBytes(4));
  texts.Run(kOperations / 4);
  EXPECT_GT(texts.refused_, 0U);
}

}  // namespace
}  // namespace hipattn::test
