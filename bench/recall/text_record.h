// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What a densely read text left in the cache: keys and values of all layers as they are stored, and
// the queries of the rows that audits look at. From it a sequence with another index is filled
// without running the model again, and has audited its heads as if it had read the text itself.
// Keys and queries are rotated here and go into engines that do not rotate, so that the bench and
// the library see the same bits.
#ifndef HIPATTN_BENCH_RECALL_TEXT_RECORD_H_
#define HIPATTN_BENCH_RECALL_TEXT_RECORD_H_

#include "attention.h"
#include "key_panels.h"
#include "llama_model.h"
#include "result.h"

#include <cstdint>
#include <vector>

namespace recall_bench {

using hipattn_run::LlamaConfig;
using hipattn_run::LlamaModel;
using hipattn_run::Status;

// Rotation of neighbouring pairs (2i, 2i + 1) by position * inv_freq[i] (RoPE, arXiv 2104.09864).
class RopeTable {
 public:
  RopeTable(const LlamaModel& model, size_t max_tokens);

  // x: [num_tokens, num_heads, head_dim], the first token at `position`.
  void Rotate(float* x, size_t num_tokens, size_t num_heads, size_t position) const;

 private:
  size_t head_dim_;
  size_t pairs_;
  std::vector<float> cos_;  // [max_tokens][pairs]
  std::vector<float> sin_;
};

// An engine for this model on one thread that takes q and k rotated.
hipattn_engine_options_t UnrotatingEngineOptions(const LlamaModel& model, uint32_t block_tokens);

// A prefill audits the last of so many rows (hipattn.h, audit_interval).
inline constexpr size_t kAuditRows = 256;

class TextRecord {
 public:
  TextRecord(const LlamaConfig& config, size_t max_tokens);

  // Before a text of num_tokens.
  void Clear(size_t num_tokens);
  // The next tokens of a layer, q and k rotated; shapes as in hipattn_attend_args_t.
  void Append(size_t layer, const float* q, const float* k, const float* v, size_t num_tokens);

  KeyPanels& keys() { return keys_; }
  size_t text_tokens() const { return text_tokens_; }

  // Appends the text to an empty sequence: keys and values alone, or, with_audits, the rows that
  // are audited as prefill chunks of one row.
  Status Replay(hipattn_engine_t* engine, hipattn_sequence_t* sequence, bool with_audits);

 private:
  float* Query(size_t layer, size_t position);
  // Tokens [begin, end) of the layer of `call`, which has everything but k, v and out.
  Status ReplayChunk(hipattn_engine_t* engine,
                     const hipattn_attend_args_t& call,
                     size_t begin,
                     size_t end);

  size_t q_width_;
  size_t kv_width_;
  size_t num_layers_;
  size_t max_tokens_;
  size_t text_tokens_ = 0;
  KeyPanels keys_;
  std::vector<size_t> lengths_;
  std::vector<uint16_t> values_;    // [layers][max_tokens][kv_width], bf16
  std::vector<float> queries_;      // [layers][max_tokens / kAuditRows][q_width]
  std::vector<float> k_, v_, out_;  // of one chunk
};

}  // namespace recall_bench

#endif  // HIPATTN_BENCH_RECALL_TEXT_RECORD_H_
