// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "api/last_error.h"

#include <algorithm>
#include <cstring>

namespace hipattn::api {
namespace {

thread_local char message_buffer[kLastErrorBytes] = "";

}  // namespace

void SetLastError(std::string_view message) noexcept {
  const size_t bytes = std::min(message.size(), kLastErrorBytes - 1);
  // The message may be a piece of the buffer itself.
  std::memmove(message_buffer, message.data(), bytes);
  message_buffer[bytes] = '\0';
}

const char* LastError() noexcept {
  return message_buffer;
}

}  // namespace hipattn::api
