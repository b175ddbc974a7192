// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Memory that the system refuses inside the budget. Every allocation of every call is refused in
// turn, once alone and once with all that follow it: the call answers HIPATTN_OUT_OF_MEMORY, has
// appended nothing, and the texts go on to the results of an engine that never lacked memory.
// And the whole process has a limit once.
#include "tests/api/api_fixture.h"
#include "tests/api/refusing_memory.h"
#include "tests/support/temporary_folder.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <tuple>

namespace hipattn::test {
namespace {

enum class Refusals { kNone, kOneByOne, kFromThereOn };

// Makes calls, each as often as it has allocations that can be refused, and once more.
class Caller {
 public:
  explicit Caller(Refusals refusals) : refusals_(refusals) {}

  // `unchanged` looks at what a refused call must have left alone.
  void Call(
      const std::string& name,
      const std::function<hipattn_status_t()>& call,
      const std::function<void()>& unchanged = [] {}) {
    SCOPED_TRACE(name);
    for (int64_t first = 0; refusals_ != Refusals::kNone; ++first) {
      StartRefusing(first, refusals_ == Refusals::kFromThereOn);
      const hipattn_status_t status = call();
      const int64_t num_refused = StopRefusing();
      if (status == HIPATTN_OK) {
        // Nothing was left to refuse, or the call could do without it.
        return;
      }
      ASSERT_GT(num_refused, 0) << LastError();
      ASSERT_EQ(status, HIPATTN_OUT_OF_MEMORY) << "allocation " << first << ": " << LastError();
      ASSERT_FALSE(LastError().empty());
      ++total_refused_;
      unchanged();
    }
    ASSERT_EQ(call(), HIPATTN_OK) << LastError();
  }

  int total_refused() const { return total_refused_; }

 private:
  const Refusals refusals_;
  int total_refused_ = 0;
};

// A text that is read, answered, forked, cut and given other options; its outputs go to `results`.
class Scenario {
 public:
  Scenario(Refusals refusals, uint32_t prefill_mode, uint32_t search) : caller_(refusals) {
    attention_.decode_mode = HIPATTN_DECODE_SPARSE;
    attention_.prefill_mode = prefill_mode;
    attention_.search = search;
    attention_.budget_tokens = 64;
    attention_.sink_tokens = 16;
    attention_.window_tokens = 80;
    attention_.rerank_tokens = HIPATTN_NONE;  // so short a text would not be searched before
    attention_.min_recall = search == HIPATTN_SEARCH_TREE ? 0.5F : 0.0F;
  }

  void Play() {
    hipattn_engine_options_t options = SmallEngine();
    options.num_threads = 2;
    options.rope_mode = attention_.search == HIPATTN_SEARCH_TREE ? 1 : 0;
    options.rope_theta = 10000.0F;
    hipattn_engine_t* engine = nullptr;
    caller_.Call("engine_create", [&] { return hipattn_engine_create(&options, &engine); });
    ASSERT_NE(engine, nullptr);
    engine_.reset(engine);
    hipattn_sequence_t* text = nullptr;
    caller_.Call("sequence_create",
                 [&] { return hipattn_sequence_create(engine, &attention_, &text); });
    ASSERT_NE(text, nullptr);
    const SequencePtr owned(text);
    caller_.Call("reserve", [&] { return hipattn_sequence_reserve(text, 200); });
    // A decode step after one that failed searches anew; so does every first one after a chunk.
    Attend(text, 300);
    Attend(text, 1);
    // Begins inside a node of the tree and completes it; more rows than before want memory after
    // it.
    Attend(text, 500);
    Attend(text, 1);

    hipattn_sequence_t* fork = nullptr;
    caller_.Call("fork", [&] { return hipattn_sequence_fork(text, 802, &fork); });
    ASSERT_NE(fork, nullptr);
    const SequencePtr owned_fork(fork);
    Attend(fork, 1);
    Attend(text, 2);
    Attend(text, 1);

    caller_.Call("truncate", [&] { return hipattn_sequence_truncate(text, 750); });
    attention_.budget_tokens = 48;
    caller_.Call("set_options", [&] { return hipattn_sequence_set_options(text, &attention_); });
    Attend(text, 1);
    Attend(fork, 17);
    Attend(fork, 1);
  }

  // Everything is given back.
  void ExpectNothingHeld() {
    hipattn_stats_t stats = HIPATTN_STATS_INIT;
    ASSERT_EQ(hipattn_engine_stats(engine_.get(), &stats, 0), HIPATTN_OK);
    EXPECT_EQ(stats.device_bytes, 0U);
    EXPECT_EQ(stats.device_index_bytes, 0U);
  }

  const std::vector<float>& results() const { return results_; }
  int total_refused() const { return caller_.total_refused(); }

 private:
  void Attend(hipattn_sequence_t* sequence, uint32_t tokens) {
    const uint64_t length = hipattn_sequence_length(sequence);
    for (uint32_t layer = 0; layer < 2; ++layer) {
      Arrays arrays(tokens, static_cast<uint32_t>(length) + layer + 1);
      caller_.Call(
          "attend",
          [&] { return Step(engine_.get(), sequence, layer, tokens, arrays); },
          [&] { EXPECT_EQ(hipattn_sequence_length(sequence), length); });
      results_.insert(results_.end(), arrays.out.data(), arrays.out.data() + arrays.out.size());
      results_.insert(results_.end(), arrays.lse.data(), arrays.lse.data() + arrays.lse.size());
      if (tokens == 1) {
        AddRecall(sequence, layer);
      }
    }
    EXPECT_EQ(hipattn_sequence_length(sequence), length + tokens);
  }

  // The estimates come from the summaries of what was not selected.
  void AddRecall(hipattn_sequence_t* sequence, uint32_t layer) {
    hipattn_recall_t recall = HIPATTN_RECALL_INIT;
    for (uint32_t head = 0; head < 4; ++head) {
      caller_.Call("recall",
                   [&] { return hipattn_sequence_recall(sequence, layer, head, &recall); });
      if (!std::isnan(recall.estimate)) {
        results_.push_back(recall.estimate);
      }
    }
  }

  Caller caller_;
  EnginePtr engine_;
  hipattn_attention_options_t attention_ = HIPATTN_ATTENTION_OPTIONS_INIT;
  std::vector<float> results_;
};

class OutOfMemory : public testing::TestWithParam<std::tuple<uint32_t, uint32_t>> {};

TEST_P(OutOfMemory, EveryRefusalIsAnErrorAndTheTextGoesOn) {
  const auto [prefill_mode, search] = GetParam();
  Scenario undisturbed(Refusals::kNone, prefill_mode, search);
  undisturbed.Play();
  ASSERT_FALSE(HasFailure());
  for (const Refusals refusals : {Refusals::kOneByOne, Refusals::kFromThereOn}) {
    SCOPED_TRACE(refusals == Refusals::kOneByOne ? "one by one" : "from there on");
    Scenario disturbed(refusals, prefill_mode, search);
    disturbed.Play();
    ASSERT_FALSE(HasFailure());
    EXPECT_GT(disturbed.total_refused(), 100);
    EXPECT_EQ(disturbed.results(), undisturbed.results());
    disturbed.ExpectNothingHeld();
  }
}

INSTANTIATE_TEST_SUITE_P(Options,
                         OutOfMemory,
                         testing::Values(std::tuple(HIPATTN_PREFILL_DENSE, HIPATTN_SEARCH_TREE),
                                         std::tuple(HIPATTN_PREFILL_HIP, HIPATTN_SEARCH_TREE),
                                         std::tuple(HIPATTN_PREFILL_DENSE, HIPATTN_SEARCH_STAGED),
                                         std::tuple(HIPATTN_PREFILL_DENSE, HIPATTN_SEARCH_BEAM)));

// A save that lacks memory leaves the earlier file, a load leaves the engine as it was.
TEST(OutOfMemory, Snapshots) {
  const TemporaryFolder folder;
  const std::string path = folder.Path("text");
  hipattn_engine_options_t options = SmallEngine();
  options.num_threads = 2;
  const EnginePtr engine = MakeEngine(options);
  const SequencePtr text = MakeSequence(engine.get());
  Arrays arrays(200);
  ASSERT_EQ(hipattn_sequence_save(text.get(), path.c_str(), nullptr, 0), HIPATTN_OK);
  std::string file = FileBytes(path);
  for (const uint32_t layer : {0U, 1U}) {
    ASSERT_EQ(Step(engine.get(), text.get(), layer, 200, arrays), HIPATTN_OK) << LastError();
  }
  const auto device_bytes = [&] {
    hipattn_stats_t stats = HIPATTN_STATS_INIT;
    EXPECT_EQ(hipattn_engine_stats(engine.get(), &stats, 0), HIPATTN_OK);
    return stats.device_bytes;
  };
  for (const Refusals refusals : {Refusals::kOneByOne, Refusals::kFromThereOn}) {
    Caller caller(refusals);
    caller.Call(
        "save",
        [&] { return hipattn_sequence_save(text.get(), path.c_str(), nullptr, 0); },
        [&] {
          EXPECT_EQ(FileBytes(path) == file, true);
          EXPECT_EQ(folder.NumFiles(), 1U);
        });
    file = FileBytes(path);
    const uint64_t bytes = device_bytes();
    hipattn_sequence_t* loaded = nullptr;
    caller.Call(
        "load",
        [&] {
          hipattn_sequence_destroy(loaded);  // of the call that found nothing to refuse
          loaded = nullptr;
          return hipattn_sequence_load(engine.get(), path.c_str(), nullptr, 0, &loaded);
        },
        [&] { EXPECT_EQ(device_bytes(), bytes); });
    ASSERT_NE(loaded, nullptr);
    const SequencePtr owned(loaded);
    EXPECT_EQ(hipattn_sequence_length(loaded), 200U);
    EXPECT_GT(caller.total_refused(), 50);
  }
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;  // shadow memory does not go with a limit
#else
constexpr bool kSanitized = false;
#endif

uint64_t AddressSpaceBytes() {
  std::ifstream file("/proc/self/statm");
  uint64_t pages = 0;
  file >> pages;
  return pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

// As long as it lives the process may map so many bytes beyond what it has now.
class AddressSpaceLimit {
 public:
  explicit AddressSpaceLimit(uint64_t more_bytes) {
    EXPECT_EQ(getrlimit(RLIMIT_AS, &before_), 0);
    rlimit limit = before_;
    limit.rlim_cur = AddressSpaceBytes() + more_bytes;
    EXPECT_EQ(setrlimit(RLIMIT_AS, &limit), 0);
  }
  ~AddressSpaceLimit() { EXPECT_EQ(setrlimit(RLIMIT_AS, &before_), 0); }
  AddressSpaceLimit(const AddressSpaceLimit&) = delete;
  AddressSpaceLimit& operator=(const AddressSpaceLimit&) = delete;

 private:
  rlimit before_{};
};

TEST(AddressSpace, ATextThatOutgrowsItGoesOnWhenThereIsMore) {
  if (kSanitized) {
    GTEST_SKIP() << "a sanitizer's shadow memory does not go with a limit";
  }
  constexpr uint32_t kChunk = 2048;
  hipattn_engine_options_t options = SmallEngine();
  options.device_kv_bytes = uint64_t{8} << 30;
  const EnginePtr engine = MakeEngine(options);
  const SequencePtr text = MakeSequence(engine.get());
  Arrays arrays(kChunk);
  const auto append = [&](hipattn_sequence_t* to, uint32_t layer) {
    hipattn_attend_args_t args = HIPATTN_ATTEND_ARGS_INIT;
    args.layer = layer;
    args.num_sequences = 1;
    args.sequences = &to;
    args.num_new_tokens = &kChunk;
    args.k = arrays.k.data();
    args.v = arrays.v.data();
    return hipattn_attend(engine.get(), &args);
  };
  uint64_t length = 0;
  uint32_t layer = 0;
  {
    const AddressSpaceLimit limit(uint64_t{200} << 20);
    hipattn_status_t status = HIPATTN_OK;
    while (status == HIPATTN_OK) {
      status = append(text.get(), layer);
      layer = status == HIPATTN_OK ? 1 - layer : layer;
      length += status == HIPATTN_OK && layer == 0 ? kChunk : 0;
    }
    EXPECT_EQ(status, HIPATTN_OUT_OF_MEMORY);
    EXPECT_FALSE(LastError().empty());
    EXPECT_EQ(hipattn_sequence_length(text.get()), length);
    EXPECT_GT(length, 4 * kChunk);
  }
  ASSERT_EQ(append(text.get(), layer), HIPATTN_OK) << LastError();
  if (layer == 0) {
    ASSERT_EQ(append(text.get(), 1), HIPATTN_OK) << LastError();
  }
  length += kChunk;
  ASSERT_EQ(hipattn_sequence_length(text.get()), length);

  const SequencePtr undisturbed = MakeSequence(engine.get());
  for (uint64_t tokens = 0; tokens < length; tokens += kChunk) {
    ASSERT_EQ(append(undisturbed.get(), 0), HIPATTN_OK) << LastError();
    ASSERT_EQ(append(undisturbed.get(), 1), HIPATTN_OK) << LastError();
  }
  for (layer = 0; layer < 2; ++layer) {
    Arrays got(1, 7);
    Arrays want(1, 7);
    ASSERT_EQ(Step(engine.get(), text.get(), layer, 1, got), HIPATTN_OK) << LastError();
    ASSERT_EQ(Step(engine.get(), undisturbed.get(), layer, 1, want), HIPATTN_OK) << LastError();
    EXPECT_EQ(got.out.copy(), want.out.copy());
    EXPECT_EQ(got.lse.copy(), want.lse.copy());
  }
}

// Thread stacks above all: at 8 MiB, 64 of them pass through every way to lack memory.
TEST(AddressSpace, AnEngineThatFindsTooLittleIsRefusedOrWorks) {
  if (kSanitized) {
    GTEST_SKIP() << "a sanitizer's shadow memory does not go with a limit";
  }
  hipattn_engine_options_t options = SmallEngine();
  options.num_threads = 64;
  Arrays arrays(64);
  for (uint64_t more_mib = 0; more_mib < 640; more_mib += 40) {
    const AddressSpaceLimit limit(more_mib << 20);
    hipattn_engine_t* engine = nullptr;
    hipattn_status_t status = hipattn_engine_create(&options, &engine);
    const EnginePtr owned(engine);
    if (status == HIPATTN_OK) {
      hipattn_sequence_t* sequence = nullptr;
      status = hipattn_sequence_create(engine, nullptr, &sequence);
      const SequencePtr owned_sequence(sequence);
      status = status == HIPATTN_OK ? Step(engine, sequence, 0, 64, arrays) : status;
    }
    EXPECT_TRUE(status == HIPATTN_OK || status == HIPATTN_OUT_OF_MEMORY)
        << status << ": " << LastError();
  }
}

}  // namespace
}  // namespace hipattn::test
