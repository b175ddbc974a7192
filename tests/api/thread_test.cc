// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What the C API promises to several threads; meant for ThreadSanitizer.
#include "tests/api/api_fixture.h"

#include <atomic>
#include <chrono>
#include <thread>

namespace hipattn::test {
namespace {

TEST(Threads, TheLastErrorIsTheThreadsOwn) {
  ASSERT_EQ(hipattn_engine_create(nullptr, nullptr), HIPATTN_INVALID_ARGUMENT);
  const std::string mine = LastError();
  std::string before = "x";
  std::string after;
  std::thread([&] {
    before = LastError();
    EXPECT_EQ(hipattn_sequence_truncate(nullptr, 0), HIPATTN_INVALID_ARGUMENT);
    after = LastError();
  }).join();
  EXPECT_EQ(before, "");
  EXPECT_EQ(after, "sequence is NULL");
  EXPECT_EQ(LastError(), mine);
}

// Sequences of one engine from several threads: the calls wait for each other.
TEST(Threads, SequencesOfOneEngineMayBeUsedFromSeveralThreads) {
  const EnginePtr engine = MakeEngine(SmallEngine());
  std::vector<std::vector<float>> results(4);
  std::vector<std::thread> threads;
  for (std::vector<float>& result : results) {
    threads.emplace_back([&engine, &result] {
      const SequencePtr sequence = MakeSequence(engine.get());
      for (int i = 0; i < 20; ++i) {
        Arrays arrays(3, static_cast<uint32_t>(i + 1));
        EXPECT_EQ(Step(engine.get(), sequence.get(), 0, 3, arrays), HIPATTN_OK) << LastError();
        EXPECT_EQ(hipattn_sequence_reserve(sequence.get(), 100), HIPATTN_OK);
        hipattn_stats_t stats = HIPATTN_STATS_INIT;
        EXPECT_EQ(hipattn_engine_stats(engine.get(), &stats, 0), HIPATTN_OK);
        result = arrays.out.copy();
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  for (const std::vector<float>& result : results) {
    EXPECT_EQ(result, results[0]);
  }
}

// The calls that are thread-safe, beside an engine that computes on three threads.
TEST(Threads, QueriesWhileAttendRuns) {
  hipattn_engine_options_t options = SmallEngine();
  options.num_threads = 3;
  const EnginePtr engine = MakeEngine(options);
  std::atomic<bool> done{false};
  std::thread watcher([&] {
    while (!done.load()) {
      hipattn_stats_t stats = HIPATTN_STATS_INIT;
      EXPECT_EQ(hipattn_engine_stats(engine.get(), &stats, 1), HIPATTN_OK);
      hipattn_engine_options_t resolved = HIPATTN_ENGINE_OPTIONS_INIT;
      EXPECT_EQ(hipattn_engine_get_options(engine.get(), &resolved), HIPATTN_OK);
      EXPECT_EQ(hipattn_engine_synchronize(engine.get()), HIPATTN_OK);
      EXPECT_STREQ(hipattn_status_name(HIPATTN_OK), "HIPATTN_OK");
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  hipattn_attention_options_t attention = HIPATTN_ATTENTION_OPTIONS_INIT;
  attention.decode_mode = HIPATTN_DECODE_SPARSE;
  attention.budget_tokens = 64;
  attention.window_tokens = 96;
  attention.prefill_mode = HIPATTN_PREFILL_HIP;
  const SequencePtr sequence = MakeSequence(engine.get(), &attention);
  Arrays prompt(1000), step(1);
  for (uint32_t layer = 0; layer < 2; ++layer) {
    EXPECT_EQ(Step(engine.get(), sequence.get(), layer, 1000, prompt), HIPATTN_OK) << LastError();
    for (int i = 0; i < 20; ++i) {
      EXPECT_EQ(Step(engine.get(), sequence.get(), layer, 1, step), HIPATTN_OK) << LastError();
    }
  }
  done.store(true);
  watcher.join();
  EXPECT_EQ(hipattn_sequence_length(sequence.get()), 1020U);
}

// Cancelled at any moment or not at all: either everything was appended or nothing.
TEST(Threads, CancelFromAnotherThread) {
  hipattn_engine_options_t options = SmallEngine();
  options.num_threads = 3;
  const EnginePtr engine = MakeEngine(options);
  const SequencePtr sequence = MakeSequence(engine.get());
  std::atomic<bool> done{false};
  std::thread canceller([&] {
    while (!done.load()) {
      hipattn_engine_cancel(engine.get());
      std::this_thread::yield();
    }
  });
  Arrays arrays(200);
  uint64_t appended[2] = {0, 0};
  for (uint32_t i = 0; i < 40; ++i) {
    const hipattn_status_t status = Step(engine.get(), sequence.get(), i % 2, 200, arrays);
    EXPECT_TRUE(status == HIPATTN_OK || status == HIPATTN_CANCELLED) << LastError();
    appended[i % 2] += status == HIPATTN_OK ? 200 : 0;
    EXPECT_EQ(hipattn_sequence_length(sequence.get()), std::min(appended[0], appended[1]));
  }
  done.store(true);
  canceller.join();
  EXPECT_EQ(Step(engine.get(), sequence.get(), 0, 200, arrays), HIPATTN_OK) << LastError();
}

}  // namespace
}  // namespace hipattn::test
