// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "base/log.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace hipattn {
namespace {

using Lines = std::vector<std::pair<int32_t, std::string>>;

void Collect(void* user_data, int32_t level, const char* message) {
  static_cast<Lines*>(user_data)->emplace_back(level, message);
}

TEST(Logger, HandsEveryMessageToTheCallbackAsItIs) {
  Lines lines;
  Logger logger({Collect, &lines});
  logger.Info("engine {} ready %s");
  logger.Warn("");
  logger.Error("disk\nfull");
  const Lines want = {{2, "engine {} ready %s"}, {3, ""}, {4, "disk\nfull"}};
  EXPECT_EQ(lines, want);
}

TEST(Logger, WithoutACallbackDoesNothing) {
  Logger logger({});
  logger.Info("nobody reads this");
  logger.Error("nor this");
}

TEST(Logger, TwoLoggersDoNotShareAnything) {
  Lines first_lines;
  Lines second_lines;
  Logger first({Collect, &first_lines});
  Logger second({Collect, &second_lines});
  first.Info("one");
  EXPECT_EQ(first_lines.size(), 1U);
  EXPECT_TRUE(second_lines.empty());
}

TEST(Logger, CallsOfTheCallbackComeOneAtATime) {
  Lines lines;  // unguarded on purpose: TSan would see a race
  Logger logger({Collect, &lines});
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&logger] {
      for (int i = 0; i < 250; ++i) {
        logger.Warn("line");
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(lines.size(), 1000U);
}

// A C++ program's callback may throw; nothing of it may reach the library's caller or stderr.
TEST(Logger, AThrowingCallbackIsSwallowedSilently) {
  Logger logger(
      {[](void*, int32_t, const char*) { throw std::runtime_error("callback"); }, nullptr});
  testing::internal::CaptureStderr();
  EXPECT_NO_THROW(logger.Error("message"));
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace hipattn
