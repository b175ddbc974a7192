// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The message behind hipattn_last_error_message: one fixed buffer per thread, so that reporting an
// error never allocates, not even when memory is what ran out. Longer messages are cut.
#ifndef HIPATTN_API_LAST_ERROR_H_
#define HIPATTN_API_LAST_ERROR_H_

#include <string_view>

namespace hipattn::api {

inline constexpr size_t kLastErrorBytes = 1024;

void SetLastError(std::string_view message) noexcept;

// Never NULL; valid until the next SetLastError of this thread.
const char* LastError() noexcept;

}  // namespace hipattn::api

#endif  // HIPATTN_API_LAST_ERROR_H_
