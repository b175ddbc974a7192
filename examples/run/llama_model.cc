// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "llama_model.h"

#include <cmath>
#include <limits>
#include <string>

namespace hipattn_run {
namespace {

constexpr size_t kMaxLayers = 1024;
constexpr size_t kMaxWidth = 1 << 20;

Status ReadSize(const GgufFile& file, const std::string& key, size_t limit, size_t* value) {
  Result<uint64_t> number = file.GetUint(key);
  if (!number.ok()) {
    return number.status();
  }
  if (number.value() == 0 || number.value() > limit) {
    return Status::Error("metadata '", key, "' is ", number.value(), ", not in 1 to ", limit);
  }
  *value = number.value();
  return {};
}

// Leaves `value` as it is where the file lacks the key.
Status ReadOptionalSize(const GgufFile& file, const std::string& key, size_t limit, size_t* value) {
  return file.Find(key) == nullptr ? Status() : ReadSize(file, key, limit, value);
}

Status ReadPositiveFloat(const GgufFile& file, const std::string& key, float* value) {
  Result<double> number = file.GetFloat(key);
  if (!number.ok()) {
    return number.status();
  }
  if (!(number.value() > 0) || !std::isfinite(number.value())) {
    return Status::Error("metadata '", key, "' is ", number.value(), ", not positive");
  }
  *value = static_cast<float>(number.value());
  return {};
}

// What would change the computation and is not done here.
Status CheckSupported(const GgufFile& file) {
  if (file.Find("llama.expert_count") != nullptr) {
    Result<uint64_t> experts = file.GetUint("llama.expert_count");
    if (!experts.ok()) {
      return experts.status();
    }
    if (experts.value() != 0) {
      return Status::Error("the model has ", experts.value(), " experts, which is not supported");
    }
  }
  if (file.Find("llama.rope.scaling.type") != nullptr) {
    Result<std::string_view> type = file.GetString("llama.rope.scaling.type");
    if (!type.ok()) {
      return type.status();
    }
    if (type.value() != "none" && type.value() != "linear") {
      return Status::Error("llama.rope.scaling.type '", type.value(), "' is not supported");
    }
  }
  if (file.FindTensor("blk.0.attn_q.bias") != nullptr) {
    return Status::Error("tensor 'blk.0.attn_q.bias': attention biases are not supported");
  }
  return {};
}

Status ReadConfig(const GgufFile& file, LlamaConfig* config) {
  Result<std::string_view> architecture = file.GetString("general.architecture");
  if (!architecture.ok()) {
    return architecture.status();
  }
  if (architecture.value() != "llama") {
    return Status::Error(
        "general.architecture is '", architecture.value(), "', only 'llama' is supported");
  }
  RUN_RETURN_IF_ERROR(CheckSupported(file));
  constexpr size_t kMaxTokens = std::numeric_limits<uint32_t>::max();
  RUN_RETURN_IF_ERROR(ReadSize(file, "llama.block_count", kMaxLayers, &config->num_layers));
  RUN_RETURN_IF_ERROR(ReadSize(file, "llama.context_length", kMaxTokens, &config->trained_tokens));
  RUN_RETURN_IF_ERROR(ReadSize(file, "llama.embedding_length", kMaxWidth, &config->embedding));
  RUN_RETURN_IF_ERROR(
      ReadSize(file, "llama.feed_forward_length", kMaxWidth, &config->feed_forward));
  RUN_RETURN_IF_ERROR(
      ReadSize(file, "llama.attention.head_count", kMaxWidth, &config->num_q_heads));
  config->num_kv_heads = config->num_q_heads;
  RUN_RETURN_IF_ERROR(ReadOptionalSize(
      file, "llama.attention.head_count_kv", config->num_q_heads, &config->num_kv_heads));
  if (config->num_q_heads % config->num_kv_heads != 0) {
    return Status::Error("llama.attention.head_count ",
                         config->num_q_heads,
                         " is not a multiple of head_count_kv ",
                         config->num_kv_heads);
  }
  config->head_dim = config->embedding / config->num_q_heads;
  RUN_RETURN_IF_ERROR(
      ReadOptionalSize(file, "llama.attention.key_length", kMaxWidth, &config->head_dim));
  size_t value_length = config->head_dim;
  RUN_RETURN_IF_ERROR(
      ReadOptionalSize(file, "llama.attention.value_length", kMaxWidth, &value_length));
  if (value_length != config->head_dim || config->head_dim == 0) {
    return Status::Error("llama.attention.value_length ",
                         value_length,
                         " and key length ",
                         config->head_dim,
                         " are not supported together");
  }
  config->rope_dim = config->head_dim;
  RUN_RETURN_IF_ERROR(
      ReadOptionalSize(file, "llama.rope.dimension_count", config->head_dim, &config->rope_dim));
  config->rope_theta = 10000.0F;
  if (file.Find("llama.rope.freq_base") != nullptr) {
    RUN_RETURN_IF_ERROR(ReadPositiveFloat(file, "llama.rope.freq_base", &config->rope_theta));
  }
  return ReadPositiveFloat(file, "llama.attention.layer_norm_rms_epsilon", &config->norm_epsilon);
}

Result<const GgufTensor*> FindShaped(const GgufFile& file,
                                     const std::string& name,
                                     size_t rows,
                                     size_t columns) {
  const GgufTensor* tensor = file.FindTensor(name);
  if (tensor == nullptr) {
    return Status::Error("tensor '", name, "' is missing");
  }
  if (tensor->columns() != columns || tensor->rows() != rows) {
    return Status::Error("tensor '",
                         name,
                         "' has ",
                         tensor->rows(),
                         " rows of ",
                         tensor->columns(),
                         ", not ",
                         rows,
                         " of ",
                         columns);
  }
  return tensor;
}

Status LoadWeight(
    const GgufFile& file, const std::string& name, size_t rows, size_t columns, Weight* weight) {
  Result<const GgufTensor*> tensor = FindShaped(file, name, rows, columns);
  if (!tensor.ok()) {
    return tensor.status();
  }
  *weight = {tensor.value()->type, tensor.value()->data.data(), rows, columns};
  return {};
}

Status LoadVector(const GgufFile& file,
                  const std::string& name,
                  size_t size,
                  std::vector<float>* values) {
  Weight weight;
  RUN_RETURN_IF_ERROR(LoadWeight(file, name, 1, size, &weight));
  values->resize(size);
  DequantizeRows(weight.Rows(0, 1), values->data());
  return {};
}

Status LoadRope(const GgufFile& file, LlamaModel* model) {
  const LlamaConfig& config = model->config;
  if (config.rope_dim % 2 != 0) {
    return Status::Error("llama.rope.dimension_count ", config.rope_dim, " is odd");
  }
  std::vector<float> divisors(config.rope_dim / 2, 1.0F);
  if (file.FindTensor("rope_freqs.weight") != nullptr) {
    RUN_RETURN_IF_ERROR(LoadVector(file, "rope_freqs.weight", divisors.size(), &divisors));
  }
  float linear = 1.0F;
  if (file.Find("llama.rope.scaling.factor") != nullptr) {
    RUN_RETURN_IF_ERROR(ReadPositiveFloat(file, "llama.rope.scaling.factor", &linear));
  }
  for (size_t i = 0; i < divisors.size(); ++i) {
    const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(config.rope_dim);
    const double frequency = std::pow(static_cast<double>(config.rope_theta), exponent);
    model->rope_inv_freq.push_back(
        static_cast<float>(frequency / static_cast<double>(divisors[i] * linear)));
  }
  return {};
}

Status LoadLayer(const GgufFile& file, const LlamaConfig& config, size_t index, LlamaLayer* layer) {
  const std::string prefix = Concat("blk.", index, ".");
  RUN_RETURN_IF_ERROR(
      LoadVector(file, prefix + "attn_norm.weight", config.embedding, &layer->attention_norm));
  RUN_RETURN_IF_ERROR(
      LoadVector(file, prefix + "ffn_norm.weight", config.embedding, &layer->feed_forward_norm));
  struct Entry {
    const char* name;
    size_t rows, columns;
    Weight* weight;
  };
  const Entry entries[] = {
      {"attn_q.weight", config.q_width(), config.embedding, &layer->q},
      {"attn_k.weight", config.kv_width(), config.embedding, &layer->k},
      {"attn_v.weight", config.kv_width(), config.embedding, &layer->v},
      {"attn_output.weight", config.embedding, config.q_width(), &layer->attention_out},
      {"ffn_gate.weight", config.feed_forward, config.embedding, &layer->gate},
      {"ffn_up.weight", config.feed_forward, config.embedding, &layer->up},
      {"ffn_down.weight", config.embedding, config.feed_forward, &layer->down},
  };
  for (const Entry& entry : entries) {
    RUN_RETURN_IF_ERROR(
        LoadWeight(file, prefix + entry.name, entry.rows, entry.columns, entry.weight));
  }
  return {};
}

Status LoadAll(const GgufFile& file, LlamaModel* model) {
  LlamaConfig& config = model->config;
  RUN_RETURN_IF_ERROR(ReadConfig(file, &config));
  const GgufTensor* embedding = file.FindTensor("token_embd.weight");
  if (embedding == nullptr) {
    return Status::Error("tensor 'token_embd.weight' is missing");
  }
  config.vocab_size = embedding->rows();
  RUN_RETURN_IF_ERROR(LoadWeight(
      file, "token_embd.weight", config.vocab_size, config.embedding, &model->token_embedding));
  model->output = model->token_embedding;
  if (file.FindTensor("output.weight") != nullptr) {
    RUN_RETURN_IF_ERROR(
        LoadWeight(file, "output.weight", config.vocab_size, config.embedding, &model->output));
  }
  RUN_RETURN_IF_ERROR(
      LoadVector(file, "output_norm.weight", config.embedding, &model->output_norm));
  RUN_RETURN_IF_ERROR(LoadRope(file, model));
  model->layers.resize(config.num_layers);
  for (size_t i = 0; i < config.num_layers; ++i) {
    RUN_RETURN_IF_ERROR(LoadLayer(file, config, i, &model->layers[i]));
  }
  return {};
}

}  // namespace

Result<LlamaModel> LlamaModel::Load(const GgufFile& file) {
  LlamaModel model;
  const Status status = LoadAll(file, &model);
  if (!status.ok()) {
    return status;
  }
  return model;
}

void LlamaModel::SetRopeBase(float base) {
  const double ratio = static_cast<double>(base) / static_cast<double>(config.rope_theta);
  for (size_t i = 0; i < rope_inv_freq.size(); ++i) {
    const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(config.rope_dim);
    rope_inv_freq[i] =
        static_cast<float>(static_cast<double>(rope_inv_freq[i]) * std::pow(ratio, exponent));
  }
  config.rope_theta = base;
}

}  // namespace hipattn_run
