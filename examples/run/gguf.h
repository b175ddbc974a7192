// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Reads GGUF files, version 2 and 3, little-endian: a table of typed metadata and a table of
// tensors whose data is used in place. The file is not trusted: every count, length, offset and
// type is checked against the bytes that are there before it is used, memory grows only with what
// was really read, and each failure names the field and its value.
//
//   Result<GgufFile> file = GgufFile::Open("model.gguf");
//   Result<uint64_t> layers = file.value().GetUint("llama.block_count");
//   const GgufTensor* embedding = file.value().FindTensor("token_embd.weight");
//
// Views (string_view, span, data pointers) live as long as the GgufFile, also when it is moved.
#ifndef HIPATTN_EXAMPLES_RUN_GGUF_H_
#define HIPATTN_EXAMPLES_RUN_GGUF_H_

#include "mapped_file.h"
#include "result.h"
#include "tensor_type.h"

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

namespace hipattn_run {

// The values are GGUF's numbers.
enum class GgufType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

// An array of one element type. Numbers stay in the file as `numbers` (packed, unaligned);
// strings and nested arrays have one entry per element.
struct GgufArray {
  GgufType element_type = GgufType::kUint8;
  uint64_t count = 0;
  std::span<const uint8_t> numbers;
  std::vector<std::string_view> strings;
  std::vector<GgufArray> arrays;

  // Element `index` of an array of integers or floats.
  int64_t IntAt(size_t index) const;
  float FloatAt(size_t index) const;
};

using GgufValue = std::variant<uint64_t, int64_t, double, bool, std::string_view, GgufArray>;

struct GgufTensor {
  std::string_view name;
  TensorType type = TensorType::kF32;
  uint32_t num_dims = 0;
  std::array<uint64_t, 4> dims = {1, 1, 1, 1};  // dims[0] is the length of a row
  std::span<const uint8_t> data;

  uint64_t columns() const { return dims[0]; }
  uint64_t rows() const { return dims[1] * dims[2] * dims[3]; }
};

class GgufFile {
 public:
  static Result<GgufFile> Open(const std::string& path);
  // `bytes` must outlive the result.
  static Result<GgufFile> Parse(std::span<const uint8_t> bytes);

  const GgufValue* Find(std::string_view key) const;
  // Errors: the key is missing, or its value has another type or does not fit.
  Result<uint64_t> GetUint(std::string_view key) const;
  Result<double> GetFloat(std::string_view key) const;
  Result<bool> GetBool(std::string_view key) const;
  Result<std::string_view> GetString(std::string_view key) const;
  Result<const GgufArray*> GetArray(std::string_view key, GgufType element_type) const;

  const GgufTensor* FindTensor(std::string_view name) const;
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  uint64_t tensor_bytes() const;

 private:
  friend class GgufParser;
  std::optional<MappedFile> file_;
  std::unordered_map<std::string_view, GgufValue> values_;
  std::vector<GgufTensor> tensors_;
  std::unordered_map<std::string_view, size_t> tensor_index_;
};

}  // namespace hipattn_run

#endif  // HIPATTN_EXAMPLES_RUN_GGUF_H_
