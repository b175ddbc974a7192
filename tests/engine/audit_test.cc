// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Audits in the engine: a head whose keys the tree cannot summarise is found and then scanned;
// modes are the same whatever the threads, chunks and other sequences; forks and truncates keep
// them, failed calls do not touch them.
#include "engine/engine.h"
#include "tests/support/kv_fixture.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace hipattn::engine {
namespace {

constexpr uint32_t kLayers = 2;
constexpr uint32_t kQHeads = 4;
constexpr uint32_t kKvHeads = 2;
constexpr uint32_t kGroup = kQHeads / kKvHeads;
constexpr uint32_t kDim = 64;
constexpr uint32_t kMostTokens = 6000;
constexpr uint32_t kRetrieves = 1;  // the kv head that looks for lone keys

// A text. Kv head 0 drifts, so that the tree serves it. In kv head 1 neighbouring keys have nothing
// in common; each of its queries looks for one key far behind it, Wanted(token).
class TokenRows {
 public:
  explicit TokenRows(uint64_t seed) : random_(seed) {
    v_ = random_.Normals(size_t{kMostTokens} * kKvHeads * kDim);
    std::vector<float> drift = random_.Normals(kDim);
    for (uint32_t t = 0; t < kMostTokens; ++t) {
      for (float& x : drift) {
        x = 0.99F * x + 0.14F * random_.Normal();
        k_.push_back(x);
      }
      for (uint32_t d = 0; d < kDim; ++d) {
        k_.push_back(2.0F * random_.Normal());
      }
    }
    for (uint32_t t = 0; t < kMostTokens; ++t) {
      for (uint32_t g = 0; g < kGroup * kDim; ++g) {
        q_.push_back(random_.Normal());
      }
      for (uint32_t g = 0; g < kGroup; ++g) {
        for (uint32_t d = 0; d < kDim; ++d) {
          q_.push_back(0.7F * k(Wanted(t))[kRetrieves * kDim + d] + 0.1F * random_.Normal());
        }
      }
    }
  }
  static uint64_t Wanted(uint64_t token) { return token * 7919 % (token / 2 + 1) + token / 8; }
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

EngineOptions SmallEngine(uint32_t num_threads = 2, uint32_t block_tokens = 16) {
  EngineOptions options;
  options.num_layers = kLayers;
  options.num_q_heads = kQHeads;
  options.num_kv_heads = kKvHeads;
  options.head_dim = kDim;
  options.block_tokens = block_tokens;
  options.num_threads = num_threads;
  options.device_kv_bytes = uint64_t{256} << 20;
  return ResolveEngineOptions(options).value();
}

AttentionOptions Audited(uint32_t audit_interval, uint32_t max_scanned_heads = 2) {
  AttentionOptions options;
  options.decode_mode = static_cast<uint32_t>(DecodeMode::kSparse);
  options.budget_tokens = 128;
  options.rerank_tokens = 512;
  options.sink_tokens = 16;
  options.window_tokens = 128;
  options.audit_interval = audit_interval;
  options.max_scanned_heads = max_scanned_heads;
  return options;
}

std::unique_ptr<Sequence> NewSequence(const std::shared_ptr<Engine>& engine,
                                      const AttentionOptions& options) {
  const AttentionOptions resolved = ResolveAttentionOptions(engine->options(), options).value();
  return std::move(Sequence::Create(engine, resolved).value());
}

std::shared_ptr<Engine> NewEngine(const EngineOptions& options) {
  return Engine::Create(options).value();
}

enum class Queries { kAttend, kNone };

// The next `count` tokens of the text for `layer`. Appends what was attended to *out.
Status FeedLayer(const std::vector<Sequence*>& sequences,
                 uint32_t layer,
                 uint64_t first,
                 uint32_t count,
                 Queries queries,
                 std::vector<float>* out) {
  // Every sequence of a batch gets the same rows.
  std::vector<float> q, k, v;
  for (size_t i = 0; i < sequences.size(); ++i) {
    q.insert(q.end(), Rows().q(first), Rows().q(first + count - 1) + kQHeads * kDim);
    k.insert(k.end(), Rows().k(first), Rows().k(first + count - 1) + kKvHeads * kDim);
    v.insert(v.end(), Rows().v(first), Rows().v(first + count - 1) + kKvHeads * kDim);
  }
  std::vector<float> attended(q.size());
  const std::vector<uint32_t> counts(sequences.size(), count);
  AttendArgs args;
  args.layer = layer;
  args.sequences = sequences;
  args.num_new_tokens = counts;
  args.q = queries == Queries::kAttend ? q.data() : nullptr;
  args.k = k.data();
  args.v = v.data();
  args.out = queries == Queries::kAttend ? attended.data() : nullptr;
  Status status = sequences[0]->engine().Attend(args);
  if (out != nullptr) {
    out->insert(out->end(), attended.begin(), attended.end());
  }
  return status;
}

void Feed(const std::vector<Sequence*>& sequences,
          uint64_t first,
          uint64_t end,
          uint32_t chunk,
          Queries queries = Queries::kAttend,
          std::vector<float>* out = nullptr) {
  for (uint64_t at = first; at < end; at += chunk) {
    const auto count = static_cast<uint32_t>(std::min<uint64_t>(chunk, end - at));
    for (uint32_t layer = 0; layer < kLayers; ++layer) {
      const Status status = FeedLayer(sequences, layer, at, count, queries, out);
      ASSERT_TRUE(status.ok()) << status.message();
    }
  }
}

struct HeadReport {
  uint32_t mode;
  float loss;
  bool operator==(const HeadReport&) const = default;
};

// By layer, then q head.
std::vector<HeadReport> Report(const Sequence& sequence) {
  std::vector<HeadReport> report;
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    for (uint32_t h = 0; h < kQHeads; ++h) {
      const Recall recall = sequence.GetRecall(layer, h).value();
      // NaN is not equal to itself.
      report.push_back({recall.mode, std::isnan(recall.audited_loss) ? -1 : recall.audited_loss});
    }
  }
  return report;
}

bool Attends(const Sequence& sequence, uint32_t layer, uint32_t kv_head, uint64_t token) {
  const std::vector<int32_t> blocks = sequence.Selection(layer, kv_head).value();
  const auto block = static_cast<int32_t>(token / sequence.engine().options().block_tokens);
  return std::binary_search(blocks.begin(), blocks.end(), block);
}

// Steps among [first, end) in which the retrieving head attends the key it looks for.
uint32_t CountFound(Sequence* sequence, uint64_t first, uint64_t end) {
  uint32_t found = 0;
  for (uint64_t t = first; t < end; ++t) {
    Feed({sequence}, t, t + 1, 1);
    found += Attends(*sequence, 1, kRetrieves, TokenRows::Wanted(t)) ? 1 : 0;
  }
  return found;
}

TEST(Audit, FindsTheHeadThatTheTreeLosesAndScansIt) {
  for (const uint32_t block_tokens : {16U, 32U}) {
    const auto engine = NewEngine(SmallEngine(2, block_tokens));
    const auto audited = NewSequence(engine, Audited(0));
    const auto never = NewSequence(engine, Audited(kNone));
    Feed({audited.get(), never.get()}, 0, 5000, 5000);
    EXPECT_EQ(engine->GetStats(false).scanned_heads, 0U) << "modes change before a decode step";
    EXPECT_LT(CountFound(never.get(), 5000, 5030), 25U);
    EXPECT_EQ(CountFound(audited.get(), 5000, 5030), 30U);
    EXPECT_EQ(engine->GetStats(false).scanned_heads, 2U) << "one in each layer";
    for (uint32_t layer = 0; layer < kLayers; ++layer) {
      const Recall tree = audited->GetRecall(layer, 0).value();
      EXPECT_EQ(tree.mode, 1U);
      EXPECT_LT(tree.audited_loss, 0.005F);
      const Recall scanned = audited->GetRecall(layer, kRetrieves * kGroup).value();
      EXPECT_EQ(scanned.mode, 2U);
      EXPECT_GT(scanned.audited_loss, 0.05F);
      EXPECT_TRUE(std::isnan(never->GetRecall(layer, 2).value().audited_loss));
      EXPECT_EQ(never->GetRecall(layer, 2).value().mode, 1U);
    }
  }
}

TEST(Audit, DecodeStepsAuditToo) {
  const auto engine = NewEngine(SmallEngine());
  const auto sequence = NewSequence(engine, Audited(4));
  Feed({sequence.get()}, 0, 4000, 4000, Queries::kNone);
  EXPECT_TRUE(std::isnan(sequence->GetRecall(1, 2).value().audited_loss));
  CountFound(sequence.get(), 4000, 4012);
  EXPECT_GT(sequence->GetRecall(1, 2).value().audited_loss, 0.0F);
  EXPECT_EQ(engine->GetStats(false).scanned_heads, 0U) << "three samples are too few";
  CountFound(sequence.get(), 4012, 4020);
  EXPECT_EQ(engine->GetStats(false).scanned_heads, 2U);
  EXPECT_EQ(CountFound(sequence.get(), 4020, 4040), 20U);
}

TEST(Audit, OnlySoManyHeadsAreScannedAndTheWorstOfThem) {
  const auto engine = NewEngine(SmallEngine());
  const auto one = NewSequence(engine, Audited(0, 1));
  Feed({one.get()}, 0, 5000, 5000);
  Feed({one.get()}, 5000, 5002, 1);
  EXPECT_EQ(engine->GetStats(false).scanned_heads, 1U);
  // Both layers read the same text: equal losses, so the lower layer is scanned.
  EXPECT_EQ(one->GetRecall(0, 2).value().audited_loss, one->GetRecall(1, 2).value().audited_loss);
  EXPECT_EQ(one->GetRecall(0, 2).value().mode, 2U);
  EXPECT_EQ(one->GetRecall(1, 2).value().mode, 1U);
}

TEST(Audit, DoesNotDependOnChunksThreadsAndOtherSequences) {
  const auto steps = [](const std::vector<Sequence*>& sequences, uint32_t chunk) {
    Feed(sequences, 0, 4100, chunk);
    std::vector<float> out;
    Feed(sequences, 4100, 4160, 1, Queries::kAttend, &out);
    return out;
  };
  const auto engine = NewEngine(SmallEngine());
  const auto whole = NewSequence(engine, Audited(8));
  const std::vector<float> want = steps({whole.get()}, 4100);
  const std::vector<HeadReport> report = Report(*whole);
  EXPECT_EQ(report[2].mode, 2U);

  const auto other_engine = NewEngine(SmallEngine(5));
  const auto other = NewSequence(other_engine, Audited(8));
  EXPECT_EQ(steps({other.get()}, 300), want) << "chunks, threads";
  EXPECT_EQ(Report(*other), report);

  const auto first = NewSequence(engine, Audited(8));
  const auto second = NewSequence(engine, Audited(64));
  steps({second.get(), first.get()}, 1000);
  EXPECT_EQ(Report(*first), report) << "batch";
}

TEST(Audit, HipPrefillDoesNotDependOnChunksEither) {
  AttentionOptions options = Audited(8);
  options.prefill_mode = static_cast<uint32_t>(PrefillMode::kHip);
  options.window_tokens = 192;
  const auto engine = NewEngine(SmallEngine());
  const auto whole = NewSequence(engine, options);
  std::vector<float> want;
  ASSERT_TRUE(FeedLayer({whole.get()}, 0, 0, 3840, Queries::kAttend, &want).ok());
  const auto pieces = NewSequence(engine, options);
  std::vector<float> got;
  for (uint32_t at = 0; at < 3840; at += 640) {
    ASSERT_TRUE(FeedLayer({pieces.get()}, 0, at, 640, Queries::kAttend, &got).ok());
  }
  EXPECT_EQ(got, want);
}

// An interval that no step here is a multiple of: losses stay what the prompt made them.
TEST(Audit, ForksTakeModesAlongAndTruncatesKeepThem) {
  const auto engine = NewEngine(SmallEngine());
  const auto parent = NewSequence(engine, Audited(100000));
  Feed({parent.get()}, 0, 5000, 5000);
  CountFound(parent.get(), 5000, 5002);
  const std::vector<HeadReport> report = Report(*parent);
  EXPECT_EQ(engine->GetStats(false).scanned_heads, 2U);
  {
    auto child = std::move(parent->Fork(4500).value());
    EXPECT_EQ(engine->GetStats(false).scanned_heads, 4U);
    EXPECT_EQ(CountFound(child.get(), 4500, 4502), 2U);
    EXPECT_EQ(Report(*child), report);
  }
  EXPECT_EQ(engine->GetStats(false).scanned_heads, 2U);
  ASSERT_TRUE(parent->Truncate(4400).ok());
  EXPECT_EQ(CountFound(parent.get(), 4400, 4402), 2U);
  EXPECT_EQ(Report(*parent), report);
}

// Many decode steps in one call, each with an audit of every head, and a cancel in the middle.
TEST(Audit, ACancelledCallChangesNothing) {
  const auto engine = NewEngine(SmallEngine());
  const auto sequence = NewSequence(engine, Audited(1));
  Feed({sequence.get()}, 0, 4000, 4000);
  ASSERT_TRUE(sequence->Truncate(3900).ok());
  const std::vector<HeadReport> before = Report(*sequence);
  std::atomic<bool> done{false};
  std::thread canceller([&] {
    while (!done) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      engine->Cancel();
    }
  });
  Sequence* pointer = sequence.get();
  const uint32_t count = 2000;
  std::vector<float> out(size_t{count} * kQHeads * kDim);
  AttendArgs args;
  args.sequences = {&pointer, 1};
  args.num_new_tokens = {&count, 1};
  args.q = Rows().q(3900);
  args.k = Rows().k(3900);
  args.v = Rows().v(3900);
  args.out = out.data();
  args.phase = Phase::kDecode;
  const Status status = engine->Attend(args);
  done = true;
  canceller.join();
  EXPECT_EQ(status.code(), StatusCode::kCancelled);
  EXPECT_EQ(Report(*sequence), before);
  EXPECT_EQ(engine->GetStats(false).scanned_heads, 0U);
  EXPECT_EQ(CountFound(pointer, 3900, 3902), 2U);
  EXPECT_EQ(engine->GetStats(false).scanned_heads, 2U);
}

TEST(Audit, KeysReadAreThoseOfTheScan) {
  for (const Search search : {Search::kTree, Search::kFlat}) {
    const auto engine = NewEngine(SmallEngine());
    AttentionOptions options = Audited(kNone);
    options.search = static_cast<uint32_t>(search);
    options.rerank_tokens = 256;
    const auto never = NewSequence(engine, options);
    options.audit_interval = 1;
    const auto often = NewSequence(engine, options);
    Feed({never.get(), often.get()}, 0, 4000, 4000, Queries::kNone);
    engine->GetStats(true);
    Feed({never.get()}, 4000, 4001, 1);
    const Stats searched = engine->GetStats(true);
    Feed({often.get()}, 4000, 4001, 1);
    const Stats audited = engine->GetStats(true);
    // [16, 3873): blocks 1 to 242; summaries are looked at once more and then all sketches are
    // scored. The search itself scores the 256 tokens that the tree kept; of more than 128 blocks a
    // tree walks two levels.
    const uint64_t sketches = uint64_t{kLayers} * kKvHeads * (242 - 256 / 16);
    EXPECT_EQ(audited.search_keys_read, 2 * searched.search_keys_read + sketches * 16);
    EXPECT_EQ(audited.search_bytes_read, 2 * searched.search_bytes_read + sketches * 6 * kDim);
  }
}

TEST(Audit, ShortTextsAreNotAudited) {
  const auto engine = NewEngine(SmallEngine());
  const auto sequence = NewSequence(engine, Audited(1));
  Feed({sequence.get()}, 0, 1100, 1100);
  Feed({sequence.get()}, 1100, 1102, 1);
  EXPECT_TRUE(std::isnan(sequence->GetRecall(0, 0).value().audited_loss))
      << "the tree keeps 32 of 61 blocks";
}

TEST(Audit, OptionsThatCannotBe) {
  const EngineOptions engine = SmallEngine();
  const auto refused = [&](AttentionOptions options, StatusCode code, const char* words) {
    const Status status = ResolveAttentionOptions(engine, options).status();
    EXPECT_EQ(status.code(), code) << words;
    EXPECT_NE(status.message().find(words), std::string::npos) << status.message();
  };
  AttentionOptions options = Audited(64, 0);
  options.rerank_tokens = kNone;
  refused(options, StatusCode::kUnsupported, "audit_interval is 64");
  options = Audited(0, 1);
  options.rerank_tokens = kNone;
  refused(options, StatusCode::kUnsupported, "max_scanned_heads is 1");
  options = Audited(7, 0);
  options.rerank_tokens = 0;
  options.search = static_cast<uint32_t>(Search::kBeam);
  refused(options, StatusCode::kUnsupported, "audit_interval is 7");
  options.search = static_cast<uint32_t>(Search::kTree);
  options.scorer = static_cast<uint32_t>(Scorer::kExact);
  refused(options, StatusCode::kUnsupported, "audit_interval is 7");
  refused(
      Audited(0, kLayers * kKvHeads + 1), StatusCode::kInvalidArgument, "max_scanned_heads is 5");
  refused(Audited(uint32_t{1} << 31), StatusCode::kInvalidArgument, "audit_interval is 2147483648");

  const auto resolved = [&](const AttentionOptions& given) {
    return ResolveAttentionOptions(engine, given).value();
  };
  EXPECT_EQ(resolved(Audited(0, 0)).max_scanned_heads, 1U) << "a tenth of 4";
  options = Audited(kNone, 0);
  options.rerank_tokens = kNone;
  EXPECT_EQ(resolved(options).audit_interval, kNone);
  EXPECT_EQ(resolved(resolved(options)).max_scanned_heads, 0U);
}

}  // namespace
}  // namespace hipattn::engine
