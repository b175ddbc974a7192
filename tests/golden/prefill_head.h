// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Heads of a prefill case: the case's text in blocks, what ops find out about a head, what its
// pattern attends then, and attention over that, put together by hand.
#ifndef HIPATTN_TESTS_GOLDEN_PREFILL_HEAD_H_
#define HIPATTN_TESTS_GOLDEN_PREFILL_HEAD_H_

#include "core/mask/block_lists.h"
#include "core/mask/prefill_shape.h"
#include "core/mask/tile_source.h"
#include "core/pattern/head_pattern.h"
#include "core/pattern/line_select.h"
#include "tests/golden/checks.h"
#include "tests/support/kv_fixture.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace hipattn::golden {

// [type, a, b] of a case. REQUIRES: a type of prefill SPEC 8.7 and sizes that are not negative.
core::HeadPattern PatternOf(const nlohmann::json& entry);

// q [heads][rows][head_dim] of a case and, in blocks, its keys and values [kv heads][keys][..].
// The case outlives it.
class PrefillText {
 public:
  PrefillText(const GoldenCase& golden, const Machine& machine);

  uint32_t num_heads() const { return Length(q_, 0); }
  uint32_t num_rows() const { return Length(q_, 1); }
  uint32_t head_dim() const { return Length(q_, 2); }
  uint32_t num_keys() const { return num_keys_; }
  uint32_t first_pos() const { return num_keys_ - num_rows(); }
  core::PrefillShape shape() const { return {num_rows(), num_keys_}; }
  float scale() const { return scale_; }
  const Machine& machine() const { return machine_; }
  const device::BlockPool& pool() const { return pool_.pool(); }
  const uint32_t* slots(uint32_t head) const { return slots_[KvHead(head)].data(); }
  uint32_t KvHead(uint32_t head) const { return head / (num_heads() / num_kv_heads_); }
  const float* Row(uint32_t head, uint32_t row) const {
    return q_.floats.data() + (size_t{head} * num_rows() + row) * head_dim();
  }

 private:
  static uint32_t Length(const Array& array, size_t dim) {
    return static_cast<uint32_t>(array.shape[dim]);
  }

  const Machine& machine_;
  const Array& q_;
  uint32_t num_kv_heads_;
  uint32_t num_keys_;
  float scale_;
  testing::KvPool pool_;
  std::vector<std::vector<uint32_t>> slots_;
};

// Rows of heads, one head behind the other.
struct HeadRows {
  explicit HeadRows(const PrefillText& text, uint32_t num_heads)
      : out(size_t{num_heads} * text.num_rows() * text.head_dim()),
        lse(size_t{num_heads} * text.num_rows()),
        out_width(size_t{text.num_rows()} * text.head_dim()),
        lse_width(text.num_rows()) {}
  explicit HeadRows(const PrefillText& text) : HeadRows(text, text.num_heads()) {}

  float* Out(uint32_t i) { return out.data() + i * out_width; }
  float* Lse(uint32_t i) { return lse.data() + i * lse_width; }

  std::vector<float> out;  // [heads][rows][head_dim]
  std::vector<float> lse;  // [heads][rows]
  size_t out_width, lse_width;
};

// Column and diagonal sums of the last min(last_q, rows) rows.
struct LineSums {
  std::vector<float> vertical, slash;
};
LineSums EstimateLines(const PrefillText& text, uint32_t head, uint32_t last_q);

// [row tiles][blocks of 64 keys].
std::vector<float> EstimateBlocks(const PrefillText& text, uint32_t head);

// What a head attends.
struct HeadChoice {
  core::Lines lines;        // of a vertical-slash head
  core::BlockLists blocks;  // of a block-sparse one
  std::unique_ptr<core::TileSource> source;
};

struct ChoiceRules {
  uint32_t last_q = 64;
  double ratio = 1.0;
  bool compat = false;  // block-sparse: nothing is forced
};

// By the head's estimate.
std::unique_ptr<HeadChoice> ChooseHead(const PrefillText& text,
                                       uint32_t head,
                                       const core::HeadPattern& pattern,
                                       const ChoiceRules& rules);

// out [rows][head_dim], lse [rows] of one head.
void AttendMask(
    const PrefillText& text, const PrefillMask& mask, uint32_t head, float* out, float* lse);
void AttendAll(const PrefillText& text, uint32_t head, float* out, float* lse);

// The case's tolerance of the name, for its KV type.
void ExpectNear(const GoldenCase& golden,
                const Machine& machine,
                const std::string& name,
                std::span<const float> got);

// The same of numbers that stand in the case itself.
void ExpectNumbers(const GoldenCase& golden,
                   const Machine& machine,
                   const std::string& name,
                   std::span<const float> got);

// All heads' rows against out, or against the rows out_rows of it, and lse.
void ExpectRows(const GoldenCase& golden, const PrefillText& text, const HeadRows& got);

}  // namespace hipattn::golden

#endif  // HIPATTN_TESTS_GOLDEN_PREFILL_HEAD_H_
