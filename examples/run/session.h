// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// One loaded model with its engine: reads a prompt into a sequence and answers from it, as often as
// wanted (from forks of the sequence).
#ifndef HIPATTN_EXAMPLES_RUN_SESSION_H_
#define HIPATTN_EXAMPLES_RUN_SESSION_H_

#include "attention.h"
#include "llama_forward.h"
#include "llama_model.h"
#include "options.h"
#include "recall_log.h"
#include "result.h"
#include "tokenizer.h"
#include "workers.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hipattn_run {

struct Answer {
  std::string text;
  std::vector<int32_t> tokens;
  double decode_seconds = 0;
  std::vector<double> step_seconds;  // of each decode step; decode_seconds is their sum
  double decode_cpu_seconds = 0;     // of all threads
  double median_step_seconds = 0;
  double least_step_seconds = 0;
  size_t decode_steps = 0;                 // the first token comes from the prompt, without a step
  double attended_share = 0;               // of the text, by a mean decode step, layer and kv head
  hipattn_stats_t stats = {};              // of the decode steps alone
  std::vector<AuditedHead> audited_heads;  // afterwards, those that lose most first
  RecallLog recall;                        // with --verify-recall or --min-recall
  uint64_t bytes_read = 0;                 // by them: keys, values and summaries

  double tokens_per_second() const {
    return decode_seconds > 0 ? static_cast<double>(decode_steps) / decode_seconds : 0;
  }
};

// How the prompt went in.
struct Reading {
  std::string prefill;  // the name of the mode
  double seconds = 0;
  double cpu_seconds = 0;    // of all threads
  uint64_t tiles = 0;        // of 64 queries x 64 keys that were computed, dense heads included
  uint64_t dense_tiles = 0;  // that dense attention would compute; both 0: no chunk had masks
  // Share of softmax mass that the masks attended, with --verify-recall; NaN: not known.
  double recall = 0;
  size_t saved_tokens = 0;    // of the prompt, to a file or from one
  double save_seconds = 0;    // 0: not saved; no part of `seconds`
  double load_seconds = 0;    // 0: not loaded; a part of `seconds`
  std::vector<float> logits;  // of the answer's first token
  // With --compare-prefill, beside the first reading:
  double kl = 0;  // divergence of the first token's distribution, in nats
  bool same_answer = true;

  std::optional<double> density() const;  // nullopt: not known
};

// The part of a prompt that --save-text and --load-text keep.
struct KeptText {
  size_t tokens = 0;
  std::vector<std::byte> fingerprint;
};

class Session {
 public:
  // `model` and `tokenizer` must outlive the session.
  static Result<std::unique_ptr<Session>> Create(const LlamaModel& model,
                                                 const Tokenizer& tokenizer,
                                                 const Options& options);

  // What ReadPrompt saves or loads where the options say so.
  void SetKeptText(KeptText kept) { kept_ = std::move(kept); }

  // Reads --depth random tokens and the prompt. Afterwards Generate can be called.
  // *reading is set.
  Result<Sequence> ReadPrompt(const std::vector<int32_t>& prompt,
                              uint32_t prefill_mode,
                              Reading* reading);

  // Continues the prompt in `sequence`, which is the last one of ReadPrompt or a fork of it, and
  // changes it. `show` gets the text as it comes.
  Result<Answer> Generate(const Sequence& sequence,
                          const std::function<void(std::string_view)>& show);

  const Engine& engine() const { return engine_; }
  size_t num_threads() const { return workers_->num_threads(); }

 private:
  Session(const LlamaModel& model, const Tokenizer& tokenizer, const Options& options)
      : model_(model), tokenizer_(tokenizer), options_(options) {}
  Status Start();
  // Without the kept text, or with it from its file.
  Result<Sequence> BeginText(uint32_t prefill_mode, Reading* reading);
  // What is left of the prompt, with the save on the way.
  Status ReadRest(const Sequence& sequence, std::span<const int32_t> prompt, Reading* reading);
  // `last`: the prediction after the tokens is wanted.
  Status ReadChunks(hipattn_sequence_t* sequence, std::span<const int32_t> tokens, bool last);
  Status FillWithRandomTokens(hipattn_sequence_t* sequence);
  // One decode step: the prediction after `token` goes to `logits`.
  Status Step(const Sequence& sequence, int32_t token, std::vector<float>* logits, Answer* answer);

  const LlamaModel& model_;
  const Tokenizer& tokenizer_;
  Options options_;
  Engine engine_;
  std::unique_ptr<Workers> workers_;
  std::unique_ptr<LlamaForward> forward_;
  std::vector<float> prompt_logits_;
  KeptText kept_;
};

}  // namespace hipattn_run

#endif  // HIPATTN_EXAMPLES_RUN_SESSION_H_
