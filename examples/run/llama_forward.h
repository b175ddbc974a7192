// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Runs tokens through a Llama model. The keys and values live in a hipattn sequence; everything
// else here is scratch memory for the longest chunk.
//
//   LlamaForward forward(model, engine.get(), workers, 512);
//   forward.Run(sequence.get(), prompt_part, Phase::kPrefill, nullptr);      // reads a chunk
//   forward.Run(sequence.get(), last_part, Phase::kPrefill, logits.data());  // and predicts
//   forward.Run(sequence.get(), {&token, 1}, Phase::kDecode, logits.data());
#ifndef HIPATTN_EXAMPLES_RUN_LLAMA_FORWARD_H_
#define HIPATTN_EXAMPLES_RUN_LLAMA_FORWARD_H_

#include "attention.h"
#include "llama_model.h"
#include "result.h"
#include "workers.h"

#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

namespace hipattn_run {

// How a chunk attends; the values are those of hipattn_attend_args_t::phase.
enum class Phase : uint32_t { kDecode = 1, kPrefill = 2 };

// What stands between a layer and the library. It is given the call as the layer would make it and
// has to make it, or one that is worth as much: `out` must be written.
using AttendHook = std::function<Status(const hipattn_attend_args_t&)>;

class LlamaForward {
 public:
  // `model`, `engine` and `workers` must outlive this object.
  LlamaForward(const LlamaModel& model,
               hipattn_engine_t* engine,
               Workers& workers,
               size_t max_chunk_tokens);

  size_t max_chunk_tokens() const { return max_chunk_tokens_; }

  // From now on layers attend through `hook`, for programs that look at q, k and v or choose blocks
  // themselves; an empty one takes it back.
  void set_attend_hook(AttendHook hook) { attend_hook_ = std::move(hook); }

  // Appends 1 to max_chunk_tokens tokens to the sequence. With `logits`, [vocab_size], the
  // prediction after the last of them. After an error some layers of the sequence may have the
  // tokens and others not: truncate it to its length before going on.
  Status Run(hipattn_sequence_t* sequence,
             std::span<const int32_t> tokens,
             Phase phase,
             float* logits);

 private:
  // Grows the buffers to chunks of so many tokens.
  void Reserve(size_t tokens);
  Status RunLayers(hipattn_sequence_t* sequence, size_t tokens, Phase phase, float* logits);
  Status RunLayer(hipattn_sequence_t* sequence, size_t index, size_t tokens, Phase phase);
  Status Attend(const hipattn_attend_args_t& args) const;
  void FeedForward(const LlamaLayer& layer, size_t tokens);
  void Normalize(const std::vector<float>& weight, size_t tokens);
  void AddResidual(size_t tokens);

  const LlamaModel& model_;
  hipattn_engine_t* engine_;
  Workers& workers_;
  size_t max_chunk_tokens_;
  AttendHook attend_hook_;
  // All [tokens of the longest chunk so far, width].
  std::vector<float> residual_, normed_, update_;
  std::vector<float> q_, k_, v_, attended_;
  std::vector<float> gate_, up_;
};

}  // namespace hipattn_run

#endif  // HIPATTN_EXAMPLES_RUN_LLAMA_FORWARD_H_
