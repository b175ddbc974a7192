// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "offload/trace.h"

#include "tests/emulated/emulated_device.h"
#include "tests/offload/faulty_calls.h"
#include "tests/support/trace_file.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace hipattn::offload {
namespace {

using test::ReadTrace;
using test::TraceContent;

// A trace by a simulated clock.
class TraceThreadTest : public ::testing::Test {
 protected:
  TraceThreadTest() {
    test::EmulatedOptions options;
    options.device_bytes = options.pinned_bytes = size_t{1} << 20;
    options.simulated_clock = true;
    device_ = std::move(test::EmulatedDevice::Create(options).value());
  }

  Result<std::unique_ptr<Trace>> TryOpen(const std::string& path) {
    return Trace::Open(&calls_, device_.get(), path, &log_);
  }
  std::unique_ptr<Trace> Open() { return std::move(TryOpen(path_).value()); }
  void Advance(int64_t ns) { device_->clock().Advance(ns); }

  const test::TemporaryFolder folder_;
  const std::string path_ = folder_.Path("trace.json");
  std::unique_ptr<test::EmulatedDevice> device_;
  test::FaultyCalls calls_;
  std::vector<std::string> messages_;
  Logger log_{LogSink{[](void* to, int32_t level, const char* message) {
                        EXPECT_EQ(level, 4);
                        static_cast<std::vector<std::string>*>(to)->emplace_back(message);
                      },
                      &messages_}};
};

TEST_F(TraceThreadTest, EventsHaveTheTimesOfTheDevice) {
  Advance(5'000'000);  // a trace begins with 0
  {
    const std::unique_ptr<Trace> trace = Open();
    const Trace::Track stream = trace->AddTrack("a stream");
    Advance(1'001);
    {
      TraceSpan outer(trace.get(), "outer");
      outer.Set("layer", 7);
      outer.Set("tokens", UINT64_MAX);
      Advance(10);
      {
        const TraceSpan inner(trace.get(), "inner");
        Advance(2'000'000'000);
      }
      Advance(9);
    }
    const Trace::Arg args[] = {{"bytes", 12}};
    trace->Add(stream, "copy", 5'000'500, 5'001'500, args);
    trace->Count("blocks", args);
  }
  const TraceContent content = ReadTrace(path_);
  ASSERT_EQ(content.events.size(), 3U);
  const auto& [inner, outer, copy] =
      std::tie(content.events[0], content.events[1], content.events[2]);
  EXPECT_EQ(inner.name, "inner");
  EXPECT_EQ(inner.begin_ns, 1'011);
  EXPECT_EQ(inner.end_ns, 2'000'001'011);
  EXPECT_EQ(inner.track, "host thread 1");
  EXPECT_TRUE(inner.args.empty());
  EXPECT_EQ(outer.name, "outer");
  EXPECT_EQ(outer.begin_ns, 1'001);
  EXPECT_EQ(outer.end_ns, 2'000'001'020);
  EXPECT_EQ(outer.args.at("layer"), 7);
  EXPECT_EQ(outer.args.at("tokens"), UINT64_MAX);
  EXPECT_EQ(copy.track, "a stream");
  EXPECT_EQ(copy.begin_ns, 500);
  EXPECT_EQ(copy.end_ns, 1'500);
  ASSERT_EQ(content.counters.size(), 1U);
  EXPECT_EQ(content.counters[0].name, "blocks");
  EXPECT_EQ(content.counters[0].begin_ns, 2'000'001'020);
  EXPECT_EQ(content.counters[0].args.at("bytes"), 12);
  test::ExpectNested(content);
  EXPECT_TRUE(messages_.empty());
}

TEST_F(TraceThreadTest, EveryThreadHasATrack) {
  constexpr uint64_t kThreads = 4;
  constexpr uint64_t kEvents = 2'000;
  {
    const std::unique_ptr<Trace> trace = Open();
    std::vector<std::thread> threads;
    for (uint64_t t = 0; t < kThreads; ++t) {
      threads.emplace_back([&trace, t] {
        for (uint64_t i = 0; i < kEvents; ++i) {
          TraceSpan span(trace.get(), "work");
          span.Set("thread", t);
          span.Set("event", i);
          const Trace::Arg args[] = {{"event", i}};
          trace->Count("count", args);
        }
      });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
  }
  const TraceContent content = ReadTrace(path_);
  EXPECT_EQ(content.counters.size(), kThreads * kEvents);
  std::vector<std::string> track_of(kThreads);
  std::vector<uint64_t> seen(kThreads);
  for (const test::TraceEvent& event : content.events) {
    const auto thread = event.args.at("thread").get<uint64_t>();
    EXPECT_EQ(event.args.at("event").get<uint64_t>(), seen[thread]++);
    EXPECT_TRUE(track_of[thread].empty() || track_of[thread] == event.track);
    track_of[thread] = event.track;
  }
  EXPECT_EQ(seen, std::vector<uint64_t>(kThreads, kEvents));
  EXPECT_EQ(std::set<std::string>(track_of.begin(), track_of.end()).size(), kThreads);
}

// What a process that dies leaves behind: whole events, and all but those of the last second.
TEST_F(TraceThreadTest, AFileThatWasCutOffLacksItsBracketOnly) {
  const std::unique_ptr<Trace> trace = Open();
  for (int i = 0; i < 3'000; ++i) {
    const TraceSpan span(trace.get(), "early");
  }
  const TraceContent full = test::ParseTrace(test::FileBytes(path_) + "]");
  EXPECT_GT(full.events.size(), 1'000U) << "a full buffer is written";
  EXPECT_LT(full.events.size(), 3'000U);
  {
    const TraceSpan span(trace.get(), "late");
    Advance(1'000'000'000);
  }
  const TraceContent late = test::ParseTrace(test::FileBytes(path_) + "]");
  EXPECT_EQ(late.Named("early").size(), 3'000U);
  EXPECT_EQ(late.Named("late").size(), 1U);
}

TEST_F(TraceThreadTest, ShortAndInterruptedWritesAreContinued) {
  calls_.most = 1'000;
  calls_.interrupts = 3;
  {
    const std::unique_ptr<Trace> trace = Open();
    for (int i = 0; i < 3'000; ++i) {
      const TraceSpan span(trace.get(), "event");
    }
  }
  EXPECT_EQ(ReadTrace(path_).events.size(), 3'000U);
  EXPECT_TRUE(messages_.empty());
}

TEST_F(TraceThreadTest, AWriteThatFailsEndsTheTraceWithOneLine) {
  {
    const std::unique_ptr<Trace> trace = Open();
    calls_.write_error = ENOSPC;
    for (int i = 0; i < 9'000; ++i) {
      const TraceSpan span(trace.get(), "event");
    }
    calls_.write_error = 0;
    const Trace::Arg args[] = {{"bytes", 12}};
    trace->Count("blocks", args);
  }
  ASSERT_EQ(messages_.size(), 1U);
  EXPECT_EQ(
      messages_[0],
      "the trace ends here: path \"" + path_ + "\" cannot be written: No space left on device");
  EXPECT_EQ(test::FileBytes(path_), "");
}

TEST_F(TraceThreadTest, AFullDiskIsFoundAtTheEndToo) {
  { const auto trace = std::move(TryOpen("/dev/full").value()); }
  ASSERT_EQ(messages_.size(), 1U);
  EXPECT_NE(messages_[0].find("\"/dev/full\" cannot be written"), std::string::npos)
      << messages_[0];
}

TEST_F(TraceThreadTest, AnOldFileIsReplacedAndOneInUseIsRefused) {
  test::SetFileBytes(path_, std::string(100'000, 'x'));
  {
    const std::unique_ptr<Trace> trace = Open();
    { const TraceSpan span(trace.get(), "event"); }
    const Result<std::unique_ptr<Trace>> second = TryOpen(path_);
    EXPECT_EQ(second.status().code(), StatusCode::kIoError);
    EXPECT_EQ(second.status().message(),
              "path \"" + path_ + "\": another engine writes its trace to it");
  }
  EXPECT_EQ(ReadTrace(path_).events.size(), 1U);
  EXPECT_TRUE(TryOpen(path_).ok()) << "it is free again";
}

TEST_F(TraceThreadTest, WhatCannotBeOpenedIsNamed) {
  const std::string missing = folder_.Path("missing") + "/trace.json";
  const Result<std::unique_ptr<Trace>> trace = TryOpen(missing);
  EXPECT_EQ(trace.status().code(), StatusCode::kIoError);
  EXPECT_EQ(trace.status().message(),
            "path \"" + missing + "\" cannot be opened: No such file or directory");
  EXPECT_EQ(TryOpen(folder_.Path(".")).status().code(), StatusCode::kIoError);
}

// Tells come in order with a stream's work, by the clock at which it is complete.
TEST_F(TraceThreadTest, TheDeviceTellsWhenAStreamHasComeSoFar) {
  const device::StreamId stream = device_->CreateStream(0).value();
  device::Buffer to = std::move(device_->Allocate(device::MemoryKind::kDevice, 100'000).value());
  const std::vector<std::byte> from(100'000);
  std::vector<int64_t> told;
  const auto tell = [&] {
    return device_->Tell(stream, [&](int64_t now_ns) { told.push_back(now_ns); });
  };
  Advance(50);
  ASSERT_TRUE(tell().ok());
  const device::CopyPiece piece = {to.data(), from.data(), from.size()};
  ASSERT_TRUE(device_->Copy(stream, {&piece, 1}).ok());
  ASSERT_TRUE(tell().ok());
  const device::Ticket second = device_->Copy(stream, {&piece, 1}).value();
  ASSERT_TRUE(tell().ok());
  EXPECT_EQ(told, std::vector<int64_t>{50});
  ASSERT_TRUE(device_->Sync(second).ok());
  const int64_t copy_ns = 1'300 + 100'000 / 25;
  EXPECT_EQ(told, (std::vector<int64_t>{50, 50 + copy_ns, 50 + 2 * copy_ns}));
  EXPECT_EQ(device_->Tell(9, [](int64_t) {}).code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace hipattn::offload
