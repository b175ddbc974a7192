// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "base/log.h"

#include <spdlog/logger.h>
#include <spdlog/sinks/base_sink.h>

#include <mutex>

namespace hipattn {
namespace {

// Hands messages on without a pattern: the embedding program adds its own time and name. The base
// class's mutex makes calls of the callback come one at a time.
class CallbackSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit CallbackSink(LogSink target) : target_(target) {}

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    const std::string text(message.payload.data(), message.payload.size());
    target_.fn(target_.user_data, static_cast<int32_t>(message.level), text.c_str());
  }
  void flush_() override {}

  const LogSink target_;
};

}  // namespace

struct Logger::Impl {
  explicit Impl(LogSink sink) : logger("hipattn", std::make_shared<CallbackSink>(sink)) {
    logger.set_level(spdlog::level::trace);
    // spdlog's own handler prints to stderr, which this library never does.
    logger.set_error_handler([](const std::string&) {});
  }

  // The string_view overload: the message is text, not a format.
  void Log(spdlog::level::level_enum level, const std::string& message) {
    logger.log(level, spdlog::string_view_t(message.data(), message.size()));
  }

  spdlog::logger logger;
};

Logger::Logger(LogSink sink) : impl_(sink.fn == nullptr ? nullptr : std::make_unique<Impl>(sink)) {}

Logger::~Logger() = default;

void Logger::Info(const std::string& message) {
  if (impl_ != nullptr) {
    impl_->Log(spdlog::level::info, message);
  }
}

void Logger::Warn(const std::string& message) {
  if (impl_ != nullptr) {
    impl_->Log(spdlog::level::warn, message);
  }
}

void Logger::Error(const std::string& message) {
  if (impl_ != nullptr) {
    impl_->Log(spdlog::level::err, message);
  }
}

}  // namespace hipattn
