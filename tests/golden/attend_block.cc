// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "tests/golden/attend_block.h"

namespace hipattn::golden {
namespace {

core::Partition PartitionOf(const BlockRules& rules, const QueryBlock& block, int64_t pos) {
  const int64_t anchor = block.anchor_pos < 0 ? pos : block.anchor_pos;
  return core::SplitPartition(pos, block.kv_len, rules.sizes, anchor);
}

RowKeys ClipToClass(const RowKeys& keys, const core::Partition& part, KeyClass key_class) {
  switch (key_class) {
    case KeyClass::kSink:
      return keys.Clip(0, part.sink_end);
    case KeyClass::kSelected:
      return keys.Clip(part.sink_end, part.window_begin);
    case KeyClass::kWindow:
      return keys.Clip(part.window_begin, part.end);
    case KeyClass::kAll:
      break;
  }
  return keys;
}

}  // namespace

BlockRules RulesOf(const GoldenCase& golden, uint32_t leaf_tokens) {
  return {SizesOf(golden),
          leaf_tokens,
          {static_cast<float>(golden.Number("scale", 1.0)),
           static_cast<float>(golden.Number("softcap"))},
          RopeOf(golden),
          ExtensionOf(golden)};
}

device::QueryRows QueryBlock::Rows(uint32_t kv_head, uint32_t num_kv_heads) const {
  const size_t head_dim = q->shape[2];
  const uint32_t group = num_heads() / num_kv_heads;
  const uint64_t row_stride = num_heads() * head_dim;
  return {q->floats.data() + first_row * row_stride + kv_head * group * head_dim,
          row_stride,
          num_rows,
          group};
}

RowKeys PlanKeys(const BlockRules& rules,
                 const QueryBlock& block,
                 uint32_t row,
                 const std::vector<int32_t>& leaves,
                 uint32_t block_tokens) {
  const core::LeafList selected{leaves, rules.leaf_tokens};
  const core::Partition part = PartitionOf(rules, block, block.first_pos + row);
  RowKeys keys;
  if (core::FrameMode(rules.extension, block.last_pos()) == core::ScanMode::kTrue) {
    core::PlanRow(part, selected, block_tokens, &keys.ranges);
    return keys;
  }
  const int64_t anchor = block.anchor_pos < 0 ? block.first_pos : block.anchor_pos;
  core::PlanExtendedRow({part,
                         PartitionOf(rules, block, block.last_pos()),
                         rules.sizes.sink_tokens,
                         anchor - rules.sizes.window_tokens + 1},
                        selected,
                        block_tokens,
                        &keys.ranges,
                        &keys.positions);
  return keys;
}

void AttendBlock(const KvText& text,
                 const BlockRules& rules,
                 const QueryBlock& block,
                 const Lists& leaves,
                 KeyClass key_class,
                 Outputs* outputs) {
  const uint32_t num_kv_heads = text.num_kv_heads();
  for (uint32_t head = 0; head < num_kv_heads; ++head) {
    const device::QueryRows rows = block.Rows(head, num_kv_heads);
    for (uint32_t row = 0; row < block.num_rows; ++row) {
      const core::Partition part = PartitionOf(rules, block, block.first_pos + row);
      const RowKeys keys = ClipToClass(
          PlanKeys(rules, block, row, leaves[head], text.block_tokens()), part, key_class);
      const size_t first_head = (block.first_row + row) * block.num_heads() + head * rows.group;
      text.Attend(head,
                  keys,
                  {rows.q + row * rows.row_stride,
                   rows.group,
                   block.first_pos + row,
                   outputs->out.data() + first_head * text.head_dim(),
                   outputs->lse.data() + first_head},
                  rules.softmax,
                  rules.rope);
    }
  }
}

std::vector<int32_t> BlocksWith(const RowKeys& keys, uint32_t block_tokens) {
  std::vector<int32_t> blocks;
  for (const core::TokenRange& range : keys.ranges) {
    const auto block = static_cast<int32_t>(range.begin / block_tokens);
    if (blocks.empty() || blocks.back() != block) {
      blocks.push_back(block);
    }
  }
  return blocks;
}

bool IsDense(const KvText& text,
             const BlockRules& rules,
             const QueryBlock& block,
             const Lists& leaves) {
  if (rules.rope.layout != core::RopeLayout::kNone || block.last_pos() >= block.kv_len) {
    return false;
  }
  for (const std::vector<int32_t>& list : leaves) {
    for (uint32_t row = 0; row < block.num_rows; ++row) {
      int64_t attended = 0;
      for (const core::TokenRange& range :
           PlanKeys(rules, block, row, list, text.block_tokens()).ranges) {
        attended += range.end - range.begin;
      }
      if (attended != block.first_pos + row + 1) {
        return false;
      }
    }
  }
  return true;
}

void AttendDense(const KvText& text,
                 const BlockRules& rules,
                 const QueryBlock& block,
                 Outputs* outputs) {
  for (uint32_t head = 0; head < text.num_kv_heads(); ++head) {
    const device::QueryRows rows = block.Rows(head, text.num_kv_heads());
    const size_t first_head = size_t{block.first_row} * block.num_heads() + head * rows.group;
    text.AttendDense(head,
                     rows,
                     block.first_pos,
                     rules.softmax,
                     outputs->out.data() + first_head * text.head_dim(),
                     outputs->lse.data() + first_head);
  }
}

}  // namespace hipattn::golden
