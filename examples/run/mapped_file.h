// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// A whole file mapped read-only. The bytes stay valid, at the same address, until the object that
// holds them is destroyed; moving it keeps them.
#ifndef HIPATTN_EXAMPLES_RUN_MAPPED_FILE_H_
#define HIPATTN_EXAMPLES_RUN_MAPPED_FILE_H_

#include "result.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace hipattn_run {

class MappedFile {
 public:
  // Fails for what is missing, unreadable, empty or not a regular file.
  static Result<MappedFile> Open(const std::string& path);

  std::span<const uint8_t> bytes() const { return {data_.get(), data_.get_deleter().size}; }

 private:
  struct Unmap {
    size_t size = 0;
    void operator()(const uint8_t* data) const;
  };
  explicit MappedFile(const uint8_t* data, size_t size) : data_(data, Unmap{size}) {}

  std::unique_ptr<const uint8_t, Unmap> data_;
};

// A whole text file as a string.
Result<std::string> ReadTextFile(const std::string& path);

}  // namespace hipattn_run

#endif  // HIPATTN_EXAMPLES_RUN_MAPPED_FILE_H_
