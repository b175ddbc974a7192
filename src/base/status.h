// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Status: what every function that can fail returns. A status is OK, or a code with a message that
// names the field or value that is wrong. The codes have the numbers of HIPATTN_* in hipattn.h, so
// the C boundary is a cast. No code of ours throws.
#ifndef HIPATTN_BASE_STATUS_H_
#define HIPATTN_BASE_STATUS_H_

#include <cstdint>
#include <sstream>
#include <string>
#include <utility>

namespace hipattn {

enum class StatusCode : int32_t {
  kOk = 0,
  kInvalidArgument = 1,
  kOutOfBudget = 2,
  kOutOfMemory = 3,
  kUnsupported = 4,
  kDeviceError = 5,
  kIoError = 6,
  kCorrupt = 7,
  kMismatch = 8,
  kUnavailable = 9,
  kDeadline = 10,
  kCancelled = 11,
  kInternal = 12,
};

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  static Status Ok() { return {}; }

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

// Joins the printed forms of its arguments: StrCat("num_layers is ", 0, ", need at least 1").
template <typename... Parts>
std::string StrCat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

template <typename... Parts>
Status InvalidArgument(const Parts&... parts) {
  return {StatusCode::kInvalidArgument, StrCat(parts...)};
}
template <typename... Parts>
Status OutOfBudget(const Parts&... parts) {
  return {StatusCode::kOutOfBudget, StrCat(parts...)};
}
template <typename... Parts>
Status OutOfMemory(const Parts&... parts) {
  return {StatusCode::kOutOfMemory, StrCat(parts...)};
}
template <typename... Parts>
Status Unsupported(const Parts&... parts) {
  return {StatusCode::kUnsupported, StrCat(parts...)};
}
template <typename... Parts>
Status Internal(const Parts&... parts) {
  return {StatusCode::kInternal, StrCat(parts...)};
}

}  // namespace hipattn

// Returns the status of `expr` from the function around it unless it is OK.
#define HIPATTN_RETURN_IF_ERROR(expr)                                      \
  if (::hipattn::Status hipattn_status_ = (expr); !hipattn_status_.ok()) { \
    return hipattn_status_;                                                \
  }                                                                        \
  static_assert(true, "a semicolon follows")

#endif  // HIPATTN_BASE_STATUS_H_
