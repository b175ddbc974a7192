// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The searches of golden cases: walks of core fed with scores from ops or, where a case asks for
// float32 summaries, from the plain scorers.
#ifndef HIPATTN_TESTS_GOLDEN_SEARCHES_H_
#define HIPATTN_TESTS_GOLDEN_SEARCHES_H_

#include "core/search/beam_walk.h"
#include "core/search/block_tree.h"
#include "core/search/plain_recall.h"
#include "core/search/staged_walk.h"
#include "tests/golden/attend_block.h"

#include <memory>
#include <vector>

namespace hipattn::golden {

// What a probing search of one kv head found.
struct Found {
  std::vector<int32_t> leaves;
  core::StagedLists lists;  // staged only
  int64_t keys_scored = 0;
  int64_t levels = 0;  // beam only
  int64_t anchor_pos = 0;
};

class ProbeSearch {
 public:
  ProbeSearch(const GoldenCase& golden, const KvText* text);

  uint32_t leaf_tokens() const;
  uint32_t block_q() const;
  // One result per kv head. With first_stage > 0 begins at that stage of `cached` (D17).
  std::vector<Found> Find(const QueryBlock& block,
                          uint32_t first_stage = 0,
                          const std::vector<Found>& cached = {}) const;

 private:
  Found FindHead(const QueryBlock& block,
                 uint32_t kv_head,
                 uint32_t first_stage,
                 const Found& cached) const;

  const KvText* text_;
  bool is_staged_;
  core::StagedConfig staged_;
  core::BeamConfig beam_;
  core::PartitionSizes sizes_;
  core::Extension extension_;
  RopeSettings rope_;
};

class TreeSearch {
 public:
  TreeSearch(const GoldenCase& golden, const Machine& machine, const Array& k, const KvText* text);

  // From now on int8 summaries and a beam as wide as the budget, as the engine has them.
  void UseEngineRules() {
    form_ = core::SummaryForm::kInt8;
    config_.beam = 0;
  }

  uint32_t block_q() const { return rows_.block_q; }
  // Searches for one block and kv head.
  void Find(const QueryBlock& block, uint32_t kv_head, core::TreeWalk* walk) const;
  // D36 for one row and q head of the group, given the walk of its block and the lse of what the
  // row attended.
  double PlainRecall(const core::RecallPlan& plan,
                     uint32_t kv_head,
                     core::SummaryForm form,
                     const core::RecallQuery& query) const;
  core::SummaryForm form() const { return form_; }
  const KvSummaries& summaries(uint32_t kv_head) const { return *summaries_[kv_head]; }

 private:
  void RunPlain(const device::QueryRows& rows,
                const core::SearchRange& range,
                uint32_t kv_head,
                core::TreeWalk* walk) const;

  uint32_t head_dim_;
  core::TreeConfig config_;
  core::SearchRows rows_;
  core::PartitionSizes sizes_;
  Scorer scorer_;
  core::SummaryForm form_;
  std::vector<core::BlockTree> trees_;                   // per kv head
  std::vector<std::unique_ptr<KvSummaries>> summaries_;  // per kv head; none for exact
};

}  // namespace hipattn::golden

#endif  // HIPATTN_TESTS_GOLDEN_SEARCHES_H_
