// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "gguf.h"

#include <bit>
#include <cstring>
#include <limits>
#include <utility>

namespace hipattn_run {
namespace {

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint64_t kMaxAlignment = 1 << 20;
constexpr int kMaxArrayDepth = 4;
// The least bytes an entry of each table can take: bounds a lying count before anything is read.
constexpr uint64_t kMinKeyValueBytes = 8 + 4 + 1;
constexpr uint64_t kMinTensorBytes = 8 + 4 + 8 + 4 + 8;

// Bytes of a number or a bool; 0 for strings, arrays and unknown types.
uint64_t ScalarBytes(uint32_t type) {
  switch (static_cast<GgufType>(type)) {
    case GgufType::kUint8:
    case GgufType::kInt8:
    case GgufType::kBool:
      return 1;
    case GgufType::kUint16:
    case GgufType::kInt16:
      return 2;
    case GgufType::kUint32:
    case GgufType::kInt32:
    case GgufType::kFloat32:
      return 4;
    case GgufType::kUint64:
    case GgufType::kInt64:
    case GgufType::kFloat64:
      return 8;
    case GgufType::kString:
    case GgufType::kArray:
      return 0;
  }
  return 0;
}

template <typename T>
T Load(const uint8_t* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

GgufValue LoadScalar(GgufType type, const uint8_t* bytes) {
  switch (type) {
    case GgufType::kUint8:
      return uint64_t{Load<uint8_t>(bytes)};
    case GgufType::kInt8:
      return int64_t{Load<int8_t>(bytes)};
    case GgufType::kUint16:
      return uint64_t{Load<uint16_t>(bytes)};
    case GgufType::kInt16:
      return int64_t{Load<int16_t>(bytes)};
    case GgufType::kUint32:
      return uint64_t{Load<uint32_t>(bytes)};
    case GgufType::kInt32:
      return int64_t{Load<int32_t>(bytes)};
    case GgufType::kUint64:
      return Load<uint64_t>(bytes);
    case GgufType::kInt64:
      return Load<int64_t>(bytes);
    case GgufType::kFloat32:
      return double{Load<float>(bytes)};
    case GgufType::kFloat64:
      return Load<double>(bytes);
    default:
      return *bytes != 0;
  }
}

// Names from the file appear in messages: only what prints, and not endlessly.
std::string Printable(std::string_view text) {
  constexpr size_t kMaxShown = 80;
  std::string shown;
  for (const char c : text.substr(0, kMaxShown)) {
    shown += (c >= 0x20 && c < 0x7f) ? c : '?';
  }
  return text.size() > kMaxShown ? shown + "..." : shown;
}

}  // namespace

// One pass over the bytes; `position_` never exceeds their number.
class GgufParser {
 public:
  explicit GgufParser(std::span<const uint8_t> bytes) : bytes_(bytes) {}

  Status Run(GgufFile* file) {
    uint64_t num_tensors = 0;
    uint64_t num_values = 0;
    RUN_RETURN_IF_ERROR(ReadHeader(&num_tensors, &num_values));
    for (uint64_t i = 0; i < num_values; ++i) {
      RUN_RETURN_IF_ERROR(ReadKeyValue(i, file));
    }
    std::vector<uint64_t> offsets;
    for (uint64_t i = 0; i < num_tensors; ++i) {
      RUN_RETURN_IF_ERROR(ReadTensor(i, file, &offsets));
    }
    return PlaceTensors(offsets, file);
  }

 private:
  uint64_t remaining() const { return bytes_.size() - position_; }

  template <typename T>
  Status Read(std::string_view what, T* value) {
    if (remaining() < sizeof(T)) {
      return Status::Error("the file ends at byte ", bytes_.size(), " inside ", what);
    }
    *value = Load<T>(bytes_.data() + position_);
    position_ += sizeof(T);
    return {};
  }

  Status ReadString(const std::string& what, std::string_view* text) {
    uint64_t length = 0;
    RUN_RETURN_IF_ERROR(Read(what, &length));
    if (length > remaining()) {
      return Status::Error(
          what, " has length ", length, ", the file has ", remaining(), " bytes left");
    }
    *text = {reinterpret_cast<const char*>(bytes_.data() + position_), static_cast<size_t>(length)};
    position_ += length;
    return {};
  }

  Status ReadHeader(uint64_t* num_tensors, uint64_t* num_values) {
    uint32_t magic = 0;
    uint32_t version = 0;
    RUN_RETURN_IF_ERROR(Read("the magic number", &magic));
    if (magic != kMagic) {
      return Status::Error("not a GGUF file: it does not start with 'GGUF'");
    }
    RUN_RETURN_IF_ERROR(Read("the version", &version));
    if (version != 2 && version != 3) {
      return Status::Error("GGUF version ",
                           version,
                           " is not supported, only 2 and 3 are",
                           (version & 0xffff) == 0 ? " (a big-endian file?)" : "");
    }
    RUN_RETURN_IF_ERROR(Read("the number of tensors", num_tensors));
    RUN_RETURN_IF_ERROR(Read("the number of metadata entries", num_values));
    if (*num_values > remaining() / kMinKeyValueBytes) {
      return Status::Error(
          "the number of metadata entries, ", *num_values, ", cannot fit into the file");
    }
    if (*num_tensors > remaining() / kMinTensorBytes) {
      return Status::Error("the number of tensors, ", *num_tensors, ", cannot fit into the file");
    }
    return {};
  }

  Status ReadKeyValue(uint64_t index, GgufFile* file) {
    std::string_view key;
    RUN_RETURN_IF_ERROR(ReadString(Concat("the key of metadata entry ", index), &key));
    const std::string what = Concat("metadata '", Printable(key), "'");
    uint32_t type = 0;
    RUN_RETURN_IF_ERROR(Read(what, &type));
    GgufValue value;
    RUN_RETURN_IF_ERROR(ReadValue(what, type, &value));
    if (!file->values_.emplace(key, std::move(value)).second) {
      return Status::Error(what, " appears twice");
    }
    return {};
  }

  Status ReadValue(const std::string& what, uint32_t type, GgufValue* value) {
    if (static_cast<GgufType>(type) == GgufType::kString) {
      std::string_view text;
      RUN_RETURN_IF_ERROR(ReadString(what, &text));
      *value = text;
      return {};
    }
    if (static_cast<GgufType>(type) == GgufType::kArray) {
      GgufArray array;
      RUN_RETURN_IF_ERROR(ReadArray(what, 1, &array));
      *value = std::move(array);
      return {};
    }
    const uint64_t size = ScalarBytes(type);
    if (size == 0) {
      return Status::Error(what, " has the unknown type ", type);
    }
    if (size > remaining()) {
      return Status::Error("the file ends at byte ", bytes_.size(), " inside ", what);
    }
    *value = LoadScalar(static_cast<GgufType>(type), bytes_.data() + position_);
    position_ += size;
    return {};
  }

  Status ReadArray(const std::string& what, int depth, GgufArray* array) {
    if (depth > kMaxArrayDepth) {
      return Status::Error(what, " nests arrays deeper than ", kMaxArrayDepth);
    }
    uint32_t type = 0;
    RUN_RETURN_IF_ERROR(Read(what, &type));
    RUN_RETURN_IF_ERROR(Read(what, &array->count));
    array->element_type = static_cast<GgufType>(type);
    if (array->element_type == GgufType::kString) {
      for (uint64_t i = 0; i < array->count; ++i) {
        RUN_RETURN_IF_ERROR(ReadString(what, &array->strings.emplace_back()));
      }
      return {};
    }
    if (array->element_type == GgufType::kArray) {
      for (uint64_t i = 0; i < array->count; ++i) {
        RUN_RETURN_IF_ERROR(ReadArray(what, depth + 1, &array->arrays.emplace_back()));
      }
      return {};
    }
    const uint64_t size = ScalarBytes(type);
    if (size == 0) {
      return Status::Error(what, " has elements of the unknown type ", type);
    }
    if (array->count > remaining() / size) {
      return Status::Error(
          what, " has ", array->count, " elements, the file has ", remaining(), " bytes left");
    }
    array->numbers = bytes_.subspan(position_, array->count * size);
    position_ += array->count * size;
    return {};
  }

  Status ReadTensor(uint64_t index, GgufFile* file, std::vector<uint64_t>* offsets) {
    GgufTensor tensor;
    RUN_RETURN_IF_ERROR(ReadString(Concat("the name of tensor ", index), &tensor.name));
    const std::string what = Concat("tensor '", Printable(tensor.name), "'");
    RUN_RETURN_IF_ERROR(Read(what, &tensor.num_dims));
    if (tensor.num_dims < 1 || tensor.num_dims > tensor.dims.size()) {
      return Status::Error(what, " has ", tensor.num_dims, " dimensions, only 1 to 4 are possible");
    }
    uint64_t elements = 1;
    for (uint32_t d = 0; d < tensor.num_dims; ++d) {
      RUN_RETURN_IF_ERROR(Read(what, &tensor.dims[d]));
      if (tensor.dims[d] == 0 || tensor.dims[d] > std::numeric_limits<int64_t>::max() / elements) {
        return Status::Error(what, " has the impossible dimension ", tensor.dims[d]);
      }
      elements *= tensor.dims[d];
    }
    uint32_t type = 0;
    uint64_t offset = 0;
    RUN_RETURN_IF_ERROR(Read(what, &type));
    RUN_RETURN_IF_ERROR(Read(what, &offset));
    const TensorTypeInfo* info = FindTensorType(type);
    if (info == nullptr) {
      return Status::Error(what, " has type ", type, ", which this program cannot read");
    }
    tensor.type = info->type;
    if (tensor.dims[0] % info->block_elements != 0) {
      return Status::Error(what,
                           " has rows of ",
                           tensor.dims[0],
                           ", not a multiple of the ",
                           info->block_elements,
                           " weights of a ",
                           info->name,
                           " block");
    }
    if (!file->tensor_index_.emplace(tensor.name, file->tensors_.size()).second) {
      return Status::Error(what, " appears twice");
    }
    file->tensors_.push_back(tensor);
    offsets->push_back(offset);
    return {};
  }

  Status ReadAlignment(const GgufFile& file, uint64_t* alignment) {
    *alignment = kDefaultAlignment;
    if (file.Find("general.alignment") == nullptr) {
      return {};
    }
    Result<uint64_t> value = file.GetUint("general.alignment");
    if (!value.ok()) {
      return value.status();
    }
    if (!std::has_single_bit(value.value()) || value.value() > kMaxAlignment) {
      return Status::Error(
          "general.alignment is ", value.value(), ", not a power of two up to ", kMaxAlignment);
    }
    *alignment = value.value();
    return {};
  }

  Status PlaceTensors(const std::vector<uint64_t>& offsets, GgufFile* file) {
    uint64_t alignment = 0;
    RUN_RETURN_IF_ERROR(ReadAlignment(*file, &alignment));
    const uint64_t data_begin = (position_ + alignment - 1) / alignment * alignment;
    const uint64_t data_bytes = data_begin < bytes_.size() ? bytes_.size() - data_begin : 0;
    for (size_t i = 0; i < offsets.size(); ++i) {
      GgufTensor& tensor = file->tensors_[i];
      const std::string what = Concat("tensor '", Printable(tensor.name), "'");
      const TensorTypeInfo& info = GetTensorTypeInfo(tensor.type);
      const uint64_t blocks = tensor.rows() * tensor.columns() / info.block_elements;
      if (offsets[i] % alignment != 0) {
        return Status::Error(what, " has offset ", offsets[i], ", not a multiple of ", alignment);
      }
      if (offsets[i] > data_bytes || blocks > (data_bytes - offsets[i]) / info.block_bytes) {
        return Status::Error(what,
                             " (",
                             blocks,
                             " blocks of ",
                             info.block_bytes,
                             " bytes at offset ",
                             offsets[i],
                             ") lies outside the ",
                             data_bytes,
                             " bytes of tensor data in the file");
      }
      tensor.data = bytes_.subspan(data_begin + offsets[i], blocks * info.block_bytes);
    }
    return {};
  }

  std::span<const uint8_t> bytes_;
  uint64_t position_ = 0;
};

int64_t GgufArray::IntAt(size_t index) const {
  const uint64_t size = ScalarBytes(static_cast<uint32_t>(element_type));
  const GgufValue value = LoadScalar(element_type, numbers.data() + index * size);
  if (const auto* number = std::get_if<uint64_t>(&value)) {
    return static_cast<int64_t>(*number);
  }
  const auto* number = std::get_if<int64_t>(&value);
  return number != nullptr ? *number : 0;
}

float GgufArray::FloatAt(size_t index) const {
  const uint64_t size = ScalarBytes(static_cast<uint32_t>(element_type));
  const GgufValue value = LoadScalar(element_type, numbers.data() + index * size);
  const auto* number = std::get_if<double>(&value);
  return number != nullptr ? static_cast<float>(*number) : 0.0F;
}

Result<GgufFile> GgufFile::Parse(std::span<const uint8_t> bytes) {
  GgufFile file;
  const Status status = GgufParser(bytes).Run(&file);
  if (!status.ok()) {
    return status;
  }
  return file;
}

Result<GgufFile> GgufFile::Open(const std::string& path) {
  Result<MappedFile> mapped = MappedFile::Open(path);
  if (!mapped.ok()) {
    return mapped.status();
  }
  Result<GgufFile> file = Parse(mapped.value().bytes());
  if (!file.ok()) {
    return Status::Error("cannot read the model '", path, "': ", file.status().message());
  }
  file.value().file_ = std::move(mapped.value());
  return file;
}

const GgufValue* GgufFile::Find(std::string_view key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

Result<uint64_t> GgufFile::GetUint(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) {
    return Status::Error("metadata '", key, "' is missing");
  }
  if (const auto* number = std::get_if<uint64_t>(value)) {
    return *number;
  }
  const auto* number = std::get_if<int64_t>(value);
  if (number == nullptr || *number < 0) {
    return Status::Error("metadata '", key, "' is not a non-negative integer");
  }
  return static_cast<uint64_t>(*number);
}

Result<double> GgufFile::GetFloat(std::string_view key) const {
  const GgufValue* value = Find(key);
  const auto* number = value == nullptr ? nullptr : std::get_if<double>(value);
  if (number == nullptr) {
    return Status::Error("metadata '", key, "' is missing or not a float");
  }
  return *number;
}

Result<bool> GgufFile::GetBool(std::string_view key) const {
  const GgufValue* value = Find(key);
  const auto* flag = value == nullptr ? nullptr : std::get_if<bool>(value);
  if (flag == nullptr) {
    return Status::Error("metadata '", key, "' is missing or not a bool");
  }
  return *flag;
}

Result<std::string_view> GgufFile::GetString(std::string_view key) const {
  const GgufValue* value = Find(key);
  const auto* text = value == nullptr ? nullptr : std::get_if<std::string_view>(value);
  if (text == nullptr) {
    return Status::Error("metadata '", key, "' is missing or not a string");
  }
  return *text;
}

Result<const GgufArray*> GgufFile::GetArray(std::string_view key, GgufType element_type) const {
  const GgufValue* value = Find(key);
  const auto* array = value == nullptr ? nullptr : std::get_if<GgufArray>(value);
  if (array == nullptr || array->element_type != element_type) {
    return Status::Error("metadata '",
                         key,
                         "' is missing or not an array of type ",
                         static_cast<uint32_t>(element_type));
  }
  return array;
}

const GgufTensor* GgufFile::FindTensor(std::string_view name) const {
  const auto found = tensor_index_.find(name);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

uint64_t GgufFile::tensor_bytes() const {
  uint64_t total = 0;
  for (const GgufTensor& tensor : tensors_) {
    total += tensor.data.size();
  }
  return total;
}

}  // namespace hipattn_run
