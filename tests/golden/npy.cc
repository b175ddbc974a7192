// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "tests/golden/npy.h"

#include "base/int_math.h"

#include <bit>
#include <charconv>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>

namespace hipattn::golden {
namespace {

static_assert(std::endian::native == std::endian::little, "elements are copied as they are");

constexpr std::string_view kMagic("\x93NUMPY\x01\x00", 8);

Result<std::string> ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) {
    return Status(StatusCode::kIoError, StrCat("cannot open ", path.string()));
  }
  std::string bytes(static_cast<size_t>(file.tellg()), '\0');
  file.seekg(0);
  file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (!file) {
    return Status(StatusCode::kIoError, StrCat("cannot read ", path.string()));
  }
  return bytes;
}

// The text between `open` and `close` behind 'key' in a header like {'descr': '<f4', 'shape': (3,
// 4), }.
std::string_view HeaderField(std::string_view header, std::string_view key, char open, char close) {
  const size_t at = header.find(key);
  const size_t begin = at == header.npos ? at : header.find(open, at + key.size());
  const size_t end = begin == header.npos ? begin : header.find(close, begin + 1);
  return end == header.npos ? std::string_view() : header.substr(begin + 1, end - begin - 1);
}

// "3, 4," -> {3, 4}. False when there is anything else.
bool ParseShape(std::string_view text, std::vector<size_t>* shape) {
  while (!text.empty()) {
    if (text[0] == ' ' || text[0] == ',') {
      text.remove_prefix(1);
      continue;
    }
    size_t length = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), length);
    if (parsed.ec != std::errc()) {
      return false;
    }
    shape->push_back(length);
    text.remove_prefix(static_cast<size_t>(parsed.ptr - text.data()));
  }
  return true;
}

template <typename Stored, typename Value>
void Convert(std::string_view data, std::vector<Value>* values) {
  values->resize(data.size() / sizeof(Stored));
  for (size_t i = 0; i < values->size(); ++i) {
    Stored element;
    std::memcpy(&element, data.data() + i * sizeof(Stored), sizeof(Stored));
    (*values)[i] = static_cast<Value>(element);
  }
}

// *array holds the elements of `data`; false for an unknown type or a wrong number of bytes.
bool Elements(std::string_view type, std::string_view data, Array* array) {
  const bool wide = type == "<f4" || type == "<i4";
  if (!wide && type != "|i1" && type != "|u1") {
    return false;
  }
  uint64_t bytes = wide ? 4 : 1;
  for (const size_t length : array->shape) {
    if (!CheckedMul(bytes, length, &bytes)) {
      return false;
    }
  }
  if (bytes != data.size()) {
    return false;
  }
  if (type == "<f4") {
    Convert<float>(data, &array->floats);
  } else if (type == "|i1") {
    Convert<int8_t>(data, &array->floats);
  } else if (type == "<i4") {
    Convert<int32_t>(data, &array->ints);
  } else {
    Convert<uint8_t>(data, &array->ints);
  }
  return true;
}

}  // namespace

size_t Array::size() const {
  size_t count = 1;
  for (const size_t length : shape) {
    count *= length;
  }
  return count;
}

std::span<const int32_t> Array::IntRow(size_t i) const {
  return std::span(ints).subspan(i * shape.back(), shape.back());
}

Result<Array> ParseNpy(std::string_view file) {
  const auto corrupt = [](const char* what) { return Status(StatusCode::kCorrupt, what); };
  constexpr size_t kPrefix = kMagic.size() + 2;
  if (file.size() < kPrefix || file.substr(0, kMagic.size()) != kMagic) {
    return corrupt("no .npy 1.0 file");
  }
  const std::string_view rest = file.substr(kPrefix);
  const size_t header_bytes =
      static_cast<uint8_t>(file[8]) + size_t{256} * static_cast<uint8_t>(file[9]);
  if (rest.size() < header_bytes) {
    return corrupt("header is cut off");
  }
  const std::string_view header = rest.substr(0, header_bytes);
  Array array;
  if (header.find("'fortran_order': False") == header.npos ||
      !ParseShape(HeaderField(header, "'shape':", '(', ')'), &array.shape)) {
    return corrupt("no C order or no shape");
  }
  if (!Elements(HeaderField(header, "'descr':", '\'', '\''), rest.substr(header_bytes), &array)) {
    return corrupt("unknown element type, or not as many bytes as the shape says");
  }
  return array;
}

Result<Array> ReadNpy(const std::filesystem::path& path) {
  Result<std::string> bytes = ReadFile(path);
  if (!bytes.ok()) {
    return bytes.status();
  }
  Result<Array> array = ParseNpy(bytes.value());
  if (!array.ok()) {
    return Status(array.status().code(), StrCat(path.string(), ": ", array.status().message()));
  }
  return array;
}

}  // namespace hipattn::golden
