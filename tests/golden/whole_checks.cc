// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
// Golden cases of the whole operation: search, then attend; in prefill and over decode steps.
#include "core/query_blocks.h"
#include "core/refresh.h"
#include "tests/golden/checks.h"
#include "tests/golden/engine_checks.h"
#include "tests/golden/expect.h"
#include "tests/golden/searches.h"

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

std::vector<QueryBlock> BlocksOf(const GoldenCase& golden, uint32_t block_q) {
  const Array& q = golden.Input("q");
  const int64_t first_pos = golden.Int("first_pos");
  const auto kv_len = static_cast<int64_t>(golden.Input("k").shape[0]);
  std::vector<QueryBlock> blocks;
  for (const core::RowRange& rows :
       core::QueryBlocks(first_pos, static_cast<uint32_t>(q.shape[0]), block_q)) {
    blocks.push_back({&q, rows.begin, rows.end - rows.begin, first_pos + rows.begin, kv_len, -1});
  }
  return blocks;
}

// The block of decode step `step`: one row, nothing cached behind it.
QueryBlock StepBlock(const GoldenCase& golden, uint32_t step, int64_t anchor_pos) {
  const int64_t pos = golden.Int("first_pos") + step;
  return {&golden.Input("q"), step, 1, pos, pos + 1, anchor_pos};
}

void ExpectOutputs(const GoldenCase& golden, const Machine& machine, const Outputs& outputs) {
  ExpectFloats(golden, "out", outputs.out, machine.narrow());
  ExpectLse(golden, "lse", outputs.lse, machine.narrow());
}

void ExpectSelection(const GoldenCase& golden, const Lists& all_leaves) {
  ExpectLists(golden, "indices", all_leaves);
  ExpectInts(golden, "counts", CountsOf(all_leaves));
}

// Attends a block by its selection, and once more by dense_prefill where that is the same.
class Attention {
 public:
  Attention(const GoldenCase& golden, const KvText* text, uint32_t leaf_tokens)
      : text_(text),
        rules_(RulesOf(golden, leaf_tokens)),
        sparse_(golden.Input("q")),
        dense_(golden.Input("q")) {}

  void Attend(const QueryBlock& block, const Lists& leaves) {
    AttendBlock(*text_, rules_, block, leaves, KeyClass::kAll, &sparse_);
    is_dense_ = is_dense_ && IsDense(*text_, rules_, block, leaves);
    if (is_dense_) {
      AttendDense(*text_, rules_, block, &dense_);
    }
    all_leaves_.insert(all_leaves_.end(), leaves.begin(), leaves.end());
  }

  const BlockRules& rules() const { return rules_; }
  const Outputs& outputs() const { return sparse_; }

  void Expect(const GoldenCase& golden, const Machine& machine) const {
    ExpectOutputs(golden, machine, sparse_);
    if (is_dense_) {
      ExpectOutputs(golden, machine, dense_);
    }
    ExpectSelection(golden, all_leaves_);
  }

 private:
  const KvText* text_;
  BlockRules rules_;
  Outputs sparse_;
  Outputs dense_;
  bool is_dense_ = true;
  Lists all_leaves_;
};

Lists LeavesOf(const std::vector<Found>& found) {
  Lists leaves;
  for (const Found& head : found) {
    leaves.push_back(head.leaves);
  }
  return leaves;
}

// D36 for all rows of a block, into recall [rows, heads]: through the op where the case's summaries
// are int8, else plainly; the op is held to the plain int8 form everywhere.
class RecallCheck {
 public:
  RecallCheck(const TreeSearch* search, const Attention* attention, uint32_t block_tokens)
      : search_(search), attention_(attention), block_tokens_(block_tokens) {}

  void Estimate(const QueryBlock& block,
                uint32_t num_kv_heads,
                uint32_t kv_head,
                const core::TreeWalk& walk) {
    const device::QueryRows rows = block.Rows(kv_head, num_kv_heads);
    const BlockRules& rules = attention_->rules();
    const size_t head_dim = block.q->shape[2];
    shares_.resize(attention_->outputs().lse.size());
    for (uint32_t row = 0; row < block.num_rows; ++row) {
      const core::Partition part =
          core::SplitPartition(block.first_pos + row, block.kv_len, rules.sizes);
      core::RecallPlan plan;
      plan.Build(walk, walk.blocks(), block_tokens_, part.sink_end, part.window_begin);
      const float* q = rows.q + row * rows.row_stride;
      std::vector<std::vector<float>> masses(rows.group);
      for (uint32_t level = 0; level < plan.num_levels(); ++level) {
        const std::vector<float> level_masses = search_->summaries(kv_head).LogMasses(
            level, plan.groups(level), plan.tokens(level), q, rows.group, rules.softmax);
        for (uint32_t g = 0; g < rows.group; ++g) {
          masses[g].push_back(level_masses[g]);
        }
      }
      for (uint32_t g = 0; g < rows.group; ++g) {
        const size_t at = (block.first_row + row) * block.num_heads() + kv_head * rows.group + g;
        const core::RecallQuery query{{q + g * head_dim, head_dim},
                                      attention_->outputs().lse[at],
                                      rules.softmax.scale,
                                      rules.softmax.softcap};
        const double by_op = core::RecallShare(query.lse, masses[g]);
        const double plain = search_->PlainRecall(plan, kv_head, core::SummaryForm::kInt8, query);
        EXPECT_NEAR(by_op, plain, 1e-4) << "recall of row " << row << ", head " << g;
        shares_[at] = static_cast<float>(
            search_->form() == core::SummaryForm::kInt8
                ? by_op
                : search_->PlainRecall(plan, kv_head, core::SummaryForm::kFloat32, query));
      }
    }
  }

  const std::vector<float>& shares() const { return shares_; }

 private:
  const TreeSearch* search_;
  const Attention* attention_;
  uint32_t block_tokens_;
  std::vector<float> shares_;
};

}  // namespace

void CheckHipAttention(const GoldenCase& golden, const Machine& machine) {
  const KvText text(machine, golden.Input("k"), golden.Input("v"), kBlockTokens);
  const ProbeSearch search(golden, &text);
  Attention attention(golden, &text, search.leaf_tokens());
  for (const QueryBlock& block : BlocksOf(golden, search.block_q())) {
    attention.Attend(block, LeavesOf(search.Find(block)));
  }
  attention.Expect(golden, machine);
}

void CheckDecode(const GoldenCase& golden, const Machine& machine) {
  const KvText text(machine, golden.Input("k"), golden.Input("v"), kBlockTokens);
  const ProbeSearch search(golden, &text);
  const std::vector<uint32_t> intervals = golden.Counts("intervals");
  Attention attention(golden, &text, search.leaf_tokens());
  std::vector<Found> found;
  std::vector<int32_t> first_stages;
  std::vector<int32_t> window_begins;
  Lists attended;
  for (uint32_t step = 0; step < golden.Input("q").shape[0]; ++step) {
    const uint32_t first_stage = core::RefreshStage(intervals, step);
    found = search.Find(StepBlock(golden, step, -1), first_stage, found);
    const QueryBlock block = StepBlock(golden, step, found[0].anchor_pos);
    attention.Attend(block, LeavesOf(found));
    for (const Found& head : found) {
      const RowKeys keys = PlanKeys(attention.rules(), block, 0, head.leaves, kBlockTokens);
      attended.push_back(BlocksWith(keys, kBlockTokens));
    }
    first_stages.push_back(static_cast<int32_t>(first_stage));
    window_begins.push_back(static_cast<int32_t>(
        core::SplitPartition(
            block.first_pos, block.kv_len, attention.rules().sizes, block.anchor_pos)
            .window_begin));
  }
  attention.Expect(golden, machine);
  ExpectInts(golden, "first_stage", first_stages);
  ExpectInts(golden, "window_begin", window_begins);
  if (EngineRuns(golden)) {
    CheckThroughEngine(golden, machine, attention.outputs(), attended);
  }
}

namespace {

// Searches and attends one decode step after the other.
class TreeSteps {
 public:
  TreeSteps(const GoldenCase& golden,
            const KvText* text,
            const TreeSearch* search,
            Attention* attention)
      : golden_(golden), text_(text), search_(search), attention_(attention) {}

  void Run() {
    for (uint32_t step = 0; step < golden_.Input("q").shape[0]; ++step) {
      const bool refresh =
          core::TreeRefreshes(golden_.Count("interval", 1), golden_.Count("layer"), step);
      if (refresh) {
        Search(StepBlock(golden_, step, -1));
      }
      const QueryBlock block = StepBlock(golden_, step, anchor_pos_);
      attention_->Attend(block, blocks_);
      for (const std::vector<int32_t>& leaves : blocks_) {
        const RowKeys keys = PlanKeys(attention_->rules(), block, 0, leaves, text_->block_tokens());
        attended_.push_back(BlocksWith(keys, text_->block_tokens()));
      }
      refreshed_.push_back(refresh ? 1 : 0);
      const core::Partition part = core::SplitPartition(
          block.first_pos, block.kv_len, attention_->rules().sizes, anchor_pos_);
      window_begins_.push_back(static_cast<int32_t>(part.window_begin));
    }
  }

  const std::vector<int32_t>& refreshed() const { return refreshed_; }
  const std::vector<int32_t>& window_begins() const { return window_begins_; }
  // Blocks with an attended token, one list per step and kv head.
  const Lists& attended() const { return attended_; }

 private:
  void Search(const QueryBlock& block) {
    anchor_pos_ = block.first_pos;
    blocks_.clear();
    for (uint32_t head = 0; head < text_->num_kv_heads(); ++head) {
      search_->Find(block, head, &walk_);
      blocks_.emplace_back(walk_.blocks().begin(), walk_.blocks().end());
    }
  }

  const GoldenCase& golden_;
  const KvText* text_;
  const TreeSearch* search_;
  Attention* attention_;
  core::TreeWalk walk_;
  Lists blocks_;
  int64_t anchor_pos_ = 0;
  std::vector<int32_t> refreshed_;
  std::vector<int32_t> window_begins_;
  Lists attended_;
};

// The case by the engine's rules, put together here and by the engine.
void CompareWithEngine(const GoldenCase& golden,
                       const Machine& machine,
                       const KvText& text,
                       TreeSearch* search) {
  if (!EngineRuns(golden)) {
    return;
  }
  search->UseEngineRules();
  Attention attention(golden, &text, text.block_tokens());
  TreeSteps steps(golden, &text, search, &attention);
  steps.Run();
  CheckThroughEngine(golden, machine, attention.outputs(), steps.attended());
}

}  // namespace

void CheckTreeAttention(const GoldenCase& golden, const Machine& machine) {
  const uint32_t block_tokens = golden.Count("block_tokens");
  const KvText text(machine, golden.Input("k"), golden.Input("v"), block_tokens);
  TreeSearch search(golden, machine, golden.Input("k"), &text);
  Attention attention(golden, &text, block_tokens);
  RecallCheck recall(&search, &attention, block_tokens);
  for (const QueryBlock& block : BlocksOf(golden, search.block_q())) {
    std::vector<core::TreeWalk> walks(text.num_kv_heads());
    Lists blocks;
    for (uint32_t head = 0; head < walks.size(); ++head) {
      search.Find(block, head, &walks[head]);
      blocks.emplace_back(walks[head].blocks().begin(), walks[head].blocks().end());
    }
    attention.Attend(block, blocks);
    for (uint32_t head = 0; head < walks.size() && golden.Expects("recall"); ++head) {
      recall.Estimate(block, text.num_kv_heads(), head, walks[head]);
    }
  }
  attention.Expect(golden, machine);
  if (golden.Expects("recall")) {
    ExpectFloats(golden, "recall", recall.shares(), machine.narrow());
  }
  CompareWithEngine(golden, machine, text, &search);
}

void CheckTreeDecode(const GoldenCase& golden, const Machine& machine) {
  const uint32_t block_tokens = golden.Count("block_tokens");
  const KvText text(machine, golden.Input("k"), golden.Input("v"), block_tokens);
  TreeSearch search(golden, machine, golden.Input("k"), &text);
  Attention attention(golden, &text, block_tokens);
  TreeSteps steps(golden, &text, &search, &attention);
  steps.Run();
  attention.Expect(golden, machine);
  ExpectInts(golden, "refreshed", steps.refreshed());
  ExpectInts(golden, "window_begin", steps.window_begins());
  CompareWithEngine(golden, machine, text, &search);
}

}  // namespace hipattn::golden
