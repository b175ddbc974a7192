// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// KvText: the keys and values of a golden case, put into scattered blocks by the op append_kv, and
// what the ops attend, score and summarise of them.
#ifndef HIPATTN_TESTS_GOLDEN_KV_TEXT_H_
#define HIPATTN_TESTS_GOLDEN_KV_TEXT_H_

#include "core/plan.h"
#include "core/search/probe_walk.h"
#include "core/search/quantize.h"
#include "core/search/tree_walk.h"
#include "tests/golden/checks.h"
#include "tests/golden/settings.h"
#include "tests/support/kv_fixture.h"

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace hipattn::golden {

// Points into `rope`.
device::Rope DeviceRope(const RopeSettings& rope);

// The keys of one row. Without positions each range turns to its own place.
struct RowKeys {
  std::vector<core::TokenRange> ranges;
  std::vector<int64_t> positions;

  // The part inside [begin, end).
  RowKeys Clip(int64_t begin, int64_t end) const;
};

// One kv head's q heads of one query row, and where its results go.
struct RowQuery {
  const float* q;  // [group][head_dim]
  uint32_t group;
  int64_t pos;
  float* out;  // [group][head_dim]
  float* lse;  // [group]
};

struct Softmax {
  float scale = 1.0F;
  float softcap = 0.0F;
};

class KvText {
 public:
  // k, v [tokens, kv heads, head_dim]. Keys are stored rotated when `stored_rope` says so.
  KvText(const Machine& machine,
         const Array& k,
         const Array& v,
         uint32_t block_tokens,
         const RopeSettings& stored_rope = {});

  uint32_t num_tokens() const { return num_tokens_; }
  uint32_t num_kv_heads() const { return static_cast<uint32_t>(slots_.size()); }
  uint32_t head_dim() const { return pool_.pool().head_dim; }
  uint32_t block_tokens() const { return pool_.pool().block_tokens; }
  const device::BlockPool& pool() const { return pool_.pool(); }
  const std::vector<uint32_t>& slots(uint32_t kv_head) const { return slots_[kv_head]; }

  // sparse_decode, or attend_rotated where keys turn while they are read.
  void Attend(uint32_t kv_head,
              const RowKeys& keys,
              const RowQuery& query,
              const Softmax& softmax,
              const RopeSettings& rope) const;

  // dense_prefill of rows that begin at first_pos, over everything each of them sees. out and lse
  // are those of the first row's first head, strided as rows.q is.
  void AttendDense(uint32_t kv_head,
                   const device::QueryRows& rows,
                   int64_t first_pos,
                   const Softmax& softmax,
                   float* out,
                   float* lse) const;

  // Runs a probing search to its end on score_keys. Row r, head g of the group: q + r * row_stride
  // + g
  // * head_dim.
  void RunProbes(uint32_t kv_head,
                 const device::QueryRows& rows,
                 const RopeSettings& rope,
                 core::ProbeWalk* walk) const;

 private:
  Machine machine_;
  uint32_t num_tokens_;
  testing::KvPool pool_;
  std::vector<std::vector<uint32_t>> slots_;
};

// The int8 summaries of one kv head, made by summarize_blocks, and what reads them.
class KvSummaries {
 public:
  KvSummaries(const Machine& machine, const KvText& text, uint32_t kv_head, Scorer scorer);

  // Runs a tree search to its end on score_nodes.
  void RunTree(const device::QueryRows& rows, core::TreeWalk* walk) const;

  // Log masses of one level for one row's q heads, by estimate_nodes (D36).
  std::vector<float> LogMasses(uint32_t level,
                               std::span<const NodeGroup> groups,
                               std::span<const float> tokens,
                               const float* q,
                               uint32_t group,
                               const Softmax& softmax) const;

  // One vector of one node: which is 0 for m, 1 for w.
  core::QuantizedVector Read(uint32_t level, uint32_t node, uint32_t which) const;
  // Low, high and mean of every node of at least device::kKeptTokens / 8 + 1 tokens, by level.
  std::vector<float> Kept() const { return store_->Kept(); }

 private:
  Machine machine_;
  Scorer scorer_;
  uint32_t head_dim_;
  std::unique_ptr<testing::SummaryStore> store_;
};

}  // namespace hipattn::golden

#endif  // HIPATTN_TESTS_GOLDEN_KV_TEXT_H_
