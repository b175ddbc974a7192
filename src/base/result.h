// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Result<T>: a value, or the Status that says why there is none.
#ifndef HIPATTN_BASE_RESULT_H_
#define HIPATTN_BASE_RESULT_H_

#include "base/status.h"

#include <optional>
#include <utility>

namespace hipattn {

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}          // NOLINT(google-explicit-constructor)
  Result(Status status) : status_(std::move(status)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }

  // REQUIRES: ok().
  T& value() { return *value_; }
  const T& value() const { return *value_; }
  T& operator*() { return *value_; }
  T* operator->() { return &*value_; }

 private:
  Status status_;
  std::optional<T> value_;
};

}  // namespace hipattn

#define HIPATTN_CONCAT_INNER_(a, b) a##b
#define HIPATTN_CONCAT_(a, b) HIPATTN_CONCAT_INNER_(a, b)
// HIPATTN_ASSIGN_OR_RETURN(auto x, MakeX()): declares x, or returns the status of the failed call.
#define HIPATTN_ASSIGN_OR_RETURN(declaration, expr)             \
  auto HIPATTN_CONCAT_(hipattn_result_, __LINE__) = (expr);     \
  if (!HIPATTN_CONCAT_(hipattn_result_, __LINE__).ok()) {       \
    return HIPATTN_CONCAT_(hipattn_result_, __LINE__).status(); \
  }                                                             \
  /* NOLINT(bugprone-macro-parentheses) */ declaration =        \
      std::move(HIPATTN_CONCAT_(hipattn_result_, __LINE__).value())

#endif  // HIPATTN_BASE_RESULT_H_
