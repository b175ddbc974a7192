// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "llama_forward.h"

#include "matrix_product.h"
#include "vector_ops.h"

#include <algorithm>

namespace hipattn_run {
namespace {

// Rows of a chunk that one thread takes at a time in the elementwise parts.
constexpr size_t kRowsPerTask = 32;

// body(begin, end) over runs of rows.
template <typename Body>
void ForRows(size_t rows, Workers& workers, const Body& body) {
  workers.ForEach((rows + kRowsPerTask - 1) / kRowsPerTask, [&](size_t i) {
    body(i * kRowsPerTask, std::min(rows, (i + 1) * kRowsPerTask));
  });
}

}  // namespace

LlamaForward::LlamaForward(const LlamaModel& model,
                           hipattn_engine_t* engine,
                           Workers& workers,
                           size_t max_chunk_tokens)
    : model_(model), engine_(engine), workers_(workers), max_chunk_tokens_(max_chunk_tokens) {
  UseSingleThreadedBlas();
}

void LlamaForward::Reserve(size_t tokens) {
  const LlamaConfig& config = model_.config;
  const auto grow = [tokens](std::vector<float>* buffer, size_t width) {
    buffer->resize(std::max(buffer->size(), tokens * width));
  };
  for (std::vector<float>* buffer : {&residual_, &normed_, &update_}) {
    grow(buffer, config.embedding);
  }
  for (std::vector<float>* buffer : {&q_, &attended_}) {
    grow(buffer, config.q_width());
  }
  for (std::vector<float>* buffer : {&k_, &v_}) {
    grow(buffer, config.kv_width());
  }
  for (std::vector<float>* buffer : {&gate_, &up_}) {
    grow(buffer, config.feed_forward);
  }
}

Status LlamaForward::Run(hipattn_sequence_t* sequence,
                         std::span<const int32_t> tokens,
                         Phase phase,
                         float* logits) {
  const LlamaConfig& config = model_.config;
  if (tokens.empty() || tokens.size() > max_chunk_tokens_) {
    return Status::Error("a chunk has ", tokens.size(), " tokens, not 1 to ", max_chunk_tokens_);
  }
  Reserve(tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) {
    const auto token = static_cast<size_t>(tokens[i]);
    if (tokens[i] < 0 || token >= config.vocab_size) {
      return Status::Error(
          "token ", tokens[i], " is outside the vocabulary of ", config.vocab_size);
    }
    DequantizeRows(model_.token_embedding.Rows(token, token + 1),
                   residual_.data() + i * config.embedding);
  }
  return workers_.Inside([&] { return RunLayers(sequence, tokens.size(), phase, logits); });
}

Status LlamaForward::RunLayers(hipattn_sequence_t* sequence,
                               size_t tokens,
                               Phase phase,
                               float* logits) {
  const LlamaConfig& config = model_.config;
  for (size_t layer = 0; layer < config.num_layers; ++layer) {
    RUN_RETURN_IF_ERROR(RunLayer(sequence, layer, tokens, phase));
  }
  if (logits != nullptr) {
    const float* last = residual_.data() + (tokens - 1) * config.embedding;
    RmsNorm(last, model_.output_norm.data(), config.embedding, config.norm_epsilon, normed_.data());
    const Product product[] = {{&model_.output, logits}};
    MultiplyAll(product, normed_.data(), 1, workers_);
  }
  return {};
}

Status LlamaForward::RunLayer(hipattn_sequence_t* sequence,
                              size_t index,
                              size_t tokens,
                              Phase phase) {
  const LlamaLayer& layer = model_.layers[index];
  Normalize(layer.attention_norm, tokens);
  const Product qkv[] = {{&layer.q, q_.data()}, {&layer.k, k_.data()}, {&layer.v, v_.data()}};
  MultiplyAll(qkv, normed_.data(), tokens, workers_);

  const auto num_new_tokens = static_cast<uint32_t>(tokens);
  hipattn_attend_args_t args = {};
  args.struct_size = sizeof(args);
  args.layer = static_cast<uint32_t>(index);
  args.num_sequences = 1;
  args.sequences = &sequence;
  args.num_new_tokens = &num_new_tokens;
  args.q = q_.data();
  args.k = k_.data();
  args.v = v_.data();
  args.out = attended_.data();
  args.phase = static_cast<uint32_t>(phase);
  RUN_RETURN_IF_ERROR(Attend(args));

  const Product out[] = {{&layer.attention_out, update_.data()}};
  MultiplyAll(out, attended_.data(), tokens, workers_);
  AddResidual(tokens);
  FeedForward(layer, tokens);
  return {};
}

Status LlamaForward::Attend(const hipattn_attend_args_t& args) const {
  return attend_hook_ ? attend_hook_(args) : CheckHipattn(hipattn_attend(engine_, &args), "attend");
}

void LlamaForward::FeedForward(const LlamaLayer& layer, size_t tokens) {
  Normalize(layer.feed_forward_norm, tokens);
  const Product gate_up[] = {{&layer.gate, gate_.data()}, {&layer.up, up_.data()}};
  MultiplyAll(gate_up, normed_.data(), tokens, workers_);
  const size_t width = model_.config.feed_forward;
  ForRows(tokens, workers_, [&](size_t begin, size_t end) {
    SiluMultiply(gate_.data() + begin * width, up_.data() + begin * width, (end - begin) * width);
  });
  const Product down[] = {{&layer.down, update_.data()}};
  MultiplyAll(down, gate_.data(), tokens, workers_);
  AddResidual(tokens);
}

void LlamaForward::Normalize(const std::vector<float>& weight, size_t tokens) {
  const size_t width = model_.config.embedding;
  ForRows(tokens, workers_, [&](size_t begin, size_t end) {
    for (size_t t = begin; t < end; ++t) {
      RmsNorm(residual_.data() + t * width,
              weight.data(),
              width,
              model_.config.norm_epsilon,
              normed_.data() + t * width);
    }
  });
}

void LlamaForward::AddResidual(size_t tokens) {
  const size_t width = model_.config.embedding;
  ForRows(tokens, workers_, [&](size_t begin, size_t end) {
    AddTo(residual_.data() + begin * width, update_.data() + begin * width, (end - begin) * width);
  });
}

}  // namespace hipattn_run
