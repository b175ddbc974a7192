// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Archives: two classes with the same members, one of which writes numbers and the other reads
// them, so that one function can say what is written and what is read. Numbers are little-endian
// and packed; lists are a u64 count and their elements.
#ifndef HIPATTN_ENGINE_STATE_ARCHIVE_H_
#define HIPATTN_ENGINE_STATE_ARCHIVE_H_

#include "base/status.h"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace hipattn::engine {

static_assert(std::endian::native == std::endian::little);

template <typename T>
concept PlainNumber = (std::is_arithmetic_v<T> || std::is_enum_v<T>)&&!std::is_same_v<T, bool>;

class ArchiveWriter {
 public:
  template <PlainNumber T>
  void Number(const char* /*name*/, const T& value) {
    Append(&value, sizeof(T));
  }
  void Flag(const char* name, bool value) { Number(name, static_cast<uint8_t>(value)); }
  // T has no padding.
  template <typename T>
  void List(const char* name, const std::vector<T>& values) {
    static_assert(std::is_trivially_copyable_v<T>);
    Number(name, uint64_t{values.size()});
    Append(values.data(), values.size() * sizeof(T));
  }

  std::vector<std::byte> Take() { return std::move(bytes_); }

 private:
  void Append(const void* data, size_t size) {
    const auto* const from = static_cast<const std::byte*>(data);
    bytes_.insert(bytes_.end(), from, from + size);
  }

  std::vector<std::byte> bytes_;
};

// Keeps the first error and reads nothing more after it: ask status() before values are used.
class ArchiveReader {
 public:
  explicit ArchiveReader(std::span<const std::byte> bytes) : left_(bytes) {}

  template <PlainNumber T>
  void Number(const char* name, T& value) {
    Take(name, &value, sizeof(T));
  }
  void Flag(const char* name, bool& value) {
    uint8_t number = 0;
    Number(name, number);
    if (number > 1) {
      Fail(StrCat(name, " is ", uint32_t{number}, ", must be 0 or 1"));
    }
    value = number == 1;
  }
  template <typename T>
  void List(const char* name, std::vector<T>& values) {
    static_assert(std::is_trivially_copyable_v<T>);
    uint64_t count = 0;
    Number(name, count);
    if (count > left_.size() / sizeof(T)) {
      Fail(StrCat(name, " has ", count, " elements, more than there are bytes"));
      return;
    }
    values.resize(count);
    Take(name, values.data(), count * sizeof(T));
  }

  // kCorrupt, `why` once nothing is wrong so far.
  void Fail(std::string why) {
    if (status_.ok()) {
      status_ = {StatusCode::kCorrupt, "the snapshot's state: " + std::move(why)};
      left_ = {};
    }
  }

  const Status& status() const { return status_; }
  std::span<const std::byte> left() const { return left_; }

 private:
  void Take(const char* name, void* data, size_t size) {
    if (size > left_.size()) {
      Fail(StrCat("it ends before ", name));
      return;
    }
    if (size != 0) {
      std::memcpy(data, left_.data(), size);
    }
    left_ = left_.subspan(size);
  }

  std::span<const std::byte> left_;
  Status status_;
};

}  // namespace hipattn::engine

#endif  // HIPATTN_ENGINE_STATE_ARCHIVE_H_
