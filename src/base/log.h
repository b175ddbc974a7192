// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Logging: an spdlog logger of the engine's own, never registered globally, that hands every
// message to the embedding program's callback.
#ifndef HIPATTN_BASE_LOG_H_
#define HIPATTN_BASE_LOG_H_

#include <cstdint>
#include <memory>
#include <string>

namespace hipattn {

// The embedding program's callback; fn may be null. Levels as in spdlog: 0 trace, 1 debug, 2 info,
// 3 warning, 4 error, 5 critical.
struct LogSink {
  void (*fn)(void* user_data, int32_t level, const char* message) = nullptr;
  void* user_data = nullptr;
};

// Thread-safe. Without a callback every call is a no-op.
class Logger {
 public:
  explicit Logger(LogSink sink);
  ~Logger();
  Logger(const Logger&) = delete;
  Logger& operator=(const Logger&) = delete;

  void Info(const std::string& message);
  void Warn(const std::string& message);
  void Error(const std::string& message);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hipattn

#endif  // HIPATTN_BASE_LOG_H_
