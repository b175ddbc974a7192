// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// One head of a model alone, in an engine of its own on one thread: its queries, keys and values
// are attended as one prefill chunk by any pattern, through the C API.
#ifndef HIPATTN_BENCH_SEARCH_HEAD_ATTENTION_H_
#define HIPATTN_BENCH_SEARCH_HEAD_ATTENTION_H_

#include "attention.h"
#include "core/pattern/head_pattern.h"
#include "llama_model.h"
#include "result.h"

#include <cstdint>
#include <optional>
#include <vector>

namespace pattern_search {

using hipattn_run::LlamaModel;
using hipattn_run::Result;
using hipattn_run::Status;

// [num_tokens, head_dim] each, as hipattn_attend takes them.
struct HeadInput {
  std::vector<float> q, k, v;
};

struct Attended {
  std::vector<float> out;  // [num_tokens, head_dim]
  std::vector<float> lse;  // [num_tokens]
  uint64_t tiles = 0;      // 64 x 64, computed
  uint64_t dense_tiles = 0;
  double select_ns = 0;  // finding out what to attend
  double attend_ns = 0;

  // Whether the library took the mask for not worth it.
  bool ran_dense() const { return tiles == dense_tiles; }
};

// HIPATTN_PREFILL_* of the type.
uint32_t PrefillModeOf(hipattn::core::PatternType type);

// One thread at a time.
class HeadAttention {
 public:
  // The head's geometry, rotation and storage are the model's.
  static Result<HeadAttention> Create(const LlamaModel& model);

  // By the pattern; densely without one. The pattern's sizes are at least 1.
  Result<Attended> Run(const HeadInput& input,
                       const std::optional<hipattn::core::HeadPattern>& pattern);

 private:
  HeadAttention(hipattn_run::Engine engine, hipattn_run::Sequence sequence, size_t head_dim)
      : engine_(std::move(engine)), sequence_(std::move(sequence)), head_dim_(head_dim) {}

  hipattn_run::Engine engine_;
  hipattn_run::Sequence sequence_;
  size_t head_dim_;
};

}  // namespace pattern_search

#endif  // HIPATTN_BENCH_SEARCH_HEAD_ATTENTION_H_
