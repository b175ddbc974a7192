// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "synthetic_gguf.h"

#include "utf8.h"

#include <cstring>

namespace hipattn_run::testing {
namespace {

constexpr uint32_t kString = static_cast<uint32_t>(GgufType::kString);

std::string ArrayHeader(GgufType type, uint64_t count) {
  return Bytes(static_cast<uint32_t>(type)) + Bytes(count);
}

}  // namespace

std::string LengthAndBytes(const std::string& text) {
  return Bytes(static_cast<uint64_t>(text.size())) + text;
}

void GgufWriter::AddRaw(const std::string& key, uint32_t type, const std::string& bytes) {
  values_ += LengthAndBytes(key) + Bytes(type) + bytes;
  ++num_values_;
}

void GgufWriter::AddUint32(const std::string& key, uint32_t value) {
  AddRaw(key, static_cast<uint32_t>(GgufType::kUint32), Bytes(value));
}

void GgufWriter::AddFloat32(const std::string& key, float value) {
  AddRaw(key, static_cast<uint32_t>(GgufType::kFloat32), Bytes(value));
}

void GgufWriter::AddBool(const std::string& key, bool value) {
  AddRaw(key, static_cast<uint32_t>(GgufType::kBool), Bytes(static_cast<uint8_t>(value)));
}

void GgufWriter::AddString(const std::string& key, const std::string& value) {
  AddRaw(key, kString, LengthAndBytes(value));
}

void GgufWriter::AddStrings(const std::string& key, const std::vector<std::string>& values) {
  std::string bytes = ArrayHeader(GgufType::kString, values.size());
  for (const std::string& value : values) {
    bytes += LengthAndBytes(value);
  }
  AddRaw(key, static_cast<uint32_t>(GgufType::kArray), bytes);
}

void GgufWriter::AddInts(const std::string& key, const std::vector<int32_t>& values) {
  std::string bytes = ArrayHeader(GgufType::kInt32, values.size());
  for (const int32_t value : values) {
    bytes += Bytes(value);
  }
  AddRaw(key, static_cast<uint32_t>(GgufType::kArray), bytes);
}

void GgufWriter::AddFloats(const std::string& key, const std::vector<float>& values) {
  std::string bytes = ArrayHeader(GgufType::kFloat32, values.size());
  for (const float value : values) {
    bytes += Bytes(value);
  }
  AddRaw(key, static_cast<uint32_t>(GgufType::kArray), bytes);
}

void GgufWriter::AddTensorAt(const std::string& name,
                             const std::vector<uint64_t>& dims,
                             uint32_t type,
                             uint64_t offset) {
  tensors_ += LengthAndBytes(name) + Bytes(static_cast<uint32_t>(dims.size()));
  for (const uint64_t dim : dims) {
    tensors_ += Bytes(dim);
  }
  tensors_ += Bytes(type) + Bytes(offset);
  ++num_tensors_;
}

void GgufWriter::AddTensor(const std::string& name,
                           const std::vector<uint64_t>& dims,
                           uint32_t type,
                           const std::string& data) {
  data_.resize((data_.size() + kAlignment - 1) / kAlignment * kAlignment);
  AddTensorAt(name, dims, type, data_.size());
  data_ += data;
}

std::string GgufWriter::Build() const {
  std::string file = "GGUF" + Bytes(version_) + Bytes(num_tensors_) + Bytes(num_values_);
  file += values_ + tensors_;
  file.resize((file.size() + kAlignment - 1) / kAlignment * kAlignment);
  return file + data_;
}

std::string RandomWeights(TensorType type, uint64_t rows, uint64_t columns, std::mt19937& random) {
  constexpr uint16_t kHalf2ToMinus8 = 0x1c00;
  constexpr uint16_t kHalfMinus2ToMinus5 = 0xa800;
  std::string bytes(rows * RowBytes(type, columns), '\0');
  if (type == TensorType::kF32) {
    std::normal_distribution<float> normal(0.0F, 0.05F);
    for (size_t i = 0; i < bytes.size(); i += sizeof(float)) {
      const float value = normal(random);
      std::memcpy(&bytes[i], &value, sizeof(value));
    }
    return bytes;
  }
  if (type == TensorType::kF16 || type == TensorType::kBF16) {
    // Sign and fraction at random, exponents around 2^-5.
    const uint16_t one_exponent = type == TensorType::kF16 ? 0x2800 : 0x3d00;
    const uint16_t random_bits = type == TensorType::kF16 ? 0x83ff : 0x807f;
    for (size_t i = 0; i < bytes.size(); i += 2) {
      const auto value = static_cast<uint16_t>(one_exponent | (random() & random_bits));
      std::memcpy(&bytes[i], &value, sizeof(value));
    }
    return bytes;
  }
  for (char& byte : bytes) {
    byte = static_cast<char>(random());
  }
  const TensorTypeInfo& info = GetTensorTypeInfo(type);
  for (size_t block = 0; block < bytes.size(); block += info.block_bytes) {
    const size_t scale_at = type == TensorType::kQ6_K ? 208 : 0;
    std::memcpy(&bytes[block + scale_at], &kHalf2ToMinus8, 2);
    if (type == TensorType::kQ4_1) {
      std::memcpy(&bytes[block + 2], &kHalfMinus2ToMinus5, 2);
    } else if (type == TensorType::kQ4_K) {
      std::memcpy(&bytes[block + 2], &kHalf2ToMinus8, 2);
    }
  }
  return bytes;
}

std::string VisibleByte(uint8_t byte) {
  const auto visible = [](uint32_t b) {
    return (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
  };
  uint32_t code = byte;
  if (!visible(byte)) {
    code = 0x100;
    for (uint32_t b = 0; b < byte; ++b) {
      code += visible(b) ? 0 : 1;
    }
  }
  std::string text;
  AppendUtf8(code, &text);
  return text;
}

void AddVocabulary(GgufWriter* writer, const std::string& pre) {
  constexpr int32_t kNormal = 1;
  constexpr int32_t kControl = 3;
  const std::string space = VisibleByte(' ');
  std::vector<std::string> tokens;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    tokens.push_back(VisibleByte(static_cast<uint8_t>(byte)));
  }
  std::vector<int32_t> types(tokens.size(), kNormal);
  for (const char* special : {"<|im_start|>", "<|im_end|>"}) {
    tokens.emplace_back(special);
    types.push_back(kControl);
  }
  const std::vector<std::string> merges = {
      "t h", "h e", "th e", space + " t", space + "t he", "i n", "a n"};
  for (const std::string& merge : merges) {
    std::string joined = merge;
    joined.erase(joined.find(' ', 1), 1);
    tokens.push_back(joined);
    types.push_back(kNormal);
  }
  writer->AddString("tokenizer.ggml.model", "gpt2");
  writer->AddString("tokenizer.ggml.pre", pre);
  writer->AddStrings("tokenizer.ggml.tokens", tokens);
  writer->AddInts("tokenizer.ggml.token_type", types);
  writer->AddStrings("tokenizer.ggml.merges", merges);
  writer->AddUint32("tokenizer.ggml.bos_token_id", 256);
  writer->AddUint32("tokenizer.ggml.eos_token_id", 257);
  writer->AddBool("tokenizer.ggml.add_bos_token", false);
  writer->AddString("tokenizer.chat_template",
                    "{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{{'<|im_start|>' + role}}");
}

std::string MakeTinyLlama(const TinyLlama& options) {
  constexpr uint32_t kQHeads = 4;
  constexpr uint32_t kKvHeads = 2;
  constexpr uint32_t kHeadDim = 16;
  constexpr uint32_t kVocabulary = 256 + 2 + 7;
  const bool long_blocks = GetTensorTypeInfo(options.weight_type).block_elements == 256;
  const uint32_t embedding = long_blocks ? 256 : 64;
  const uint32_t feed_forward = long_blocks ? 256 : 96;
  const uint32_t q_width = long_blocks ? 256 : kQHeads * kHeadDim;
  const uint32_t head_dim = q_width / kQHeads;
  GgufWriter writer;
  writer.AddString("general.architecture", "llama");
  writer.AddUint32("llama.block_count", options.num_layers);
  writer.AddUint32("llama.context_length", options.trained_tokens);
  writer.AddUint32("llama.embedding_length", embedding);
  writer.AddUint32("llama.feed_forward_length", feed_forward);
  writer.AddUint32("llama.attention.head_count", kQHeads);
  writer.AddUint32("llama.attention.head_count_kv", kKvHeads);
  writer.AddUint32("llama.rope.dimension_count", head_dim);
  writer.AddFloat32("llama.rope.freq_base", 10000.0F);
  writer.AddFloat32("llama.attention.layer_norm_rms_epsilon", 1e-5F);
  AddVocabulary(&writer, options.pre);

  std::mt19937 random(7);
  const auto add = [&](const std::string& name, uint64_t rows, uint64_t columns) {
    writer.AddTensor(name,
                     {columns, rows},
                     static_cast<uint32_t>(options.weight_type),
                     RandomWeights(options.weight_type, rows, columns, random));
  };
  const auto add_ones = [&](const std::string& name) {
    std::string ones;
    for (uint32_t i = 0; i < embedding; ++i) {
      ones += Bytes(1.0F);
    }
    writer.AddTensor(name, {embedding}, static_cast<uint32_t>(TensorType::kF32), ones);
  };
  add("token_embd.weight", kVocabulary, embedding);
  add_ones("output_norm.weight");
  for (uint32_t layer = 0; layer < options.num_layers; ++layer) {
    const std::string prefix = "blk." + std::to_string(layer) + ".";
    add_ones(prefix + "attn_norm.weight");
    add_ones(prefix + "ffn_norm.weight");
    add(prefix + "attn_q.weight", q_width, embedding);
    add(prefix + "attn_k.weight", kKvHeads * head_dim, embedding);
    add(prefix + "attn_v.weight", kKvHeads * head_dim, embedding);
    add(prefix + "attn_output.weight", embedding, q_width);
    add(prefix + "ffn_gate.weight", feed_forward, embedding);
    add(prefix + "ffn_up.weight", feed_forward, embedding);
    add(prefix + "ffn_down.weight", embedding, feed_forward);
  }
  return writer.Build();
}

}  // namespace hipattn_run::testing
