// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Every argument of every function that takes handles or arrays, with every kind of wrong value: a
// typed error that names it, outputs untouched, and sequences that go on as if nothing had been.
#include "tests/api/api_fixture.h"

#include <array>
#include <functional>

namespace hipattn::test {
namespace {

void ExpectError(hipattn_status_t got, hipattn_status_t want, const std::string& part) {
  EXPECT_EQ(got, want) << part << ": " << LastError();
  EXPECT_NE(LastError().find(part), std::string::npos)
      << "\"" << LastError() << "\" has no " << part;
}

constexpr uint32_t kTokens = 20;

// Everything one attend call needs: two sequences of kTokens tokens in both layers, and a call that
// would append a token to each.
class BadAttend : public testing::Test {
 protected:
  BadAttend() {
    for (SequencePtr* sequence : {&first_, &second_, &twin_}) {
      *sequence = MakeSequence(engine_.get());
      for (uint32_t layer = 0; layer < 2; ++layer) {
        Arrays arrays(kTokens, layer + 1);
        EXPECT_EQ(Step(engine_.get(), sequence->get(), layer, kTokens, arrays), HIPATTN_OK)
            << LastError();
      }
    }
    stranger_ = MakeSequence(other_engine_.get());
    handles_ = {first_.get(), second_.get()};
    args_.num_sequences = 2;
    args_.sequences = handles_.data();
    args_.num_new_tokens = counts_.data();
    args_.q = arrays_.q.data();
    args_.k = arrays_.k.data();
    args_.v = arrays_.v.data();
    args_.out = arrays_.out.data();
    args_.lse = arrays_.lse.data();
  }

  uint64_t DeviceBytes() {
    hipattn_stats_t stats = HIPATTN_STATS_INIT;
    EXPECT_EQ(hipattn_engine_stats(engine_.get(), &stats, 0), HIPATTN_OK);
    return stats.device_bytes;
  }

  // What the next step of `sequence` gives, on a fork so that it stays as it is.
  std::vector<float> NextStep(hipattn_sequence_t* sequence) {
    hipattn_sequence_t* child = nullptr;
    EXPECT_EQ(hipattn_sequence_fork(sequence, kTokens, &child), HIPATTN_OK) << LastError();
    const SequencePtr owned(child);
    Arrays arrays(1, 9);
    EXPECT_EQ(Step(engine_.get(), child, 0, 1, arrays), HIPATTN_OK) << LastError();
    return arrays.out.copy();
  }

  void ExpectRefused(const hipattn_attend_args_t* args,
                     hipattn_status_t status,
                     const std::string& part) {
    SCOPED_TRACE(part);
    const uint64_t bytes = DeviceBytes();
    ExpectError(hipattn_attend(engine_.get(), args), status, part);
    EXPECT_TRUE(arrays_.OutputsUntouched());
    EXPECT_EQ(hipattn_sequence_length(first_.get()), kTokens);
    EXPECT_EQ(hipattn_sequence_length(second_.get()), kTokens);
    EXPECT_EQ(DeviceBytes(), bytes);
  }

  EnginePtr engine_ = MakeEngine(SmallEngine());
  EnginePtr other_engine_ = MakeEngine(SmallEngine());
  SequencePtr first_, second_, twin_, stranger_;
  std::array<hipattn_sequence_t*, 2> handles_{};
  std::array<uint32_t, 2> counts_{1, 1};
  Arrays arrays_{64, 5};
  std::vector<int32_t> picks_ = std::vector<int32_t>(16, -1);
  hipattn_attend_args_t args_ = HIPATTN_ATTEND_ARGS_INIT;
};

TEST_F(BadAttend, EveryFieldIsCheckedAndNothingChanges) {
  using Args = hipattn_attend_args_t;
  std::array<hipattn_sequence_t*, 2> with_null{first_.get(), nullptr};
  std::array<hipattn_sequence_t*, 2> twice{first_.get(), first_.get()};
  std::array<hipattn_sequence_t*, 2> foreign{first_.get(), stranger_.get()};
  const std::array<uint32_t, 2> with_zero{1, 0};
  const std::array<uint32_t, 2> huge{UINT32_MAX, UINT32_MAX};
  const std::array<uint32_t, 2> overflow{INT32_MAX, 1};
  const std::array<uint32_t, 2> chunk{1, 2};
  float* const q = arrays_.q.data();
  const struct {
    const char* part;
    hipattn_status_t status;
    std::function<void(Args&)> spoil;
  } cases[] = {
      {"struct_size is 0", HIPATTN_INVALID_ARGUMENT, [](Args& a) { a.struct_size = 0; }},
      {"struct_size is 98", HIPATTN_INVALID_ARGUMENT, [](Args& a) { a.struct_size = 98; }},
      {"layer is 2", HIPATTN_INVALID_ARGUMENT, [](Args& a) { a.layer = 2; }},
      {"layer is 4294967295", HIPATTN_INVALID_ARGUMENT, [](Args& a) { a.layer = UINT32_MAX; }},
      {"num_sequences is 0", HIPATTN_INVALID_ARGUMENT, [](Args& a) { a.num_sequences = 0; }},
      {"num_sequences is 4294967295",
       HIPATTN_INVALID_ARGUMENT,
       [](Args& a) { a.num_sequences = UINT32_MAX; }},
      {"sequences is NULL", HIPATTN_INVALID_ARGUMENT, [](Args& a) { a.sequences = nullptr; }},
      {"sequences[1] is NULL",
       HIPATTN_INVALID_ARGUMENT,
       [&](Args& a) { a.sequences = with_null.data(); }},
      {"sequences[1] is the same as sequences[0]",
       HIPATTN_INVALID_ARGUMENT,
       [&](Args& a) { a.sequences = twice.data(); }},
      {"belongs to another engine",
       HIPATTN_INVALID_ARGUMENT,
       [&](Args& a) { a.sequences = foreign.data(); }},
      {"num_new_tokens is NULL",
       HIPATTN_INVALID_ARGUMENT,
       [](Args& a) { a.num_new_tokens = nullptr; }},
      {"num_new_tokens[1] is 0",
       HIPATTN_INVALID_ARGUMENT,
       [&](Args& a) { a.num_new_tokens = with_zero.data(); }},
      {"num_new_tokens[0] is 4294967295",
       HIPATTN_INVALID_ARGUMENT,
       [&](Args& a) { a.num_new_tokens = huge.data(); }},
      {"num_new_tokens[1] is 1",
       HIPATTN_INVALID_ARGUMENT,
       [&](Args& a) { a.num_new_tokens = overflow.data(); }},
      {"q is NULL, out is not", HIPATTN_INVALID_ARGUMENT, [](Args& a) { a.q = nullptr; }},
      {"out is NULL, q is not", HIPATTN_INVALID_ARGUMENT, [](Args& a) { a.out = nullptr; }},
      {"lse", HIPATTN_INVALID_ARGUMENT, [](Args& a) { a.q = nullptr, a.out = nullptr; }},
      {"k is NULL", HIPATTN_INVALID_ARGUMENT, [](Args& a) { a.k = nullptr; }},
      {"v is NULL", HIPATTN_INVALID_ARGUMENT, [](Args& a) { a.v = nullptr; }},
      {"q is 0x", HIPATTN_INVALID_ARGUMENT, [&](Args& a) { a.q = q + 1; }},
      {"k is 0x", HIPATTN_INVALID_ARGUMENT, [&](Args& a) { a.k = arrays_.k.data() + 2; }},
      {"v is 0x", HIPATTN_INVALID_ARGUMENT, [&](Args& a) { a.v = arrays_.v.data() + 3; }},
      {"out is 0x", HIPATTN_INVALID_ARGUMENT, [&](Args& a) { a.out = arrays_.out.data() + 1; }},
      {"lse is 0x",
       HIPATTN_INVALID_ARGUMENT,
       [&](Args& a) {
         a.lse = reinterpret_cast<float*>(reinterpret_cast<char*>(arrays_.lse.data()) + 2);
       }},
      {"out at", HIPATTN_INVALID_ARGUMENT, [&](Args& a) { a.out = q; }},
      {"overlaps k", HIPATTN_INVALID_ARGUMENT, [&](Args& a) { a.out = arrays_.k.data() + 252; }},
      {"overlaps v", HIPATTN_INVALID_ARGUMENT, [&](Args& a) { a.out = arrays_.v.data() + 4; }},
      {"lse at", HIPATTN_INVALID_ARGUMENT, [&](Args& a) { a.lse = q + 4; }},
      {"overlaps num_new_tokens",
       HIPATTN_INVALID_ARGUMENT,
       [&](Args& a) { a.lse = reinterpret_cast<float*>(counts_.data()); }},
      {"overlaps sequences",
       HIPATTN_INVALID_ARGUMENT,
       [&](Args& a) { a.lse = reinterpret_cast<float*>(handles_.data()) - 4; }},
      {"overlaps external_blocks",
       HIPATTN_INVALID_ARGUMENT,
       [&](Args& a) {
         a.external_blocks = picks_.data();
         a.num_external = 2;
         a.lse = reinterpret_cast<float*>(picks_.data());
       }},
      {"overlaps lse",
       HIPATTN_INVALID_ARGUMENT,
       [&](Args& a) { a.lse = arrays_.out.data() + 511; }},
      {"stream is 0x", HIPATTN_INVALID_ARGUMENT, [&](Args& a) { a.stream = q; }},
      {"phase is 3", HIPATTN_INVALID_ARGUMENT, [](Args& a) { a.phase = 3; }},
      {"num_external is 2", HIPATTN_INVALID_ARGUMENT, [](Args& a) { a.num_external = 2; }},
      {"num_external is 0",
       HIPATTN_INVALID_ARGUMENT,
       [&](Args& a) { a.external_blocks = picks_.data(); }},
      {"phase is 2",
       HIPATTN_INVALID_ARGUMENT,
       [&](Args& a) { a.external_blocks = picks_.data(), a.num_external = 2, a.phase = 2; }},
      {"num_new_tokens[1] is 2",
       HIPATTN_INVALID_ARGUMENT,
       [&](Args& a) {
         a.external_blocks = picks_.data(), a.num_external = 2, a.num_new_tokens = chunk.data();
       }},
      {"q is NULL",
       HIPATTN_INVALID_ARGUMENT,
       [&](Args& a) {
         a.external_blocks = picks_.data(), a.num_external = 2, a.q = nullptr, a.out = nullptr,
         a.lse = nullptr;
       }},
  };
  const std::vector<float> before = NextStep(first_.get());
  for (const auto& test : cases) {
    hipattn_attend_args_t args = args_;
    test.spoil(args);
    ExpectRefused(&args, test.status, test.part);
  }
  ExpectRefused(nullptr, HIPATTN_INVALID_ARGUMENT, "args is NULL");
  ExpectError(hipattn_attend(nullptr, &args_), HIPATTN_INVALID_ARGUMENT, "engine is NULL");
  EXPECT_EQ(NextStep(first_.get()), before);
  EXPECT_EQ(NextStep(first_.get()), NextStep(twin_.get()));
}

TEST_F(BadAttend, ExternalBlocksOutOfRange) {
  args_.external_blocks = picks_.data();
  args_.num_external = 2;
  for (const int32_t bad : {-2, 2, INT32_MAX, INT32_MIN}) {  // 21 tokens are the blocks 0 and 1
    picks_[5] = bad;
    ExpectRefused(&args_, HIPATTN_INVALID_ARGUMENT, std::to_string(bad));
  }
  picks_[5] = 1;
  EXPECT_EQ(hipattn_attend(engine_.get(), &args_), HIPATTN_OK) << LastError();
}

TEST_F(BadAttend, PositionsBeyondWhatATextMayHave) {
  // The arrays are never looked at.
  args_.num_sequences = 1;
  args_.lse = nullptr;
  const auto far = uintptr_t{1} << 60;
  args_.q = reinterpret_cast<void*>(far);
  args_.k = reinterpret_cast<void*>(far + (uintptr_t{1} << 52));
  args_.v = reinterpret_cast<void*>(far + (uintptr_t{1} << 53));
  args_.out = reinterpret_cast<void*>(far + (uintptr_t{1} << 54));
  for (const uint32_t too_many : {INT32_MAX - kTokens + 1, uint32_t{INT32_MAX}}) {
    counts_ = {too_many, 1};
    ExpectRefused(&args_, HIPATTN_INVALID_ARGUMENT, "num_new_tokens[0]");
  }
  counts_ = {INT32_MAX - kTokens, 1};  // the longest text there may be, had it the memory
  ExpectRefused(&args_, HIPATTN_OUT_OF_BUDGET, "device_kv_bytes");
}

TEST(BadCalls, NullHandlesAndOutputs) {
  const EnginePtr engine = MakeEngine(SmallEngine());
  const SequencePtr sequence = MakeSequence(engine.get());
  const hipattn_engine_options_t options = SmallEngine();
  hipattn_engine_options_t resolved = HIPATTN_ENGINE_OPTIONS_INIT;
  hipattn_engine_t* engine_out = nullptr;
  hipattn_sequence_t* sequence_out = nullptr;
  hipattn_stats_t stats = HIPATTN_STATS_INIT;
  hipattn_recall_t recall = HIPATTN_RECALL_INIT;
  hipattn_memory_need_t need = HIPATTN_MEMORY_NEED_INIT;
  uint32_t count = 0;
  int32_t block = 0;
  const auto invalid = [](hipattn_status_t status, const char* part) {
    ExpectError(status, HIPATTN_INVALID_ARGUMENT, part);
  };
  invalid(hipattn_engine_create(nullptr, &engine_out), "options is NULL");
  invalid(hipattn_engine_create(&options, nullptr), "engine is NULL");
  invalid(hipattn_engine_get_options(nullptr, &resolved), "engine is NULL");
  invalid(hipattn_engine_get_options(engine.get(), nullptr), "resolved is NULL");
  resolved.struct_size = 6;
  invalid(hipattn_engine_get_options(engine.get(), &resolved), "resolved->struct_size is 6");
  invalid(hipattn_memory_need(nullptr, nullptr, 1, 1, &need), "options is NULL");
  invalid(hipattn_memory_need(&options, nullptr, 1, 1, nullptr), "need is NULL");
  invalid(hipattn_memory_need(&options, nullptr, 0, 1, &need), "num_tokens is 0");
  invalid(hipattn_memory_need(&options, nullptr, UINT64_MAX, 1, &need),
          "num_tokens is 18446744073709551615");
  invalid(hipattn_memory_need(&options, nullptr, 1, 0, &need), "num_sequences is 0");
  invalid(hipattn_sequence_create(nullptr, nullptr, &sequence_out), "engine is NULL");
  invalid(hipattn_sequence_create(engine.get(), nullptr, nullptr), "sequence is NULL");
  invalid(hipattn_sequence_set_options(nullptr, nullptr), "sequence is NULL");
  invalid(hipattn_sequence_reserve(nullptr, 1), "sequence is NULL");
  invalid(hipattn_sequence_reserve(sequence.get(), UINT64_MAX),
          "num_tokens is 18446744073709551615");
  invalid(hipattn_sequence_fork(nullptr, 0, &sequence_out), "parent is NULL");
  invalid(hipattn_sequence_fork(sequence.get(), 0, nullptr), "child is NULL");
  invalid(hipattn_sequence_fork(sequence.get(), 1, &sequence_out), "num_tokens is 1");
  invalid(hipattn_sequence_truncate(nullptr, 0), "sequence is NULL");
  invalid(hipattn_sequence_truncate(sequence.get(), 1), "num_tokens is 1");
  invalid(hipattn_engine_synchronize(nullptr), "engine is NULL");
  invalid(hipattn_engine_stats(nullptr, &stats, 0), "engine is NULL");
  invalid(hipattn_engine_stats(engine.get(), nullptr, 0), "stats is NULL");
  stats.struct_size = 3;
  invalid(hipattn_engine_stats(engine.get(), &stats, 1), "stats->struct_size is 3");
  invalid(hipattn_sequence_selection(nullptr, 0, 0, &block, 1, &count), "sequence is NULL");
  invalid(hipattn_sequence_selection(sequence.get(), 0, 0, nullptr, 1, &count), "blocks is NULL");
  invalid(hipattn_sequence_selection(sequence.get(), 0, 0, &block, 1, nullptr), "count is NULL");
  invalid(hipattn_sequence_selection(sequence.get(), 2, 0, &block, 1, &count), "layer is 2");
  invalid(hipattn_sequence_selection(sequence.get(), 0, 2, &block, 1, &count), "kv_head is 2");
  invalid(hipattn_sequence_recall(nullptr, 0, 0, &recall), "sequence is NULL");
  invalid(hipattn_sequence_recall(sequence.get(), 0, 0, nullptr), "recall is NULL");
  invalid(hipattn_sequence_recall(sequence.get(), 2, 0, &recall), "layer is 2");
  invalid(hipattn_sequence_recall(sequence.get(), 0, 4, &recall), "q_head is 4");
  recall.struct_size = 0;
  invalid(hipattn_sequence_recall(sequence.get(), 0, 0, &recall), "recall->struct_size is 0");
  EXPECT_EQ(engine_out, nullptr);
  EXPECT_EQ(sequence_out, nullptr);
  EXPECT_EQ(count, 0U);
  EXPECT_EQ(hipattn_sequence_length(nullptr), 0U);
  hipattn_engine_destroy(nullptr);
  hipattn_engine_cancel(nullptr);
  hipattn_sequence_destroy(nullptr);
}

TEST(BadCalls, Files) {
  const EnginePtr engine = MakeEngine(SmallEngine());
  const SequencePtr sequence = MakeSequence(engine.get());
  hipattn_sequence_t* loaded = nullptr;
  ExpectError(hipattn_sequence_save(sequence.get(), "/dev/null/s", "f", 1),
              HIPATTN_IO_ERROR,
              "path \"/dev/null/s.part\" cannot be created");
  ExpectError(hipattn_sequence_load(engine.get(), "/dev/null/s", "f", 1, &loaded),
              HIPATTN_IO_ERROR,
              "path \"/dev/null/s\" cannot be opened");
  ExpectError(hipattn_engine_load_profile(engine.get(), "/dev/null/p.json"),
              HIPATTN_IO_ERROR,
              "json_path \"/dev/null/p.json\" cannot be read");
  ExpectError(hipattn_sequence_save_profile(sequence.get(), "/dev/null/p.json"),
              HIPATTN_IO_ERROR,
              "json_path \"/dev/null/p.json\" cannot be written");
  ExpectError(hipattn_engine_load_profile(engine.get(), "/dev/null"),
              HIPATTN_CORRUPT,
              "the profile is no JSON");
  ExpectError(hipattn_engine_load_patterns(engine.get(), "/dev/null/p.json"),
              HIPATTN_IO_ERROR,
              "json_path \"/dev/null/p.json\" cannot be read");
  ExpectError(hipattn_engine_load_patterns(engine.get(), "/dev/null"), HIPATTN_CORRUPT, "syntax: ");
  EXPECT_EQ(loaded, nullptr);

  const auto invalid = [](hipattn_status_t status, const char* part) {
    ExpectError(status, HIPATTN_INVALID_ARGUMENT, part);
  };
  invalid(hipattn_engine_load_patterns(nullptr, "p"), "engine is NULL");
  invalid(hipattn_engine_load_patterns(engine.get(), nullptr), "json_path is NULL");
  invalid(hipattn_engine_load_profile(nullptr, "p"), "engine is NULL");
  invalid(hipattn_engine_load_profile(engine.get(), nullptr), "json_path is NULL");
  invalid(hipattn_sequence_save(nullptr, "s", nullptr, 0), "sequence is NULL");
  invalid(hipattn_sequence_save(sequence.get(), nullptr, nullptr, 0), "path is NULL");
  invalid(hipattn_sequence_save(sequence.get(), "s", nullptr, 1), "fingerprint is NULL");
  invalid(hipattn_sequence_load(nullptr, "s", nullptr, 0, &loaded), "engine is NULL");
  invalid(hipattn_sequence_load(engine.get(), nullptr, nullptr, 0, &loaded), "path is NULL");
  invalid(hipattn_sequence_load(engine.get(), "s", nullptr, 1, &loaded), "fingerprint is NULL");
  invalid(hipattn_sequence_load(engine.get(), "s", nullptr, 0, nullptr), "sequence is NULL");
  invalid(hipattn_sequence_save_profile(nullptr, "p"), "sequence is NULL");
  invalid(hipattn_sequence_save_profile(sequence.get(), nullptr), "json_path is NULL");
}

struct MergeCall {
  uint64_t num_rows = 2;
  uint32_t head_dim = 8;
  const float *o_a, *lse_a, *o_b, *lse_b;
  float *o, *lse;
  void* stream = nullptr;
};

TEST(BadCalls, MergeStates) {
  const EnginePtr engine = MakeEngine(SmallEngine());
  Floats o_a(64, 1.0F), o_b(64, 2.0F), o(64, 3.0F), lse_a(16), lse_b(16), lse(16, 3.0F);
  const struct {
    const char* part;
    std::function<void(MergeCall&)> spoil;
  } cases[] = {
      {"num_rows is 0", [](MergeCall& c) { c.num_rows = 0; }},
      {"num_rows is 18446744073709551615", [](MergeCall& c) { c.num_rows = UINT64_MAX; }},
      {"head_dim is 0", [](MergeCall& c) { c.head_dim = 0; }},
      {"head_dim is 12", [](MergeCall& c) { c.head_dim = 12; }},
      {"head_dim is 4294967288", [](MergeCall& c) { c.head_dim = UINT32_MAX - 7; }},
      {"o_a is NULL", [](MergeCall& c) { c.o_a = nullptr; }},
      {"lse_a is NULL", [](MergeCall& c) { c.lse_a = nullptr; }},
      {"o_b is NULL", [](MergeCall& c) { c.o_b = nullptr; }},
      {"lse_b is NULL", [](MergeCall& c) { c.lse_b = nullptr; }},
      {"o is NULL", [](MergeCall& c) { c.o = nullptr; }},
      {"lse is NULL", [](MergeCall& c) { c.lse = nullptr; }},
      {"o_a is 0x", [&](MergeCall& c) { c.o_a = o_a.data() + 1; }},
      {"o is 0x", [&](MergeCall& c) { c.o = o.data() + 2; }},
      {"o at", [&](MergeCall& c) { c.o = o_b.data(); }},
      {"overlaps o_a", [&](MergeCall& c) { c.o = o_a.data() + 4; }},
      {"overlaps lse_a", [&](MergeCall& c) { c.lse = lse_a.data() + 1; }},
      {"overlaps lse_b", [&](MergeCall& c) { c.lse = lse_b.data(); }},
      {"overlaps lse", [&](MergeCall& c) { c.lse = o.data() + 3; }},
      {"stream is 0x", [&](MergeCall& c) { c.stream = o.data(); }},
  };
  const auto run = [](hipattn_engine_t* target, const MergeCall& c) {
    return hipattn_merge_states(
        target, c.num_rows, c.head_dim, c.o_a, c.lse_a, c.o_b, c.lse_b, c.o, c.lse, c.stream);
  };
  MergeCall good;
  good.o_a = o_a.data(), good.lse_a = lse_a.data(), good.o_b = o_b.data(),
  good.lse_b = lse_b.data();
  good.o = o.data(), good.lse = lse.data();
  for (const auto& test : cases) {
    MergeCall call = good;
    test.spoil(call);
    ExpectError(run(engine.get(), call), HIPATTN_INVALID_ARGUMENT, test.part);
  }
  ExpectError(run(nullptr, good), HIPATTN_INVALID_ARGUMENT, "engine is NULL");
  EXPECT_EQ(o.copy(), std::vector<float>(64, 3.0F));
  EXPECT_EQ(lse.copy(), std::vector<float>(16, 3.0F));
  EXPECT_EQ(o_a.copy(), std::vector<float>(64, 1.0F));
  EXPECT_EQ(run(engine.get(), good), HIPATTN_OK) << LastError();
  EXPECT_EQ(o[0], 1.5F);
  MergeCall in_place = good;
  in_place.o = o_a.data(), in_place.lse = lse_a.data();
  EXPECT_EQ(run(engine.get(), in_place), HIPATTN_OK) << LastError();
  EXPECT_EQ(o_a[0], 1.5F);
}

}  // namespace
}  // namespace hipattn::test
