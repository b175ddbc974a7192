// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// How this program reports failures: a Status or a Result<T> carries either success or one
// sentence that names the thing that is wrong and its value. Nothing here throws.
//
//   Result<GgufFile> file = GgufFile::Open(path);
//   if (!file.ok()) return file.status();
//   Use(file.value());
#ifndef HIPATTN_EXAMPLES_RUN_RESULT_H_
#define HIPATTN_EXAMPLES_RUN_RESULT_H_

#include <optional>
#include <sstream>
#include <string>
#include <utility>

namespace hipattn_run {

// All arguments written one after the other, for messages.
template <typename... Args>
std::string Concat(const Args&... args) {
  std::ostringstream stream;
  (stream << ... << args);
  return stream.str();
}

class [[nodiscard]] Status {
 public:
  Status() = default;  // success

  template <typename... Args>
  static Status Error(const Args&... args) {
    Status status;
    status.message_ = Concat(args...);
    return status;
  }

  bool ok() const { return !message_.has_value(); }
  // The reason; empty for success.
  const std::string& message() const {
    static const std::string none;
    return message_ ? *message_ : none;
  }

 private:
  std::optional<std::string> message_;
};

// A value or the reason why there is none. value() needs ok().
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}          // NOLINT(google-explicit-constructor)
  Result(Status status) : status_(std::move(status)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  T& value() { return *value_; }
  const T& value() const { return *value_; }

 private:
  std::optional<T> value_;
  Status status_;
};

}  // namespace hipattn_run

#define RUN_RETURN_IF_ERROR(expression)               \
  do {                                                \
    ::hipattn_run::Status run_status_ = (expression); \
    if (!run_status_.ok())                            \
      return run_status_;                             \
  } while (false)

#endif  // HIPATTN_EXAMPLES_RUN_RESULT_H_
