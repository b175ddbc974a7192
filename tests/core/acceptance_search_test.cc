// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
// Acceptance tests of the brief on HiP (section 9) that concern searches, by their numbers:
// guarantees, and how well a search finds keys in synthetic scores (section 8 of the brief, where
// the ranges come from). One query, one head; a score per key.
#include "core/counts.h"
#include "core/search/beam_walk.h"
#include "core/search/block_tree.h"
#include "core/search/staged_walk.h"
#include "tests/core/walk_support.h"

#include <gtest/gtest.h>

#include <functional>

namespace hipattn::core {
namespace {

constexpr int64_t kTokens = 131072;
constexpr uint32_t kBudget = 2048;

// InfiniteHiP's "3K" preset for one decoding row.
StagedConfig Preset() {
  return {{{1, 1, 256, 32768}, {1, 1, 32, 8192}, {1, 1, 8, kBudget}}, 0, 1};
}

BeamConfig Beam(uint32_t block, uint32_t budget, uint32_t leaf) {
  return {{1, 1, 0, 1}, block, budget, leaf, 1, Representative::kCenter};
}

std::vector<int32_t> Staged(std::span<const float> scores, const StagedConfig& config) {
  const auto tokens = static_cast<int64_t>(scores.size());
  StagedWalk walk;
  walk.Begin(config, {}, {0, tokens, tokens, 1});
  RunProbes(scores, &walk);
  return Copy(walk.leaves());
}

std::vector<int32_t> Beam(std::span<const float> scores, const BeamConfig& config) {
  const auto tokens = static_cast<int64_t>(scores.size());
  BeamWalk walk;
  walk.Begin(config, {}, {0, tokens, tokens, 1});
  RunProbes(scores, &walk);
  return Copy(walk.leaves());
}

// The tree with the exact scorer.
std::vector<int32_t> ExactTree(std::span<const float> scores, const TreeConfig& config) {
  const auto tokens = static_cast<int64_t>(scores.size());
  TreeWalk walk;
  walk.Begin(config, {0, tokens, tokens});
  RunTree(
      [&](uint32_t level, int64_t node) {
        return BestKey(scores, NodeTokens(config.block_tokens, level), node);
      },
      &walk);
  return Copy(walk.blocks());
}

bool Has(const std::vector<int32_t>& leaves, size_t leaf) {
  return std::binary_search(leaves.begin(), leaves.end(), static_cast<int32_t>(leaf));
}

TEST(Acceptance, T11_ExactScorerKeepsTheBestKey) {
  Random random(1);
  for (int trial = 0; trial < 100; ++trial) {
    const std::vector<float> scores =
        trial % 2 == 0 ? Ar1(&random, 16384, 8) : random.Normals(16384);
    for (const uint32_t beam : {1U, 2U, 40U}) {
      EXPECT_TRUE(Has(ExactTree(scores, {16, 128, beam, false}), ArgMax(scores) / 16));
    }
  }
}

TEST(Acceptance, T11_ProbedScoreNeverExceedsTheChunksBest) {
  Random random(2);
  for (int trial = 0; trial < 30; ++trial) {
    const std::vector<float> scores = Ar1(&random, 4096, 8);
    StagedWalk walk;
    walk.Begin({{{1, 1, 64, 1024}}, 0, 1}, {}, {0, 4096, 4096, 1});
    std::vector<float> best(64, -1e30F);
    while (!walk.done()) {
      std::vector<float> batch;
      for (const uint32_t token : walk.pending().tokens) {
        const size_t chunk = batch.size() / 2;
        ASSERT_EQ(token / 64, chunk) << "a probe lies in its own chunk";
        best[chunk] = std::max(best[chunk], scores[token]);
        batch.push_back(scores[token]);
      }
      walk.Accept(batch);
    }
    for (size_t chunk = 0; chunk < 64; ++chunk) {
      EXPECT_LE(best[chunk], BestKey(scores, 64, static_cast<int64_t>(chunk)));
    }
    std::vector<float> sorted = best;
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    for (const int32_t chunk : walk.leaves()) {
      EXPECT_GE(best[static_cast<size_t>(chunk)], sorted[15]) << "the cut is by these scores";
    }
  }
}

TEST(Acceptance, T12_ConstantChunksAreFoundExactly) {
  Random random(3);
  std::vector<int32_t> level(kTokens / 256);
  for (size_t i = 0; i < level.size(); ++i) {
    level[i] = static_cast<int32_t>(i);
  }
  random.Shuffle(&level);
  std::vector<float> scores;
  std::vector<int32_t> want;
  for (int64_t token = 0; token < kTokens; ++token) {
    scores.push_back(static_cast<float>(level[static_cast<size_t>(token / 256)]));
    // The budget is 8 chunks of 256 tokens: 256 leaves of 8.
    if (token % 8 == 0 && level[static_cast<size_t>(token / 256)] >= kTokens / 256 - 8) {
      want.push_back(static_cast<int32_t>(token / 8));
    }
  }
  EXPECT_EQ(Staged(scores, Preset()), want);
  EXPECT_EQ(Beam(scores, Beam(2, kBudget, 8)), want);
}

// Share of texts whose best key lies in the half whose representative scores higher.
double SplitAccuracy(Representative representative,
                     int trials,
                     const std::function<std::vector<float>()>& make) {
  BeamConfig config = Beam(1, 1, 1);
  config.representative = representative;
  int hits = 0;
  for (int trial = 0; trial < trials; ++trial) {
    const std::vector<float> scores = make();
    BeamWalk walk;
    walk.Begin(config, {}, {0, 1024, 1024, 1});
    const std::vector<uint32_t>& probes = walk.pending().tokens;
    const bool right = scores[probes[1]] >= scores[probes[0]];
    hits += right == (ArgMax(scores) >= 512) ? 1 : 0;
  }
  return static_cast<double>(hits) / trials;
}

// HiP's theorem (arXiv 2406.09827, one split, one key); Hurst exponent 1/2, measured .816 against
// .707 and .706, standard error .003 at 20000 trials. Without locality there is no advantage.
TEST(Acceptance, T13_CentreRepresentativeSplitAccuracy) {
  constexpr int kTrials = 20000;
  Random random(4);
  const auto walk = [&] { return RandomWalk(&random, 1024); };
  const double centre = SplitAccuracy(Representative::kCenter, kTrials, walk);
  EXPECT_GE(centre, 0.80);
  EXPECT_GT(centre, SplitAccuracy(Representative::kFirst, kTrials, walk) + 0.05);
  EXPECT_GT(centre, SplitAccuracy(Representative::kLast, kTrials, walk) + 0.05);
  const double iid =
      SplitAccuracy(Representative::kCenter, kTrials, [&] { return random.Normals(1024); });
  EXPECT_GE(iid, 0.48);
  EXPECT_LE(iid, 0.52);
}

TEST(Acceptance, T14_FullRecursionHitsTheBestKeyOften) {
  constexpr int kTrials = 6000;  // standard error .005; measured .171, by chance .001
  Random random(5);
  int hits = 0;
  for (int trial = 0; trial < kTrials; ++trial) {
    const std::vector<float> scores = RandomWalk(&random, 1024);
    const std::vector<int32_t> leaves = Beam(scores, Beam(1, 1, 1));
    ASSERT_EQ(leaves.size(), 1U);
    hits += Has(leaves, ArgMax(scores)) ? 1 : 0;
  }
  EXPECT_GE(static_cast<double>(hits) / kTrials, 0.15);
}

struct Recalls {
  double staged = 0;
  double beam = 0;
};

Recalls MeanRecalls(double length) {
  constexpr int kRuns = 8;
  Random random(6);
  Recalls mean;
  for (int run = 0; run < kRuns; ++run) {
    const std::vector<float> scores = Ar1(&random, kTokens, length);
    mean.staged += RecallOf(scores, Staged(scores, Preset()), 8, kBudget) / kRuns;
    mean.beam += RecallOf(scores, Beam(scores, Beam(2, kBudget, 2)), 2, kBudget) / kRuns;
  }
  return mean;
}

TEST(Acceptance, T14_RecallBeatsChanceTenfold) {
  const double chance = static_cast<double>(kBudget) / static_cast<double>(kTokens);
  const Recalls recalls = MeanRecalls(16);
  EXPECT_GE(recalls.staged, 10 * chance);
  EXPECT_GE(recalls.beam, 10 * chance);
}

TEST(Acceptance, T15_RecallOfCorrelatedScores) {
  const Recalls at16 = MeanRecalls(16);
  EXPECT_GE(at16.staged, 0.46);
  EXPECT_LE(at16.staged, 0.54);
  EXPECT_GE(at16.beam, 0.66);
  EXPECT_LE(at16.beam, 0.74);
  const Recalls at64 = MeanRecalls(64);
  EXPECT_GE(at64.staged, 0.71);
  EXPECT_LE(at64.staged, 0.78);
  EXPECT_GE(at64.beam, 0.87);
  EXPECT_LE(at64.beam, 0.92);
}

// The known failure: one strong key in noise leaves no trace in its neighbours.
TEST(Acceptance, T16_ProbingMissesALoneKey) {
  constexpr int kTrials = 300;
  Random random(7);
  int hits = 0;
  for (int trial = 0; trial < kTrials; ++trial) {
    std::vector<float> scores = random.Normals(kTokens);
    const size_t at = random.Below(kTokens);
    scores[at] += 6.0F;
    hits += Has(Staged(scores, Preset()), at / 8) ? 1 : 0;
  }
  EXPECT_GE(hits, kTrials * 4 / 100);
  EXPECT_LE(hits, kTrials * 15 / 100);
}

// Keys whose energy sits in few channels and drifts; q is shaped alike. One key is moved along q
// until its score lies `height` deviations above the others.
struct NeedleText {
  std::vector<float> keys;
  std::vector<float> q;
  size_t needle;
};

NeedleText MakeNeedle(Random* random, size_t tokens, size_t dim, double height) {
  NeedleText text;
  std::vector<double> drift(dim);
  std::vector<double> width(dim);
  double variance = 0;
  double norm = 0;
  for (size_t d = 0; d < dim; ++d) {
    width[d] = std::exp(-static_cast<double>(d) / 8);
    text.q.push_back(static_cast<float>(width[d] * random->Normal()));
    drift[d] = random->Normal();
    norm += double{text.q[d]} * text.q[d];
    variance += double{text.q[d]} * text.q[d] * width[d] * width[d];
  }
  const double rho = std::exp(-1.0 / 512);
  for (size_t t = 0; t < tokens; ++t) {
    for (size_t d = 0; d < dim; ++d) {
      drift[d] = rho * drift[d] + std::sqrt(1 - rho * rho) * random->Normal();
      text.keys.push_back(static_cast<float>(width[d] * (0.8 * drift[d] + 0.6 * random->Normal())));
    }
  }
  text.needle = random->Below(static_cast<uint32_t>(tokens));
  for (size_t d = 0; d < dim; ++d) {
    text.keys[text.needle * dim + d] +=
        static_cast<float>(height * std::sqrt(variance) * text.q[d] / norm);
  }
  return text;
}

// Pages of 64 tokens, 1 of 16 is selected.
TEST(Acceptance, T16_BoundsFindTheLoneKeyThatProbingMisses) {
  constexpr uint32_t kNeedleTokens = 8192;
  constexpr uint32_t kDim = 64;
  constexpr uint32_t kPage = 64;
  constexpr int kTrials = 30;
  Random random(8);
  int by_bounds = 0;
  int by_exact = 0;
  int by_probes = 0;
  for (int trial = 0; trial < kTrials; ++trial) {
    const NeedleText text = MakeNeedle(&random, kNeedleTokens, kDim, 6);
    BlockTree tree(kPage, kDim);
    tree.Append(text.keys);
    const TreeConfig flat{kPage, kNeedleTokens / 16, 0, true};
    const auto found = [&](Scorer scorer) {
      TreeWalk walk;
      walk.Begin(flat, {0, kNeedleTokens, kNeedleTokens});
      RunTree(
          [&](uint32_t level, int64_t node) {
            return ScorerOf(scorer)->Score(tree.node(level, node), {text.q, 0, kNeedleTokens});
          },
          &walk);
      return Has(Copy(walk.blocks()), text.needle / kPage) ? 1 : 0;
    };
    by_bounds += found(Scorer::kBounds);
    by_exact += found(Scorer::kExact);
    std::vector<float> scores;
    for (size_t t = 0; t < kNeedleTokens; ++t) {
      scores.push_back(
          ScoreVectors({{text.keys.begin() + static_cast<std::ptrdiff_t>(t * kDim),
                         text.keys.begin() + static_cast<std::ptrdiff_t>((t + 1) * kDim)},
                        {}},
                       text.q));
    }
    const StagedConfig probes{{{1, 1, kPage, kNeedleTokens / 16}}, 0, 1};
    by_probes += Has(Staged(scores, probes), text.needle / kPage) ? 1 : 0;
  }
  EXPECT_GE(by_bounds, kTrials * 9 / 10);
  EXPECT_GE(by_exact, kTrials * 9 / 10);
  EXPECT_LE(by_probes, kTrials / 2);
}

// As amended by SPEC D19 and D33.
TEST(Acceptance, T17_NumberOfKeysScoredIsTheFormula) {
  Random random(9);
  for (const int64_t tokens : {65536, 131072, 262144}) {
    const std::vector<float> scores = random.Normals(static_cast<size_t>(tokens));
    StagedWalk staged;
    staged.Begin(Preset(), {}, {0, tokens, tokens, 1});
    RunProbes(scores, &staged);
    const auto chunks = static_cast<uint64_t>(tokens / 256);
    EXPECT_EQ(staged.keys_scored(), 16 * chunks + 16384);
    EXPECT_EQ(CountStaged(Preset().stages, 0, tokens).keys_with_extra_step, 18 * chunks + 20480);
    BeamWalk beam;
    beam.Begin(Beam(2, kBudget, 2), {}, {0, tokens, tokens, 1});
    RunProbes(scores, &beam);
    const BeamCount count = CountBeam(Beam(2, kBudget, 2), 0, tokens);
    EXPECT_EQ(beam.levels(), count.levels);
    EXPECT_EQ(beam.keys_scored(), count.keys_scored);
    // ceil(log2(longest first part)): 1024 parts of tokens / 2 / 1024 leaves.
    EXPECT_EQ(beam.levels(), static_cast<uint32_t>(std::log2(tokens / 2 / 1024)));
    TreeWalk tree;
    tree.Begin({}, {0, tokens, tokens});
    RunTree([&](uint32_t, int64_t node) { return scores[static_cast<size_t>(node)]; }, &tree);
    EXPECT_EQ(tree.summaries_scored(), CountTree({}, {0, tokens, tokens}).summaries_at_most);
  }
}

}  // namespace
}  // namespace hipattn::core
