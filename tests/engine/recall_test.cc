// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Estimates and audits on texts whose scores are chosen token by token, where the true shares are
// known by arithmetic.
#include "engine/engine.h"
#include "tests/support/kv_fixture.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <vector>

namespace hipattn::engine {
namespace {

constexpr uint32_t kDim = 64;
constexpr uint32_t kTokens = 3000;
constexpr uint32_t kSinks = 24;    // ends inside block 1
constexpr uint32_t kWindow = 100;  // begins inside a block

// One head whose queries are 8 e_0, so that a key's first element is its score.
struct ScoredText {
  explicit ScoredText(const std::vector<float>& scores)
      : q(scores.size() * kDim), k(scores.size() * kDim), v(scores.size() * kDim, 1.0F) {
    for (size_t t = 0; t < scores.size(); ++t) {
      q[t * kDim] = 8.0F;
      k[t * kDim] = scores[t];
    }
  }
  std::vector<float> q, k, v;
};

AttentionOptions Options() {
  AttentionOptions options;
  options.decode_mode = static_cast<uint32_t>(DecodeMode::kSparse);
  options.rerank_tokens = 512;
  options.sink_tokens = kSinks;
  options.window_tokens = kWindow;
  options.verify_recall = 1;
  return options;
}

// Reads all tokens but the last as one chunk, then decodes the last.
std::unique_ptr<Sequence> ReadAndStep(const ScoredText& text, const AttentionOptions& options) {
  EngineOptions geometry;
  geometry.num_layers = 1;
  geometry.num_q_heads = 1;
  geometry.num_kv_heads = 1;
  geometry.head_dim = kDim;
  geometry.device_kv_bytes = uint64_t{64} << 20;
  const auto engine = Engine::Create(ResolveEngineOptions(geometry).value()).value();
  auto sequence = std::move(
      Sequence::Create(engine, ResolveAttentionOptions(engine->options(), options).value())
          .value());
  std::vector<float> out(text.q.size());
  Sequence* pointer = sequence.get();
  uint64_t at = 0;
  for (const uint32_t count : {static_cast<uint32_t>(text.q.size() / kDim) - 1, 1U}) {
    AttendArgs args;
    args.sequences = {&pointer, 1};
    args.num_new_tokens = {&count, 1};
    args.q = text.q.data() + at * kDim;
    args.k = text.k.data() + at * kDim;
    args.v = text.v.data() + at * kDim;
    args.out = out.data();
    const Status status = engine->Attend(args);
    EXPECT_TRUE(status.ok()) << status.message();
    at += count;
  }
  return sequence;
}

// Blocks that the sinks and the window cut are searched, but only the rest of them can be left out.
// A heavy token lies in such a block on either side, attended anyway, and a heavier one in the
// block that is selected: what is left out are tokens of score 0. All blocks that the tree
// discards are in the sample, so these tokens are the whole error: none.
TEST(RecallEstimate, CountsOnlyTheSearchablePartOfABlock) {
  constexpr uint32_t kShort = 1000;
  std::vector<float> scores(kShort, 0.0F);
  scores[20] = 10.0F;
  scores[kShort - kWindow + 5] = 10.0F;
  scores[500] = 11.0F;
  AttentionOptions options = Options();
  options.audit_interval = kNone;
  options.budget_tokens = 16;
  const auto sequence = ReadAndStep(ScoredText(scores), options);
  const Recall recall = sequence->GetRecall(0, 0).value();
  const double heavy = 2 * std::exp(10.0) + std::exp(11.0);
  const double truth = (heavy + kSinks - 1 + kWindow - 1 + 15) / (heavy + kShort - 3);
  EXPECT_NEAR(recall.truth, truth, 1e-5);
  EXPECT_NEAR(recall.estimate, truth, 1e-3);
}

// min_recall grows the budget until the estimate reaches the share even if it is too high by its
// standard error: a share just below the estimate asks for more.
TEST(RecallEstimate, MinRecallHoldsTheLowerBound) {
  testing::Random random(5);
  std::vector<float> scores = random.Normals(kTokens);
  ScoredText text(scores);
  for (size_t i = 0; i < text.k.size(); ++i) {  // what sketches do not hold exactly
    text.k[i] += i % kDim == 0 ? 0.0F : random.Normal();
  }
  AttentionOptions options = Options();
  options.audit_interval = kNone;
  options.budget_tokens = 128;
  const auto fixed = ReadAndStep(text, options);
  options.min_recall = fixed->GetRecall(0, 0).value().estimate - 1e-4F;
  const auto grown = ReadAndStep(text, options);
  EXPECT_GT(grown->Selection(0, 0).value().size(), fixed->Selection(0, 0).value().size());
}

// A loss is a share of all mass, sinks and window included. Every query looks for one key among
// such as the tree cannot tell apart, with a score of .7 x 63 x 4 / 8 = 22, and one sink with 0 or
// 26: beside that, what the tree loses is e^-4 = .018 of what it was.
TEST(AuditedLoss, IsAShareOfAllMass) {
  std::vector<double> losses;
  for (const float sink_score : {0.0F, 26.0F}) {
    testing::Random random(6);
    ScoredText text(std::vector<float>(kTokens, 0.0F));
    for (size_t i = 0; i < text.k.size(); ++i) {
      text.k[i] = i % kDim == 0 ? 0.0F : random.Normal() > 0 ? 2.0F : -2.0F;
    }
    for (uint32_t t = 0; t < kTokens; ++t) {
      const uint32_t wanted = t * 7919 % (t / 2 + 1) + t / 8;
      for (uint32_t d = 1; d < kDim; ++d) {
        text.q[t * kDim + d] = 0.7F * text.k[wanted * kDim + d];
      }
    }
    text.k[3 * kDim] = sink_score;
    AttentionOptions options = Options();
    options.rerank_tokens = 256;
    options.budget_tokens = 64;
    options.audit_interval = 0;
    losses.push_back(double{ReadAndStep(text, options)->GetRecall(0, 0).value().audited_loss});
  }
  EXPECT_GT(losses[0], 0.2);
  EXPECT_LT(losses[1], 0.1 * losses[0]);
  EXPECT_GT(losses[1], 0.0);
}

}  // namespace
}  // namespace hipattn::engine
