// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
// Golden cases of searches alone, and of the summaries they read.
#include "tests/golden/checks.h"
#include "tests/golden/expect.h"
#include "tests/golden/searches.h"
#include "tests/support/compare.h"

#include <string>

namespace hipattn::golden {
namespace {

constexpr uint32_t kBlockTokens = 16;

std::vector<int32_t> CountsOf(const Lists& lists) {
  std::vector<int32_t> counts;
  for (const auto& list : lists) {
    counts.push_back(static_cast<int32_t>(list.size()));
  }
  return counts;
}

std::vector<int32_t> Copy(std::span<const int32_t> list) {
  return {list.begin(), list.end()};
}

// The query block of a search case: all rows of q, the last at last_pos.
QueryBlock LastBlock(const GoldenCase& golden, const Array& q, const Array& k) {
  const auto num_rows = static_cast<uint32_t>(q.shape[0]);
  return {
      &q, 0, num_rows, golden.Int("last_pos") + 1 - num_rows, static_cast<int64_t>(k.shape[0]), -1};
}

}  // namespace

void CheckSearch(const GoldenCase& golden, const Machine& machine) {
  const Array& k = golden.Input("k");
  const KvText text(machine, k, k, kBlockTokens);
  const ProbeSearch search(golden, &text);
  const std::vector<Found> found = search.Find(LastBlock(golden, golden.Input("q"), k));
  Lists leaves;
  std::vector<int64_t> probes;
  std::vector<int64_t> levels;
  for (const Found& head : found) {
    leaves.push_back(head.leaves);
    probes.push_back(head.keys_scored);
    levels.push_back(head.levels);
  }
  ExpectLists(golden, "indices", leaves);
  ExpectInts(golden, "counts", CountsOf(leaves));
  ExpectValues(golden, "probes", probes);
  if (golden.HasValues("levels")) {
    ExpectValues(golden, "levels", levels);
  }
  for (size_t stage = 0; stage < found[0].lists.kept.size(); ++stage) {
    Lists candidates;
    Lists kept;
    for (const Found& head : found) {
      candidates.push_back(head.lists.candidates[stage]);
      kept.push_back(head.lists.kept[stage]);
    }
    ExpectLists(golden, "candidates_" + std::to_string(stage), candidates);
    ExpectLists(golden, "kept_" + std::to_string(stage), kept);
  }
}

void CheckTreeSearch(const GoldenCase& golden, const Machine& machine) {
  const Array& k = golden.Input("k");
  if (machine.narrow() && FormOf(golden) == core::SummaryForm::kFloat32) {
    return;  // float32 summaries are not stored: no KV type takes part
  }
  const KvText text(machine, k, k, golden.Count("block_tokens"));
  const TreeSearch search(golden, machine, k, &text);
  const QueryBlock block = LastBlock(golden, golden.Input("q"), k);
  std::vector<core::TreeWalk> walks(text.num_kv_heads());
  Lists blocks;
  std::vector<int64_t> start_levels;
  std::vector<int64_t> scored;
  for (uint32_t head = 0; head < walks.size(); ++head) {
    search.Find(block, head, &walks[head]);
    blocks.push_back(Copy(walks[head].blocks()));
    start_levels.push_back(walks[head].start_level());
    scored.push_back(static_cast<int64_t>(walks[head].summaries_scored()));
  }
  ExpectLists(golden, "indices", blocks);
  ExpectInts(golden, "counts", CountsOf(blocks));
  ExpectValues(golden, "start_level", start_levels);
  ExpectValues(golden, "summaries_scored", scored);
  for (int level = 0; level <= walks[0].start_level(); ++level) {
    Lists candidates;
    Lists kept;
    for (const core::TreeWalk& walk : walks) {
      candidates.push_back(Copy(walk.candidates(static_cast<uint32_t>(level))));
      kept.push_back(Copy(walk.kept(static_cast<uint32_t>(level))));
    }
    ExpectLists(golden, "candidates_" + std::to_string(level), candidates);
    ExpectLists(golden, "kept_" + std::to_string(level), kept);
  }
}

namespace {

// One level of the summaries of all heads, in the layout of a case's arrays.
struct LevelArrays {
  std::vector<float> vectors;  // [heads, nodes, head_dim]
  std::vector<float> steps;    // of the plain int8 form
  std::vector<float> scales;
  std::vector<float> op_steps;  // of summarize_blocks
  std::vector<float> op_scales;
};

void AppendVector(const std::vector<float>& vector,
                  const core::QuantizedVector& stored,
                  LevelArrays* arrays) {
  const core::QuantizedVector plain = core::Quantize(vector);
  arrays->vectors.insert(arrays->vectors.end(), vector.begin(), vector.end());
  arrays->steps.insert(arrays->steps.end(), plain.steps.begin(), plain.steps.end());
  arrays->scales.push_back(plain.scale);
  arrays->op_steps.insert(arrays->op_steps.end(), stored.steps.begin(), stored.steps.end());
  arrays->op_scales.push_back(stored.scale);
}

void ExpectLevel(const GoldenCase& golden, const std::string& name, const LevelArrays& arrays) {
  const size_t at = name.find('_');
  const auto with = [&](const char* infix) { return name.substr(0, at) + infix + name.substr(at); };
  ExpectFloats(golden, name, arrays.vectors);
  if (golden.Int("int8") == 0) {
    // Fractions: the int8 form may differ by a step, so it has to stand for the vector instead.
    const size_t dim = arrays.steps.size() / arrays.scales.size();
    for (size_t i = 0; i < arrays.vectors.size(); ++i) {
      const float scale = arrays.op_scales[i / dim];
      ASSERT_NEAR(scale * arrays.op_steps[i], golden.Expected(name).floats[i], scale * 0.501F)
          << name << " [" << i << "]";
    }
    return;
  }
  ExpectFloats(golden, with("_scale"), arrays.scales);
  EXPECT_EQ(arrays.steps, golden.Expected(with("_int8")).floats) << name;
  EXPECT_EQ(arrays.op_scales, golden.Expected(with("_scale")).floats) << name;
  EXPECT_EQ(arrays.op_steps, golden.Expected(with("_int8")).floats) << name;
}

}  // namespace

void CheckTreeSummaries(const GoldenCase& golden, const Machine& machine) {
  const Array& k = golden.Input("k");
  const Scorer scorer = ScorerOf(golden);
  const uint32_t block_tokens = golden.Count("block_tokens");
  const KvText text(machine, k, k, block_tokens);
  std::vector<core::BlockTree> trees;
  std::vector<KvSummaries> summaries;
  for (uint32_t head = 0; head < text.num_kv_heads(); ++head) {
    trees.emplace_back(block_tokens, text.head_dim());
    for (size_t token = 0; token < k.shape[0]; ++token) {
      const size_t first = (token * k.shape[1] + head) * k.shape[2];
      trees.back().Append(std::span(k.floats).subspan(first, k.shape[2]));
    }
    summaries.emplace_back(machine, text, head, scorer);
  }
  std::vector<int32_t> nodes;
  uint32_t level = 0;
  for (; trees[0].num_nodes(level) > 0; ++level) {
    nodes.push_back(static_cast<int32_t>(trees[0].num_nodes(level)));
    LevelArrays m;
    LevelArrays w;
    for (uint32_t head = 0; head < trees.size(); ++head) {
      for (uint32_t node = 0; node < trees[head].num_nodes(level); ++node) {
        const core::NodeVectors vectors =
            core::SummaryScorerOf(scorer)->Vectors(trees[head].node(level, node));
        AppendVector(vectors.m, summaries[head].Read(level, node, 0), &m);
        if (!vectors.w.empty()) {
          AppendVector(vectors.w, summaries[head].Read(level, node, 1), &w);
        }
      }
    }
    ExpectLevel(golden, "m_" + std::to_string(level), m);
    EXPECT_EQ(golden.Expects("w_" + std::to_string(level)), ScorerHasSpread(scorer));
    if (ScorerHasSpread(scorer)) {
      ExpectLevel(golden, "w_" + std::to_string(level), w);
    }
  }
  EXPECT_FALSE(golden.Expects("m_" + std::to_string(level)));
  ExpectInts(golden, "nodes", nodes.empty() ? std::vector<int32_t>{0} : nodes);
}

}  // namespace hipattn::golden
