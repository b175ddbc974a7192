// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Attention of one query block over sinks, selected leaves and window: plans of core run by ops.
#ifndef HIPATTN_TESTS_GOLDEN_ATTEND_BLOCK_H_
#define HIPATTN_TESTS_GOLDEN_ATTEND_BLOCK_H_

#include "tests/golden/expect.h"
#include "tests/golden/kv_text.h"

#include <vector>

namespace hipattn::golden {

// What all blocks of a case have in common.
struct BlockRules {
  core::PartitionSizes sizes;
  uint32_t leaf_tokens = 0;
  Softmax softmax;
  RopeSettings rope;
  core::Extension extension;
};
BlockRules RulesOf(const GoldenCase& golden, uint32_t leaf_tokens);

// Rows [first_row, first_row + num_rows) of q [rows, heads, head_dim]; the first sits at first_pos.
struct QueryBlock {
  const Array* q = nullptr;
  uint32_t first_row = 0;
  uint32_t num_rows = 1;
  int64_t first_pos = 0;
  int64_t kv_len = 0;
  int64_t anchor_pos = -1;  // -1: every row is its own anchor

  int64_t last_pos() const { return first_pos + num_rows - 1; }
  uint32_t num_heads() const { return static_cast<uint32_t>(q->shape[1]); }
  // The rows of the q heads that read one of num_kv_heads.
  device::QueryRows Rows(uint32_t kv_head, uint32_t num_kv_heads) const;
};

// Which keys take part.
enum class KeyClass { kAll, kSink, kSelected, kWindow };

// Results of all rows of a call, [rows, heads, head_dim] and [rows, heads].
struct Outputs {
  explicit Outputs(const Array& q) : out(q.size()), lse(q.shape[0] * q.shape[1]) {}
  std::vector<float> out;
  std::vector<float> lse;
};

RowKeys PlanKeys(const BlockRules& rules,
                 const QueryBlock& block,
                 uint32_t row,
                 const std::vector<int32_t>& leaves,
                 uint32_t block_tokens);

// leaves: one list per kv head.
void AttendBlock(const KvText& text,
                 const BlockRules& rules,
                 const QueryBlock& block,
                 const Lists& leaves,
                 KeyClass key_class,
                 Outputs* outputs);

// The numbers of the blocks of block_tokens that have a token among the keys.
std::vector<int32_t> BlocksWith(const RowKeys& keys, uint32_t block_tokens);

// Whether the block's rows attend to every key they see, at true positions without rotation.
bool IsDense(const KvText& text,
             const BlockRules& rules,
             const QueryBlock& block,
             const Lists& leaves);

// The block by dense_prefill.
void AttendDense(const KvText& text,
                 const BlockRules& rules,
                 const QueryBlock& block,
                 Outputs* outputs);

}  // namespace hipattn::golden

#endif  // HIPATTN_TESTS_GOLDEN_ATTEND_BLOCK_H_
