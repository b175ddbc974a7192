// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Writes small GGUF files for tests: any metadata and tensors, and a whole random Llama model with
// a byte-level vocabulary, a few merges and a ChatML template.
#ifndef HIPATTN_TESTS_RUN_SYNTHETIC_GGUF_H_
#define HIPATTN_TESTS_RUN_SYNTHETIC_GGUF_H_

#include "gguf.h"

#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace hipattn_run::testing {

class GgufWriter {
 public:
  explicit GgufWriter(uint32_t version = 3) : version_(version) {}

  void AddUint32(const std::string& key, uint32_t value);
  void AddFloat32(const std::string& key, float value);
  void AddBool(const std::string& key, bool value);
  void AddString(const std::string& key, const std::string& value);
  void AddStrings(const std::string& key, const std::vector<std::string>& values);
  void AddInts(const std::string& key, const std::vector<int32_t>& values);
  void AddFloats(const std::string& key, const std::vector<float>& values);
  // A value as it stands in the file after its type.
  void AddRaw(const std::string& key, uint32_t type, const std::string& bytes);

  // `data` begins at the next multiple of the alignment, or at `offset` if one is given.
  void AddTensor(const std::string& name,
                 const std::vector<uint64_t>& dims,
                 uint32_t type,
                 const std::string& data);
  void AddTensorAt(const std::string& name,
                   const std::vector<uint64_t>& dims,
                   uint32_t type,
                   uint64_t offset);

  std::string Build() const;

 private:
  static constexpr uint64_t kAlignment = 32;
  uint32_t version_;
  uint64_t num_values_ = 0;
  uint64_t num_tensors_ = 0;
  std::string values_;
  std::string tensors_;
  std::string data_;
};

// The bytes of a number, and of a string with its length.
template <typename T>
std::string Bytes(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}
std::string LengthAndBytes(const std::string& text);

// `rows` x `columns` random weights of this type, around 0 and a few hundredths large.
std::string RandomWeights(TensorType type, uint64_t rows, uint64_t columns, std::mt19937& random);

// How byte-level vocabularies write a byte.
std::string VisibleByte(uint8_t byte);

// Adds a vocabulary: 256 bytes (tokens 0 to 255), "<|im_start|>" 256, "<|im_end|>" 257, then the
// tokens that a few merges make ("th", "he", "the", " t", " the", "in", "an").
void AddVocabulary(GgufWriter* writer, const std::string& pre);

struct TinyLlama {
  TensorType weight_type = TensorType::kQ8_0;
  uint32_t num_layers = 2;
  uint32_t trained_tokens = 256;
  std::string pre = "smollm";
};
// 4 q heads, 2 kv heads, head_dim 16, embedding 64 (256 for types with blocks of 256).
std::string MakeTinyLlama(const TinyLlama& options);

}  // namespace hipattn_run::testing

#endif  // HIPATTN_TESTS_RUN_SYNTHETIC_GGUF_H_
