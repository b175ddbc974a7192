// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// A Llama model as a GGUF file has it: the sizes and the weights, which stay in the file.
#ifndef HIPATTN_EXAMPLES_RUN_LLAMA_MODEL_H_
#define HIPATTN_EXAMPLES_RUN_LLAMA_MODEL_H_

#include "gguf.h"
#include "quant_matvec.h"
#include "result.h"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace hipattn_run {

struct LlamaConfig {
  size_t num_layers = 0;
  size_t embedding = 0;  // width of the residual stream
  size_t feed_forward = 0;
  size_t num_q_heads = 0;
  size_t num_kv_heads = 0;
  size_t head_dim = 0;
  size_t vocab_size = 0;
  size_t trained_tokens = 0;
  size_t rope_dim = 0;
  float rope_theta = 0;
  float norm_epsilon = 0;

  size_t q_width() const { return num_q_heads * head_dim; }
  size_t kv_width() const { return num_kv_heads * head_dim; }
};

// A matrix of the file: `rows` outputs of `columns` inputs.
struct Weight {
  TensorType type = TensorType::kF32;
  const uint8_t* data = nullptr;
  size_t rows = 0;
  size_t columns = 0;

  WeightRows Rows(size_t begin, size_t end) const { return {type, data, columns, begin, end}; }
};

struct LlamaLayer {
  std::vector<float> attention_norm;
  std::vector<float> feed_forward_norm;
  Weight q, k, v, attention_out;
  Weight gate, up, down;
};

struct LlamaModel {
  // Fails for another architecture, for a variant this program does not compute, and for tensors
  // that are missing or have other shapes than the sizes say. `file` must outlive the result.
  static Result<LlamaModel> Load(const GgufFile& file);

  // Rotates as if the file named this base: a larger one than the model's stretches its rotation,
  // so that positions beyond the trained length turn no further than ones it knows. base > 0.
  void SetRopeBase(float base);

  LlamaConfig config;
  Weight token_embedding;
  Weight output;  // the token embedding where the file ties them
  std::vector<float> output_norm;
  std::vector<float> rope_inv_freq;  // [rope_dim / 2]: angle of pair i at position p is p times it
  std::vector<LlamaLayer> layers;
};

}  // namespace hipattn_run

#endif  // HIPATTN_EXAMPLES_RUN_LLAMA_MODEL_H_
