// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
// Golden cases of single ops, and of attention over given leaves.
#include "tests/golden/attend_block.h"
#include "tests/golden/checks.h"
#include "tests/golden/expect.h"
#include "tests/support/compare.h"

#include <string>

namespace hipattn::golden {
namespace {

constexpr uint32_t kBlockTokens = 16;

// q rotated at consecutive positions by load_q.
Array Rotated(const Machine& machine,
              const Array& q,
              std::span<const uint32_t> positions,
              const RopeSettings& rope) {
  Array rotated = q;
  device::LoadQParams params{};
  params.q = q.floats.data();
  params.q_f32 = rotated.floats.data();
  params.positions = positions.data();
  params.rope = DeviceRope(rope);
  params.num_rows = static_cast<uint32_t>(q.shape[0]);
  params.num_heads = static_cast<uint32_t>(q.shape[1]);
  params.head_dim = static_cast<uint32_t>(q.shape[2]);
  params.io_dtype = DType::kF32;
  machine.table->load_q(machine.context, params);
  return rotated;
}

// x [rows, heads, head_dim] rotated by append_kv, each row in a block of its own, read back.
std::vector<float> RotatedKeys(const Machine& machine,
                               const Array& x,
                               std::span<const uint32_t> positions,
                               const RopeSettings& rope) {
  const auto head_dim = static_cast<uint32_t>(x.shape[2]);
  const auto num_keys = static_cast<uint32_t>(x.shape[0] * x.shape[1]);
  testing::KvPool pool({machine.kv_dtype, head_dim, kBlockTokens}, num_keys, 1);
  std::vector<uint32_t> slots;
  std::vector<device::AppendJob> jobs;
  for (uint32_t i = 0; i < num_keys; ++i) {
    slots.push_back(pool.TakeSlot());
  }
  for (uint32_t i = 0; i < num_keys; ++i) {
    const float* key = x.floats.data() + size_t{i} * head_dim;
    jobs.push_back({key, key, &slots[i], positions[i / x.shape[1]], 1});
  }
  device::AppendParams params{};
  params.pool = pool.pool();
  params.rope = DeviceRope(rope);
  params.jobs = jobs.data();
  params.num_jobs = num_keys;
  params.io_dtype = DType::kF32;
  params.kv_row_stride = head_dim;
  machine.table->append_kv(machine.context, params);
  std::vector<float> keys;
  for (uint32_t i = 0; i < num_keys; ++i) {
    const uint32_t lane = jobs[i].first_pos % kBlockTokens;
    for (uint32_t dim = 0; dim < head_dim; ++dim) {
      keys.push_back(
          LoadElement(pool.block(slots[i]), machine.kv_dtype, dim * device::kPanelTokens + lane));
    }
  }
  return keys;
}

std::vector<uint32_t> Consecutive(int64_t first, size_t count) {
  std::vector<uint32_t> positions;
  for (size_t i = 0; i < count; ++i) {
    positions.push_back(static_cast<uint32_t>(first) + static_cast<uint32_t>(i));
  }
  return positions;
}

Lists LeavesOf(const Array& indices) {
  Lists leaves(indices.shape[0]);
  for (size_t head = 0; head < leaves.size(); ++head) {
    for (const int32_t leaf :
         indices.shape[1] > 0 ? indices.IntRow(head) : std::span<const int32_t>()) {
      if (leaf >= 0) {
        leaves[head].push_back(leaf);
      }
    }
  }
  return leaves;
}

}  // namespace

void CheckMerge(const GoldenCase& golden, const Machine& machine) {
  const Array& o_a = golden.Input("o_a");
  std::vector<float> out(o_a.size());
  std::vector<float> lse(golden.Input("lse_a").size());
  device::MergeParams params{};
  params.num_rows = lse.size();
  params.head_dim = static_cast<uint32_t>(o_a.shape.back());
  params.o_a = o_a.floats.data();
  params.lse_a = golden.Input("lse_a").floats.data();
  params.o_b = golden.Input("o_b").floats.data();
  params.lse_b = golden.Input("lse_b").floats.data();
  params.o = out.data();
  params.lse = lse.data();
  machine.table->merge_states(machine.context, params);
  ExpectFloats(golden, "out", out);
  ExpectLse(golden, "lse", lse);
}

void CheckRope(const GoldenCase& golden, const Machine& machine) {
  const Array& x = golden.Input("x");
  const RopeSettings rope = RopeOf(golden);
  const auto& ints = golden.Input("positions").ints;
  const std::vector<uint32_t> positions(ints.begin(), ints.end());
  ExpectFloats(golden, "out", RotatedKeys(machine, x, positions, rope), machine.narrow());
  ExpectFloats(golden, "out", Rotated(machine, x, positions, rope).floats);
  Array plain = x;
  for (size_t i = 0; i < x.shape[0] * x.shape[1]; ++i) {
    core::ApplyRope(rope.layout,
                    rope.inv_freq,
                    positions[i / x.shape[1]],
                    std::span(plain.floats).subspan(i * x.shape[2], x.shape[2]));
  }
  ExpectFloats(golden, "out", plain.floats);
}

void CheckAttend(const GoldenCase& golden, const Machine& machine) {
  const Array& q = golden.Input("q");
  const Array& mask = golden.Input("token_mask");
  const KvText text(machine, golden.Input("k"), golden.Input("v"), kBlockTokens);
  const BlockRules rules = RulesOf(golden, kBlockTokens);
  const QueryBlock block{&q, 0, static_cast<uint32_t>(q.shape[0]), 0, 0, -1};
  Outputs outputs(q);
  for (uint32_t head = 0; head < text.num_kv_heads(); ++head) {
    const device::QueryRows rows = block.Rows(head, text.num_kv_heads());
    for (uint32_t row = 0; row < rows.num_rows; ++row) {
      // Each token as a leaf of its own: neighbours come out as one range.
      std::vector<int32_t> tokens;
      const auto taken = mask.IntRow(head * rows.num_rows + row);
      for (uint32_t token = 0; token < text.num_tokens(); ++token) {
        if (taken[token] != 0) {
          tokens.push_back(static_cast<int32_t>(token));
        }
      }
      RowKeys keys;
      core::PlanRow(
          {0, text.num_tokens(), text.num_tokens()}, {tokens, 1}, kBlockTokens, &keys.ranges);
      const size_t first_head = row * block.num_heads() + head * rows.group;
      text.Attend(head,
                  keys,
                  {rows.q + row * rows.row_stride,
                   rows.group,
                   0,
                   outputs.out.data() + first_head * text.head_dim(),
                   outputs.lse.data() + first_head},
                  rules.softmax,
                  {});
    }
  }
  ExpectFloats(golden, "out", outputs.out, machine.narrow());
  ExpectLse(golden, "lse", outputs.lse, machine.narrow());
}

void CheckAttendLeaves(const GoldenCase& golden, const Machine& machine) {
  const Array& q = golden.Input("q");
  const Array& k = golden.Input("k");
  const Array& v = golden.Input("v");
  BlockRules rules = RulesOf(golden, golden.Count("leaf_tokens"));
  QueryBlock block{&q,
                   0,
                   static_cast<uint32_t>(q.shape[0]),
                   golden.Int("first_pos"),
                   static_cast<int64_t>(k.shape[0]),
                   golden.Int("anchor_pos")};
  const Lists leaves = LeavesOf(golden.Input("indices"));
  const struct {
    KeyClass key_class;
    const char* suffix;
  } parts[] = {{KeyClass::kAll, ""},
               {KeyClass::kSink, "_sink"},
               {KeyClass::kSelected, "_selected"},
               {KeyClass::kWindow, "_window"}};
  const KvText text(machine, k, v, kBlockTokens);
  for (const auto& part : parts) {
    Outputs outputs(q);
    AttendBlock(text, rules, block, leaves, part.key_class, &outputs);
    ExpectFloats(golden, std::string("out") + part.suffix, outputs.out, machine.narrow());
    ExpectLse(golden, std::string("lse") + part.suffix, outputs.lse, machine.narrow());
  }
  const bool stays_true =
      core::FrameMode(rules.extension, block.last_pos()) == core::ScanMode::kTrue;
  if (rules.rope.layout != core::RopeLayout::kNone && stays_true && !machine.narrow()) {
    // Below the trained length keys may as well be stored rotated.
    const KvText turned(machine, k, v, kBlockTokens, rules.rope);
    const Array turned_q =
        Rotated(machine, q, Consecutive(block.first_pos, q.shape[0]), rules.rope);
    block.q = &turned_q;
    rules.rope = {};
    Outputs outputs(q);
    AttendBlock(turned, rules, block, leaves, KeyClass::kAll, &outputs);
    ExpectFloats(golden, "out", outputs.out);
    ExpectLse(golden, "lse", outputs.lse);
  }
}

}  // namespace hipattn::golden
