// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Acceptance tests of the project's brief: what results may not depend on. T23 (state belongs to
// the sequence), threads, batches, cuts into chunks, forks and truncations, budgets, cancellation.
// Everything here is compared bit for bit.
#include "tests/engine/engine_fixture.h"

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <thread>

namespace hipattn::test {
namespace {

const Geometry kGeometry = {6, 2, 64};

struct Way {
  const char* name;
  uint32_t decode, prefill, search, refresh;
};

const Way kWays[] = {
    {"dense", HIPATTN_DECODE_DENSE, HIPATTN_PREFILL_DENSE, HIPATTN_SEARCH_TREE, 0},
    {"tree", HIPATTN_DECODE_SPARSE, HIPATTN_PREFILL_DENSE, HIPATTN_SEARCH_TREE, 0},
    {"tree refreshed every 4 steps",
     HIPATTN_DECODE_SPARSE,
     HIPATTN_PREFILL_DENSE,
     HIPATTN_SEARCH_TREE,
     4},
    {"hip prefill", HIPATTN_DECODE_SPARSE, HIPATTN_PREFILL_HIP, HIPATTN_SEARCH_TREE, 0},
    {"flat", HIPATTN_DECODE_SPARSE, HIPATTN_PREFILL_HIP, HIPATTN_SEARCH_FLAT, 0},
    {"staged", HIPATTN_DECODE_SPARSE, HIPATTN_PREFILL_DENSE, HIPATTN_SEARCH_STAGED, 0},
    {"beam", HIPATTN_DECODE_SPARSE, HIPATTN_PREFILL_DENSE, HIPATTN_SEARCH_BEAM, 0},
};

hipattn_attention_options_t OptionsOf(const Way& way) {
  hipattn_attention_options_t options = SparseOptions(64, 16, 96);
  options.decode_mode = way.decode;
  options.prefill_mode = way.prefill;
  options.search = way.search;
  options.refresh_interval = way.refresh;
  return options;
}

// Result of each step, by position.
using Steps = std::map<uint64_t, std::vector<float>>;

std::vector<float> Bits(const Rows& rows) {
  std::vector<float> bits = rows.out.copy();
  bits.insert(bits.end(), rows.lse.data(), rows.lse.data() + rows.lse.size());
  return bits;
}

// A prompt of `prompt` tokens, then decode steps up to `end`, alone.
Steps RunAlone(Engine& engine, const Way& way, uint32_t seed, uint64_t prompt, uint64_t end) {
  Sequence sequence(engine, OptionsOf(way));
  Steps steps;
  steps[0] = Bits(Feed(engine, sequence, kGeometry, seed, 0, prompt));
  for (uint64_t p = prompt; p < end; ++p) {
    steps[p] = Bits(Decode(engine, sequence, kGeometry, seed, p));
  }
  return steps;
}

// Texts that decode together; each joins when its time comes and leaves at its end.
class Batch {
 public:
  explicit Batch(Engine& engine) : engine_(engine) {}

  struct Member {
    const Way* way;
    uint32_t seed;
    uint64_t position;
    uint64_t end;
    std::unique_ptr<Sequence> sequence;
    Steps steps;
  };

  void Join(const Way& way, uint32_t seed, uint64_t prompt, uint64_t end) {
    auto member = std::make_unique<Member>(Member{&way, seed, prompt, end, nullptr, {}});
    member->sequence = std::make_unique<Sequence>(engine_, OptionsOf(way));
    member->steps[0] = Bits(Feed(engine_, *member->sequence, kGeometry, seed, 0, prompt));
    members.push_back(std::move(member));
  }

  // One step of every member that has not ended, in an order that changes from step to step.
  void Step() {
    std::vector<Member*> active;
    for (const auto& member : members) {
      if (member->position < member->end) {
        active.push_back(member.get());
      } else {
        member->sequence.reset();
      }
    }
    std::rotate(active.begin(),
                active.begin() + static_cast<ptrdiff_t>(turn_++ % active.size()),
                active.end());
    std::vector<hipattn_sequence_t*> handles;
    const std::vector<uint32_t> counts(active.size(), 1);
    Rows rows(kGeometry, active.size());
    const Geometry& g = kGeometry;
    for (size_t i = 0; i < active.size(); ++i) {
      const Rows one = MakeRows(g, active[i]->seed, 0, active[i]->position, 1);
      std::copy_n(one.q.data(), g.q_row(), rows.q.data() + i * g.q_row());
      std::copy_n(one.k.data(), g.kv_row(), rows.k.data() + i * g.kv_row());
      std::copy_n(one.v.data(), g.kv_row(), rows.v.data() + i * g.kv_row());
      handles.push_back(active[i]->sequence->get());
    }
    engine_.Attend<float>(0,
                          handles,
                          counts,
                          {.q = std::as_const(rows.q).span(),
                           .k = std::as_const(rows.k).span(),
                           .v = std::as_const(rows.v).span(),
                           .out = rows.out.span(),
                           .lse = rows.lse.span()});
    for (size_t i = 0; i < active.size(); ++i) {
      std::vector<float> bits(rows.out.data() + i * g.q_row(),
                              rows.out.data() + (i + 1) * g.q_row());
      bits.insert(
          bits.end(), rows.lse.data() + i * g.q_heads, rows.lse.data() + (i + 1) * g.q_heads);
      active[i]->steps[active[i]->position++] = std::move(bits);
    }
  }

  std::vector<std::unique_ptr<Member>> members;

 private:
  Engine& engine_;
  size_t turn_ = 0;
};

TEST(Acceptance, T23_JoiningFinishingAndOrderInABatchChangeNothing) {
  Engine engine(EngineOptionsOf(kGeometry, HIPATTN_BF16));
  Batch batch(engine);
  for (uint32_t i = 0; i < 3; ++i) {
    batch.Join(kWays[i], 30 + i, 300 + 100 * i, 320 + 104 * i);
  }
  for (int step = 0; step < 10; ++step) {
    batch.Step();
  }
  for (uint32_t i = 3; i < 7; ++i) {
    batch.Join(kWays[i], 30 + i, 700 - 90 * i, 712 - 90 * i);
  }
  for (int step = 0; step < 10; ++step) {
    batch.Step();
  }
  for (const auto& member : batch.members) {
    SCOPED_TRACE(member->way->name);
    EXPECT_GE(member->steps.size(), 11U);
    const Steps alone = RunAlone(
        engine, *member->way, member->seed, member->steps.upper_bound(0)->first, member->position);
    EXPECT_EQ(member->steps, alone);
  }
}

TEST(Acceptance, ResultsDoNotDependOnTheNumberOfThreads) {
  for (const Way& way : kWays) {
    SCOPED_TRACE(way.name);
    Steps one;
    for (const uint32_t threads : {1U, 2U, 3U}) {
      Engine engine(EngineOptionsOf(kGeometry, HIPATTN_BF16, 1, threads));
      const Steps steps = RunAlone(engine, way, 40, 2500, 2506);
      if (threads == 1) {
        one = steps;
      }
      EXPECT_EQ(steps, one) << threads << " threads";
    }
  }
}

// Where earlier chunks were cut. HiP prefill searches for blocks of 64 rows that begin at absolute
// multiples of 64, so chunks that end there give the same; dense prefill is free.
TEST(Acceptance, ResultsDoNotDependOnWhereEarlierChunksWereCut) {
  for (const Way& way : kWays) {
    SCOPED_TRACE(way.name);
    Steps whole;
    for (const uint64_t chunk :
         {UINT64_MAX, uint64_t{64}, uint64_t{192}, uint64_t{1}, uint64_t{7}, uint64_t{333}}) {
      if (way.prefill == HIPATTN_PREFILL_HIP && chunk % 64 != 0 && chunk != UINT64_MAX) {
        continue;
      }
      Engine engine(EngineOptionsOf(kGeometry, HIPATTN_BF16));
      Sequence sequence(engine, OptionsOf(way));
      Steps steps;
      Feed(engine, sequence, kGeometry, 41, 0, 1024, {chunk});
      steps[1024] = Bits(Feed(engine, sequence, kGeometry, 41, 1024, 1130));
      for (uint64_t p = 1130; p < 1136; ++p) {
        steps[p] = Bits(Decode(engine, sequence, kGeometry, 41, p));
      }
      if (whole.empty()) {
        whole = steps;
      }
      EXPECT_EQ(steps, whole) << "chunks of " << chunk;
    }
  }
}

// The keys of a HiP prefill are stored the same however its chunks are cut: decode steps after it
// give the same bits even when a chunk ends inside a block of 64.
TEST(Acceptance, DecodeStepsDoNotDependOnHowThePromptWasRead) {
  Engine engine(EngineOptionsOf(kGeometry, HIPATTN_BF16));
  std::vector<Steps> results;
  for (const uint64_t chunk : {UINT64_MAX, uint64_t{50}, uint64_t{1}}) {
    for (const Way* way : {&kWays[1], &kWays[3]}) {
      Sequence sequence(engine, OptionsOf(*way));
      Feed(engine, sequence, kGeometry, 42, 0, 900, {chunk});
      Steps steps;
      for (uint64_t p = 900; p < 906; ++p) {
        steps[p] = Bits(Decode(engine, sequence, kGeometry, 42, p));
      }
      results.push_back(steps);
      EXPECT_EQ(steps, results[0]) << way->name << ", chunks of " << chunk;
    }
  }
}

TEST(Acceptance, SpeculativeRowsEqualStepsOfOneToken) {
  Engine engine(EngineOptionsOf(kGeometry, HIPATTN_BF16));
  for (const Way& way : kWays) {
    SCOPED_TRACE(way.name);
    Sequence one_by_one(engine, OptionsOf(way)), together(engine, OptionsOf(way));
    Feed(engine, one_by_one, kGeometry, 43, 0, 700);
    Feed(engine, together, kGeometry, 43, 0, 700);
    Rows rows = MakeRows(kGeometry, 43, 0, 700, 5);
    ASSERT_EQ(TryAttend(engine, together, 0, rows, kDecode), HIPATTN_OK)
        << hipattn_last_error_message();
    for (uint64_t i = 0; i < 5; ++i) {
      const Rows step = Decode(engine, one_by_one, kGeometry, 43, 700 + i);
      EXPECT_EQ(std::memcmp(rows.out.data() + i * kGeometry.q_row(),
                            step.out.data(),
                            step.out.size() * sizeof(float)),
                0)
          << "row " << i;
    }
  }
}

// A sequence that was forked from, or cut back to, the first `kept` tokens goes on as one that was
// given these tokens alone.
void ExpectGoesOnLikeNew(const Way& way,
                         uint64_t length,
                         uint64_t kept,
                         const std::function<Sequence(Sequence&&, uint64_t)>& shorten) {
  SCOPED_TRACE(testing::Message() << way.name << ", " << length << " cut to " << kept);
  Engine engine(EngineOptionsOf(kGeometry, HIPATTN_BF16));
  Sequence fresh(engine, OptionsOf(way));
  AppendOnly(engine, fresh, kGeometry, 44, 0, kept);
  Sequence long_text(engine, OptionsOf(way));
  AppendOnly(engine, long_text, kGeometry, 44, 0, kept);
  // Another text went on here first.
  AppendOnly(engine, long_text, kGeometry, 45, kept, length);
  Decode(engine, long_text, kGeometry, 45, length);
  Sequence cut = shorten(std::move(long_text), kept);
  EXPECT_EQ(cut.length(), kept);
  for (uint64_t p = kept; p < kept + 20; ++p) {
    ExpectSameRows(Decode(engine, cut, kGeometry, 44, p), Decode(engine, fresh, kGeometry, 44, p));
    EXPECT_EQ(cut.Selection(0, 1), fresh.Selection(0, 1)) << "position " << p;
  }
  ExpectSameRows(Feed(engine, cut, kGeometry, 44, kept + 20, kept + 150),
                 Feed(engine, fresh, kGeometry, 44, kept + 20, kept + 150));
  ExpectSameRows(Decode(engine, cut, kGeometry, 44, kept + 150),
                 Decode(engine, fresh, kGeometry, 44, kept + 150));
}

TEST(Acceptance, TruncateAndForkGoOnLikeATextThatEndedThere) {
  const auto truncate = [](Sequence&& sequence, uint64_t kept) {
    sequence.Truncate(kept);
    return std::move(sequence);
  };
  const auto fork = [](Sequence&& sequence, uint64_t kept) { return sequence.Fork(kept); };
  // A fork while the parent lives and has written on.
  std::unique_ptr<Sequence> parent;
  const auto fork_beside_parent = [&parent](Sequence&& sequence, uint64_t kept) {
    parent.reset();
    parent = std::make_unique<Sequence>(std::move(sequence));
    return parent->Fork(kept);
  };
  for (const Way& way : kWays) {
    const bool slow = way.search == HIPATTN_SEARCH_STAGED || way.search == HIPATTN_SEARCH_BEAM;
    for (const uint64_t kept : {1U, 16U, 129U, 1024U, 1031U}) {
      if (slow && kept != 129) {
        continue;
      }
      ExpectGoesOnLikeNew(way, kept + 400, kept, truncate);
      ExpectGoesOnLikeNew(way, kept + 400, kept, fork);
      ExpectGoesOnLikeNew(way, kept + 3, kept, fork_beside_parent);
    }
  }
  ExpectGoesOnLikeNew(kWays[1], 17000, 8200, truncate);  // past nodes that keep their f32 vectors
  ExpectGoesOnLikeNew(kWays[1], 17000, 16384, fork);
}

TEST(Acceptance, ParentAndChildrenDoNotDisturbEachOther) {
  Engine engine(EngineOptionsOf(kGeometry, HIPATTN_BF16));
  const Way& way = kWays[2];
  Sequence parent(engine, OptionsOf(way)), twin(engine, OptionsOf(way));
  Feed(engine, parent, kGeometry, 46, 0, 605);
  Feed(engine, twin, kGeometry, 46, 0, 605);
  std::vector<Sequence> children;
  for (uint64_t p = 605; p < 640; ++p) {
    if (p % 5 == 0) {
      children.push_back(parent.Fork(p - p % 3));
      children.push_back(children.back().Fork(p / 2));
      Feed(engine, children.back(), kGeometry, 47, p / 2, p);
      if (children.size() > 6) {
        children.erase(children.begin());
      }
    }
    for (Sequence& child : children) {
      Decode(engine, child, kGeometry, 48, child.length());
    }
    ExpectSameRows(Decode(engine, parent, kGeometry, 46, p),
                   Decode(engine, twin, kGeometry, 46, p));
  }
}

uint64_t DeviceBytes(Engine& engine) {
  return engine.Stats().device_bytes;
}

TEST(Acceptance, OutOfBudgetChangesNothing) {
  hipattn_engine_options_t options = EngineOptionsOf(kGeometry, HIPATTN_BF16);
  options.device_kv_bytes = 600000;
  Engine engine(options);
  Sequence sequence(engine, OptionsOf(kWays[1])), other(engine, OptionsOf(kWays[1]));
  Feed(engine, sequence, kGeometry, 50, 0, 300);
  Feed(engine, other, kGeometry, 51, 0, 100);
  const uint64_t bytes = DeviceBytes(engine);
  Engine roomy(EngineOptionsOf(kGeometry, HIPATTN_BF16));
  Sequence twin(roomy, OptionsOf(kWays[1]));
  Feed(roomy, twin, kGeometry, 50, 0, 300);
  const Rows want = Decode(roomy, twin, kGeometry, 50, 300);

  Rows big = MakeRows(kGeometry, 50, 0, 300, 2000);
  EXPECT_EQ(TryAttend(engine, sequence, 0, big, kPrefill), HIPATTN_OUT_OF_BUDGET);
  EXPECT_NE(std::string(hipattn_last_error_message()), "");
  EXPECT_EQ(big.out[0], Rows::kUnset);
  // A batch in which the second sequence has no room: the first gets nothing either.
  Rows both = MakeRows(kGeometry, 50, 0, 300, 2001);
  hipattn_sequence_t* const handles[] = {sequence.get(), other.get()};
  const uint32_t counts[] = {1, 2000};
  EXPECT_THROW(engine.Attend<float>(0,
                                    handles,
                                    counts,
                                    {.q = std::as_const(both.q).span(),
                                     .k = std::as_const(both.k).span(),
                                     .v = std::as_const(both.v).span(),
                                     .out = both.out.span()}),
               Error);
  EXPECT_EQ(both.out[0], Rows::kUnset);
  EXPECT_EQ(hipattn_sequence_reserve(sequence.get(), 5000), HIPATTN_OUT_OF_BUDGET);
  EXPECT_EQ(sequence.length(), 300U);
  EXPECT_EQ(other.length(), 100U);
  EXPECT_LE(DeviceBytes(engine), bytes + 4096) << "room that was taken in vain goes back";
  ExpectSameRows(Decode(engine, sequence, kGeometry, 50, 300), want);
}

TEST(Acceptance, ReservedRoomIsThereWhateverOthersTake) {
  hipattn_engine_options_t options = EngineOptionsOf(kGeometry, HIPATTN_BF16, 2);
  options.device_kv_bytes = 3000000;
  Engine engine(options);
  Sequence reserved(engine, OptionsOf(kWays[1]));
  reserved.Reserve(1500);
  Sequence greedy(engine, OptionsOf(kWays[1]));
  uint64_t taken = 0;
  Rows chunk(kGeometry, 64);
  while (true) {
    const hipattn_status_t status = TryAttend(engine, greedy, 0, chunk, kPrefill);
    if (status != HIPATTN_OK) {
      EXPECT_EQ(status, HIPATTN_OUT_OF_BUDGET);
      break;
    }
    taken += 64;
    ASSERT_LT(taken, 100000U);
  }
  for (uint32_t layer = 0; layer < 2; ++layer) {
    Feed(engine, reserved, kGeometry, 52, 0, 1400, {100, layer});
  }
  for (uint64_t p = 1400; p < 1500; ++p) {
    Decode(engine, reserved, kGeometry, 52, p, 0);
    Decode(engine, reserved, kGeometry, 52, p, 1);
  }
  EXPECT_EQ(reserved.length(), 1500U);
}

// memory_need says what fits: an engine with exactly that budget holds the text.
TEST(Acceptance, ABudgetOfWhatMemoryNeedSaysIsEnough) {
  const hipattn_attention_options_t attention = OptionsOf(kWays[1]);
  hipattn_engine_options_t options = EngineOptionsOf(kGeometry, HIPATTN_BF16, 2);
  for (const uint64_t tokens : {40U, 3000U, 20000U}) {
    options.device_kv_bytes = MemoryNeed(options, &attention, tokens, 2).device_bytes_min;
    Engine engine(options);
    std::vector<Sequence> sequences;
    sequences.emplace_back(engine, attention);
    sequences.emplace_back(engine, attention);
    for (uint32_t layer = 0; layer < 2; ++layer) {
      for (Sequence& sequence : sequences) {
        for (uint64_t done = 0; done < tokens;) {
          const uint64_t count = std::min<uint64_t>(tokens - done, 1000);
          Rows rows(kGeometry, count);
          ASSERT_NO_THROW(engine.Attend<float>(layer,
                                               sequence,
                                               {.q = {},
                                                .k = std::as_const(rows.k).span(),
                                                .v = std::as_const(rows.v).span(),
                                                .out = {}}))
              << "token " << done << " of " << tokens;
          done += count;
        }
      }
    }
  }
}

TEST(Acceptance, ACancelledCallAppendsNothing) {
  const Geometry g{8, 2, 128};
  Engine engine(EngineOptionsOf(g, HIPATTN_BF16));
  Sequence sequence(engine), twin(engine);
  Feed(engine, sequence, g, 53, 0, 100);
  Feed(engine, twin, g, 53, 0, 100);
  engine.Cancel();  // nothing runs: does nothing
  Rows rows = MakeRows(g, 53, 0, 100, 6000);
  std::atomic<bool> done{false};
  hipattn_status_t status = HIPATTN_OK;
  std::thread canceller([&] {
    while (!done.load()) {
      engine.Cancel();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  status = TryAttend(engine, sequence, 0, rows, kPrefill);
  done.store(true);
  canceller.join();
  EXPECT_EQ(status, HIPATTN_CANCELLED) << hipattn_last_error_message();
  EXPECT_EQ(sequence.length(), 100U);
  ExpectSameRows(Feed(engine, sequence, g, 53, 100, 300), Feed(engine, twin, g, 53, 100, 300));
  ExpectSameRows(Decode(engine, sequence, g, 53, 300), Decode(engine, twin, g, 53, 300));
}

// Every layer has its own length: a prompt may be read layer by layer, and a step that only some
// layers took can be undone.
TEST(Acceptance, LayersMayRunAhead) {
  const Geometry& g = kGeometry;
  Engine engine(EngineOptionsOf(g, HIPATTN_BF16, 3));
  Sequence by_layer(engine, OptionsOf(kWays[2])), in_step(engine, OptionsOf(kWays[2]));
  for (uint32_t layer : {2U, 0U, 1U}) {
    EXPECT_EQ(by_layer.length(), 0U);
    Feed(engine, by_layer, g, 54, 0, 400, {130, layer});
  }
  for (uint64_t at = 0; at < 400; at += 200) {
    for (uint32_t layer = 0; layer < 3; ++layer) {
      Feed(engine, in_step, g, 54, at, at + 200, {200, layer});
    }
  }
  EXPECT_EQ(by_layer.length(), 400U);
  // Layer 0 takes a step of another text; cutting to the common length undoes it.
  Decode(engine, by_layer, g, 55, 400, 0);
  EXPECT_EQ(by_layer.length(), 400U);
  by_layer.Truncate(by_layer.length());
  in_step.Truncate(in_step.length());  // the refresh of both starts anew
  for (uint64_t p = 400; p < 412; ++p) {
    for (uint32_t layer = 0; layer < 3; ++layer) {
      ExpectSameRows(Decode(engine, by_layer, g, 54, p, layer),
                     Decode(engine, in_step, g, 54, p, layer));
    }
  }
  Sequence child = by_layer.Fork(300);
  EXPECT_EQ(child.length(), 300U);
  EXPECT_EQ(hipattn_sequence_truncate(child.get(), 301), HIPATTN_INVALID_ARGUMENT);
}

TEST(Acceptance, AppendOnlyCallsLeaveTheSameText) {
  const Geometry& g = kGeometry;
  Engine engine(EngineOptionsOf(g, HIPATTN_BF16));
  Sequence appended(engine, OptionsOf(kWays[1])), attended(engine, OptionsOf(kWays[1]));
  Feed(engine, attended, g, 56, 0, 500);
  for (uint64_t at = 0; at < 500; at += 25) {
    Rows rows = MakeRows(g, 56, 0, at, 25);
    engine.Attend<float>(
        0,
        appended,
        {.q = {}, .k = std::as_const(rows.k).span(), .v = std::as_const(rows.v).span(), .out = {}});
  }
  ExpectSameRows(Decode(engine, appended, g, 56, 500), Decode(engine, attended, g, 56, 500));
}

// Room that was reserved for one scorer's summaries does not serve another's, which are larger.
TEST(Acceptance, AReservationSurvivesAChangeOfScorer) {
  Engine engine(EngineOptionsOf(kGeometry, HIPATTN_BF16));
  hipattn_attention_options_t options = OptionsOf(kWays[0]);  // dense: no summaries
  Sequence sequence(engine, options), twin(engine, OptionsOf(kWays[1]));
  sequence.Reserve(3000);
  options = OptionsOf(kWays[1]);
  options.scorer = HIPATTN_SCORER_MEAN;
  sequence.SetOptions(options);
  const uint64_t with_mean = engine.Stats().device_bytes;
  options.scorer = HIPATTN_SCORER_CUBOID_MEAN;
  sequence.SetOptions(options);
  EXPECT_GT(engine.Stats().device_bytes, with_mean) << "two vectors for each node";
  AppendOnly(engine, sequence, kGeometry, 58, 0, 2900);
  AppendOnly(engine, twin, kGeometry, 58, 0, 2900);
  ExpectSameRows(Decode(engine, sequence, kGeometry, 58, 2900),
                 Decode(engine, twin, kGeometry, 58, 2900));
}

TEST(Acceptance, AReservationThatAnotherScorerCannotHaveLeavesTheOldOptions) {
  hipattn_engine_options_t engine_options = EngineOptionsOf(kGeometry, HIPATTN_BF16);
  hipattn_attention_options_t options = OptionsOf(kWays[1]);
  options.scorer = HIPATTN_SCORER_MEAN;
  engine_options.device_kv_bytes = MemoryNeed(engine_options, &options, 3000, 1).device_bytes_min;
  Engine engine(engine_options);
  Sequence sequence(engine, options);
  sequence.Reserve(3000);
  const uint64_t bytes = engine.Stats().device_bytes;
  hipattn_attention_options_t larger = options;
  larger.scorer = HIPATTN_SCORER_CUBOID_MEAN;
  EXPECT_EQ(hipattn_sequence_set_options(sequence.get(), &larger), HIPATTN_OUT_OF_BUDGET);
  EXPECT_EQ(engine.Stats().device_bytes, bytes);
  AppendOnly(engine, sequence, kGeometry, 59, 0, 3000);
}

TEST(Acceptance, SetOptionsKeepsWhatTheTextWasBuiltWith) {
  Engine engine(EngineOptionsOf(kGeometry));
  Sequence sequence(engine, OptionsOf(kWays[1]));
  hipattn_attention_options_t options = OptionsOf(kWays[1]);
  options.scorer = HIPATTN_SCORER_MEAN;
  sequence.SetOptions(options);  // empty: everything may change
  Feed(engine, sequence, kGeometry, 57, 0, 20);
  options.budget_tokens = 128;
  sequence.SetOptions(options);
  hipattn_attention_options_t other = options;
  other.scorer = HIPATTN_SCORER_BOUNDS;
  EXPECT_EQ(hipattn_sequence_set_options(sequence.get(), &other), HIPATTN_INVALID_ARGUMENT);
  EXPECT_NE(std::string(hipattn_last_error_message()).find("scorer is 3"), std::string::npos);
  other = options;
  other.search = HIPATTN_SEARCH_FLAT;
  EXPECT_EQ(hipattn_sequence_set_options(sequence.get(), &other), HIPATTN_INVALID_ARGUMENT);
  EXPECT_NE(std::string(hipattn_last_error_message()).find("search is 3"), std::string::npos);
}

}  // namespace
}  // namespace hipattn::test
