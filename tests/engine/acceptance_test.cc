// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Acceptance tests of the project's brief by their numbers: what is computed. T1, T3 to T7 and T9;
// T23 and the invariances of state are in acceptance_state_test.cc.
//
// Bounds. A score is a sum of d products in f32: its error is at most d u |q| |k| scale, with
// u = 2^-24 and |q| |k| about d for these texts at most d^1.5 u = 2.4e-4 for d = 256, but errors of
// random sign grow like sqrt(d), not d: about sqrt(d) u = 1e-6. exp turns it into a relative error
// of the same size, the weighted mean of T values adds about sqrt(pieces) u. So 1e-5 of the largest
// value of a head leaves a factor of 5. Keys and values kept as bf16 are off by 2^-9 each: scores
// by 2^-9 |k| |q| scale / sqrt(d), about 2e-3, values by 2e-3: 2e-2 leaves a factor of 5, too.
#include "tests/engine/engine_fixture.h"

#include <limits>
#include <random>
#include <set>

namespace hipattn::test {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr uint32_t kLengths[] = {1, 7, 15, 16, 17, 63, 64, 65, 4097};

double BoundOf(uint32_t kv_dtype) {
  return kv_dtype == HIPATTN_F32 ? 1e-5 : 2e-2;
}

// The text [0, length) in a naive layer with exact storage.
NaiveLayer NaiveText(const NaiveOptions& options, uint32_t seed, uint64_t length) {
  NaiveLayer layer(options);
  const Rows rows = MakeRows(options.geometry, seed, 0, 0, length);
  layer.Append(rows.k.data(), rows.v.data(), length);
  return layer;
}

// T1, decode: with a budget that covers the text, a sparse step is dense attention.
void ExpectDecodeIsDense(const Geometry& g, uint32_t kv_dtype, uint32_t length) {
  SCOPED_TRACE(testing::Message() << "T " << length << " heads " << g.q_heads << "/" << g.kv_heads
                                  << " dim " << g.head_dim << " kv " << kv_dtype);
  Engine engine(EngineOptionsOf(g, kv_dtype));
  NaiveLayer naive = NaiveText({.geometry = g}, 1, length);
  const NaiveResult want = naive.AttendAll(MakeRows(g, 1, 0, length - 1, 1).q.data(), length - 1);
  for (const uint32_t mode : {HIPATTN_DECODE_SPARSE, HIPATTN_DECODE_DENSE}) {
    hipattn_attention_options_t options = SparseOptions(4096, 16, 16);
    options.decode_mode = mode;
    Sequence sequence(engine, options);
    if (length > 1) {
      Rows prompt = MakeRows(g, 1, 0, 0, length - 1);
      engine.Attend<float>(
          0, sequence, {.q = {}, .k = prompt.k.span(), .v = prompt.v.span(), .out = {}});
    }
    const Rows step = Decode(engine, sequence, g, 1, length - 1);
    ExpectNear(g, step, 0, want, BoundOf(kv_dtype));
    EXPECT_EQ(sequence.Selection(0, 0).size(), (length + 15) / 16);
  }
}

TEST(Acceptance, T1_ABudgetThatCoversTheTextIsDenseAttention_Decode) {
  const Geometry heads[] = {
      {2, 2, 0}, {3, 1, 0}, {6, 2, 0}, {4, 1, 0}, {8, 1, 0}, {8, 4, 0}, {16, 2, 0}};
  for (Geometry g : heads) {
    for (const uint32_t head_dim : {64U, 80U, 96U, 128U, 256U}) {
      g.head_dim = head_dim;
      for (const uint32_t kv_dtype : {HIPATTN_F32, HIPATTN_BF16}) {
        for (const uint32_t length : kLengths) {
          if (length < 4097 || head_dim == 64 || g.q_heads == 6) {
            ExpectDecodeIsDense(g, kv_dtype, length);
          }
        }
      }
    }
  }
}

// T1, prefill: the same for every row of a prompt; rows of long prompts are sampled.
void ExpectPrefillIsDense(const Geometry& g, uint32_t kv_dtype, uint32_t length) {
  SCOPED_TRACE(testing::Message() << "T " << length << " heads " << g.q_heads << "/" << g.kv_heads
                                  << " dim " << g.head_dim << " kv " << kv_dtype);
  Engine engine(EngineOptionsOf(g, kv_dtype));
  const NaiveLayer naive = NaiveText({.geometry = g}, 2, length);
  for (const uint32_t mode : {HIPATTN_PREFILL_DENSE, HIPATTN_PREFILL_HIP}) {
    hipattn_attention_options_t options = SparseOptions(4096, 16, 96);
    options.prefill_mode = mode;
    Sequence sequence(engine, options);
    const Rows rows = Feed(engine, sequence, g, 2, 0, length);
    std::set<uint32_t> looked_at = {0, length - 1};
    for (uint32_t row = 0; row<length; row += length> 100 ? 409 : 7) {
      looked_at.insert(row);
    }
    for (const uint32_t row : looked_at) {
      const NaiveResult want = naive.AttendAll(rows.q.data() + row * g.q_row(), row);
      ExpectNear(g, rows, row, want, BoundOf(kv_dtype));
    }
  }
}

TEST(Acceptance, T1_ABudgetThatCoversTheTextIsDenseAttention_Prefill) {
  for (const Geometry g : {Geometry{2, 2, 64}, {3, 1, 80}, {6, 2, 96}, {8, 1, 128}, {8, 2, 256}}) {
    for (const uint32_t kv_dtype : {HIPATTN_F32, HIPATTN_BF16}) {
      for (const uint32_t length : kLengths) {
        if (length < 4097 || g.head_dim == 96) {
          ExpectPrefillIsDense(g, kv_dtype, length);
        }
      }
    }
  }
}

TEST(Acceptance, T1_WithScaleSoftcapAndRope) {
  const Geometry g{4, 2, 64};
  for (const uint32_t rope_mode : {0U, 1U, 2U}) {
    for (const float softcap : {0.0F, 5.0F}) {
      hipattn_engine_options_t engine_options = EngineOptionsOf(g);
      engine_options.softmax_scale = 0.25F;
      engine_options.logit_softcap = softcap;
      engine_options.rope_mode = rope_mode;
      engine_options.rope_theta = 10000.0F;
      Engine engine(engine_options);
      const NaiveOptions naive_options = {.geometry = g,
                                          .scale = 0.25,
                                          .softcap = softcap,
                                          .rope_mode = rope_mode,
                                          .rope_theta = 10000.0};
      const NaiveLayer naive = NaiveText(naive_options, 3, 301);
      Sequence sequence(engine, SparseOptions(512, 16, 32));
      const Rows prompt = Feed(engine, sequence, g, 3, 0, 300);
      const Rows step = Decode(engine, sequence, g, 3, 300);
      // The wider scale makes scores four times larger, and errors with them.
      ExpectNear(g, step, 0, naive.AttendAll(step.q.data(), 300), 2e-5);
      for (const uint64_t row : {0U, 63U, 64U, 299U}) {
        ExpectNear(g, prompt, row, naive.AttendAll(prompt.q.data() + row * g.q_row(), row), 2e-5);
      }
    }
  }
}

TEST(Acceptance, T1_EveryTypeOfInputAndStorage) {
  const Geometry g{4, 2, 64};
  for (const uint32_t io : {HIPATTN_F16, HIPATTN_BF16}) {
    for (const uint32_t kv : {HIPATTN_F32, HIPATTN_F16, HIPATTN_BF16}) {
      hipattn_engine_options_t options = EngineOptionsOf(g, kv);
      options.io_dtype = io;
      Engine engine(options);
      Sequence sequence(engine, SparseOptions(512, 16, 16));
      const auto dtype = static_cast<DType>(io);
      NaiveLayer naive({.geometry = g});
      const uint32_t length = 200;
      Rows rows = MakeRows(g, 4, 0, 0, length);
      const auto narrow = [dtype](const Floats& from) {
        Floats to((from.size() + 1) / 2);
        for (size_t i = 0; i < from.size(); ++i) {
          StoreElement(to.data(), dtype, i, from[i]);
        }
        return to;
      };
      const Floats q = narrow(rows.q), k = narrow(rows.k), v = narrow(rows.v);
      Floats out(rows.out.size() / 2);
      naive.Append(rows.k.data(), rows.v.data(), length);
      hipattn_sequence_t* const handle = sequence.get();
      hipattn_attend_args_t args = HIPATTN_ATTEND_ARGS_INIT;
      args.num_sequences = 1;
      args.sequences = &handle;
      args.num_new_tokens = &length;
      args.q = q.data();
      args.k = k.data();
      args.v = v.data();
      args.out = out.data();
      engine.Attend(args);
      for (size_t i = 0; i < rows.out.size(); ++i) {
        rows.out[i] = LoadElement(out.data(), dtype, i);
      }
      for (const uint64_t row : {0U, 31U, 199U}) {
        const NaiveResult want = naive.AttendAll(rows.q.data() + row * g.q_row(), row);
        EXPECT_LE(RelativeError(rows.out.data() + row * g.q_row(), want.out, g.head_dim), 2e-2);
      }
    }
  }
}

// T3: attention over any given blocks is dense attention under the mask of these blocks. Sinks
// [0, 32) and window [p - 47, p] are added; a block that meets them counts with its other tokens.
TEST(Acceptance, T3_GivenBlocksAreAMaskAndOrderAndRepeatsDoNotMatter) {
  const Geometry g{8, 2, 64};
  const uint32_t length = 700;
  Engine engine(EngineOptionsOf(g));
  const NaiveLayer naive = NaiveText({.geometry = g}, 5, length);
  std::mt19937 random(7);
  for (int trial = 0; trial < 8; ++trial) {
    std::set<int32_t> picks[2];
    std::vector<int32_t> ordered, shuffled;
    for (uint32_t head = 0; head < 2; ++head) {
      for (int i = 0; i < trial * 4; ++i) {
        picks[head].insert(static_cast<int32_t>(random() % 44));
      }
      std::vector<int32_t> row(picks[head].begin(), picks[head].end());
      row.resize(40, -1);
      ordered.insert(ordered.end(), row.begin(), row.end());
      for (size_t i = picks[head].size(); i < 40 && !picks[head].empty(); ++i) {
        row[i] = i % 3 == 0 ? -1 : row[random() % picks[head].size()];
      }
      std::shuffle(row.begin(), row.end(), random);
      shuffled.insert(shuffled.end(), row.begin(), row.end());
    }
    Rows results[2] = {MakeRows(g, 5, 0, length - 1, 1), MakeRows(g, 5, 0, length - 1, 1)};
    for (int form = 0; form < 2; ++form) {
      Sequence sequence(engine, SparseOptions(256, 32, 48));
      Feed(engine, sequence, g, 5, 0, length - 1);
      hipattn_sequence_t* const handle = sequence.get();
      const uint32_t one = 1;
      hipattn_attend_args_t args = HIPATTN_ATTEND_ARGS_INIT;
      args.num_sequences = 1;
      args.sequences = &handle;
      args.num_new_tokens = &one;
      args.q = results[form].q.data();
      args.k = results[form].k.data();
      args.v = results[form].v.data();
      args.out = results[form].out.data();
      args.lse = results[form].lse.data();
      args.external_blocks = form == 0 ? ordered.data() : shuffled.data();
      args.num_external = 40;
      engine.Attend(args);
    }
    const NaiveResult want =
        naive.Attend(results[0].q.data(), length - 1, [&](uint32_t head, uint64_t t) {
          return t < 32 || t + 48 >= length || picks[head].count(static_cast<int32_t>(t / 16)) != 0;
        });
    ExpectNear(g, results[0], 0, want, 1e-5);
    ExpectSameRows(results[1], results[0]);
  }
}

// T3 for the library's own searches: what a step attends is what hipattn_sequence_selection says.
// The window begins at a block's first token here, so that the blocks say it all.
TEST(Acceptance, T3_AStepAttendsExactlyItsSelection) {
  const Geometry g{4, 2, 64};
  const uint32_t length = 16 * 60 + 32;
  const NaiveLayer naive = NaiveText({.geometry = g}, 6, length);
  const struct {
    uint32_t search, scorer;
  } cases[] = {{HIPATTN_SEARCH_TREE, HIPATTN_SCORER_CUBOID_MEAN},
               {HIPATTN_SEARCH_TREE, HIPATTN_SCORER_MEAN},
               {HIPATTN_SEARCH_TREE, HIPATTN_SCORER_BOUNDS},
               {HIPATTN_SEARCH_TREE, HIPATTN_SCORER_REPRESENTATIVE},
               {HIPATTN_SEARCH_TREE, HIPATTN_SCORER_FIRST},
               {HIPATTN_SEARCH_TREE, HIPATTN_SCORER_LAST},
               {HIPATTN_SEARCH_TREE, HIPATTN_SCORER_EXACT},
               {HIPATTN_SEARCH_FLAT, HIPATTN_SCORER_CUBOID_MEAN}};
  for (const auto& test : cases) {
    SCOPED_TRACE(testing::Message() << "search " << test.search << " scorer " << test.scorer);
    Engine engine(EngineOptionsOf(g));
    hipattn_attention_options_t options = SparseOptions(128, 32, 32);
    options.search = test.search;
    options.scorer = test.scorer;
    options.verify_recall = 1;
    Sequence sequence(engine, options);
    Feed(engine, sequence, g, 6, 0, length - 1);
    const Rows step = Decode(engine, sequence, g, 6, length - 1);
    std::vector<std::set<int32_t>> selected;
    for (uint32_t head = 0; head < g.kv_heads; ++head) {
      const std::vector<int32_t> blocks = sequence.Selection(0, head);
      EXPECT_EQ(blocks.size(), 2U + 8U + 2U) << "sinks, budget, window";
      EXPECT_TRUE(std::is_sorted(blocks.begin(), blocks.end()));
      selected.emplace_back(blocks.begin(), blocks.end());
    }
    const NaiveResult want =
        naive.Attend(step.q.data(), length - 1, [&](uint32_t head, uint64_t t) {
          return selected[head].count(static_cast<int32_t>(t / 16)) != 0;
        });
    ExpectNear(g, step, 0, want, 1e-5);
    const NaiveResult all = naive.AttendAll(step.q.data(), length - 1);
    for (uint32_t h = 0; h < g.q_heads; ++h) {
      const hipattn_recall_t recall = sequence.Recall(0, h);
      EXPECT_EQ(recall.mode, 1U);
      EXPECT_NEAR(recall.truth, std::exp(want.lse[h] - all.lse[h]), 1e-4);
      EXPECT_EQ(std::isnan(recall.estimate), test.scorer != HIPATTN_SCORER_CUBOID_MEAN);
    }
  }
}

// T4: keys and values after a row, in its own chunk, do not reach it.
TEST(Acceptance, T4_RowsDoNotSeeWhatComesAfterThem) {
  const Geometry g{4, 2, 64};
  for (const uint32_t mode : {HIPATTN_PREFILL_DENSE, HIPATTN_PREFILL_HIP}) {
    Engine engine(EngineOptionsOf(g));
    hipattn_attention_options_t options = SparseOptions(64, 16, 96);
    options.prefill_mode = mode;
    Sequence clean(engine, options), poisoned(engine, options);
    Rows a = MakeRows(g, 8, 0, 0, 600);
    Rows b = MakeRows(g, 8, 0, 0, 600);
    // A HIP prefill selects for 64 rows at once, with the queries of all of them: the block's later
    // queries may change, its later keys may not. So poison begins at a block's end.
    const size_t cut = 320;
    for (size_t i = cut * g.kv_row(); i < b.k.size(); ++i) {
      b.k[i] = kNan;
      b.v[i] = kNan;
    }
    for (size_t i = cut * g.q_row(); i < b.q.size(); ++i) {
      b.q[i] = kNan;
    }
    ASSERT_EQ(TryAttend(engine, clean, 0, a, kPrefill), HIPATTN_OK);
    ASSERT_EQ(TryAttend(engine, poisoned, 0, b, kPrefill), HIPATTN_OK);
    EXPECT_EQ(std::memcmp(a.out.data(), b.out.data(), cut * g.q_row() * sizeof(float)), 0);
    EXPECT_EQ(std::memcmp(a.lse.data(), b.lse.data(), cut * g.q_heads * sizeof(float)), 0);
  }
}

TEST(Acceptance, T4_KeysInsideARowsBlockAfterItDoNotReachIt) {
  const Geometry g{4, 2, 64};
  for (const uint32_t mode : {HIPATTN_PREFILL_DENSE, HIPATTN_PREFILL_HIP}) {
    Engine engine(EngineOptionsOf(g));
    hipattn_attention_options_t options = SparseOptions(64, 16, 96);
    options.prefill_mode = mode;
    for (const size_t cut : {330U, 321U, 383U}) {
      Sequence clean(engine, options), poisoned(engine, options);
      Rows a = MakeRows(g, 8, 0, 0, 600);
      Rows b = MakeRows(g, 8, 0, 0, 600);
      for (size_t i = cut * g.kv_row(); i < b.k.size(); ++i) {
        b.k[i] = kNan;
        b.v[i] = kNan;
      }
      ASSERT_EQ(TryAttend(engine, clean, 0, a, kPrefill), HIPATTN_OK);
      ASSERT_EQ(TryAttend(engine, poisoned, 0, b, kPrefill), HIPATTN_OK);
      EXPECT_EQ(std::memcmp(a.out.data(), b.out.data(), cut * g.q_row() * sizeof(float)), 0);
    }
  }
}

// T4: what a block holds beyond the text, NaN of a text that was cut off here, stays outside; so do
// the summaries that were made of it.
TEST(Acceptance, T4_SpaceBeyondTheTextIsNeverRead) {
  const Geometry g{4, 2, 64};
  Engine engine(EngineOptionsOf(g));
  for (const uint32_t cut : {1U, 15U, 16U, 129U, 1030U}) {
    Sequence clean(engine, SparseOptions(64, 16, 16)), poisoned(engine, SparseOptions(64, 16, 16));
    Feed(engine, clean, g, 9, 0, cut);
    Feed(engine, poisoned, g, 9, 0, cut);
    Rows poison = MakeRows(g, 9, 0, cut, 1500);
    std::fill_n(poison.k.data(), poison.k.size(), kNan);
    std::fill_n(poison.v.data(), poison.v.size(), kNan);
    ASSERT_EQ(TryAttend(engine, poisoned, 0, poison, kPrefill), HIPATTN_OK);
    poisoned.Truncate(cut);
    for (uint32_t i = 0; i < 40; ++i) {
      ExpectSameRows(Decode(engine, poisoned, g, 9, cut + i), Decode(engine, clean, g, 9, cut + i));
    }
    ExpectSameRows(Feed(engine, poisoned, g, 9, cut + 40, cut + 240),
                   Feed(engine, clean, g, 9, cut + 40, cut + 240));
  }
}

TEST(Acceptance, T4_OtherSequencesOfTheBatchDoNotMatter) {
  const Geometry g{4, 2, 64};
  Engine engine(EngineOptionsOf(g));
  Sequence alone(engine, SparseOptions(64, 16, 16)), mine(engine, SparseOptions(64, 16, 16)),
      other(engine);
  Feed(engine, alone, g, 10, 0, 500);
  Feed(engine, mine, g, 10, 0, 500);
  Rows poison = MakeRows(g, 11, 0, 0, 300);
  std::fill_n(poison.k.data(), poison.k.size(), kNan);
  ASSERT_EQ(TryAttend(engine, other, 0, poison, kPrefill), HIPATTN_OK);
  for (uint64_t p = 500; p < 530; ++p) {
    const Rows want = Decode(engine, alone, g, 10, p);
    Rows rows(g, 2);
    const Rows first = MakeRows(g, 10, 0, p, 1);
    for (const auto& [to, from] :
         {std::pair{&rows.q, &first.q}, {&rows.k, &first.k}, {&rows.v, &first.v}}) {
      std::copy_n(from->data(), from->size(), to->data() + from->size());  // the second row
      std::fill_n(to->data(), from->size(), kNan);
    }
    hipattn_sequence_t* const handles[] = {other.get(), mine.get()};
    const uint32_t counts[] = {1, 1};
    engine.Attend<float>(0,
                         handles,
                         counts,
                         {.q = std::as_const(rows.q).span(),
                          .k = std::as_const(rows.k).span(),
                          .v = std::as_const(rows.v).span(),
                          .out = rows.out.span(),
                          .lse = rows.lse.span()});
    EXPECT_EQ(std::memcmp(rows.out.data() + g.q_row(), want.out.data(), g.q_row() * sizeof(float)),
              0);
  }
}

// T5: position extension changes nothing below the trained length (the published code fails this).
TEST(Acceptance, T5_BelowTheTrainedLengthExtensionChangesNothing) {
  const Geometry g{4, 2, 64};
  for (const uint32_t search : {HIPATTN_SEARCH_STAGED, HIPATTN_SEARCH_BEAM}) {
    hipattn_engine_options_t engine_options = EngineOptionsOf(g);
    engine_options.rope_mode = 1;
    engine_options.rope_theta = 10000.0F;
    Engine off(engine_options);
    engine_options.trained_tokens = 2048;
    Engine on(engine_options);
    hipattn_attention_options_t options = SparseOptions(64, 16, 64);
    options.search = search;
    Sequence without(off, options), with(on, options);
    Feed(off, without, g, 12, 0, 1000);
    Feed(on, with, g, 12, 0, 1000);
    for (uint64_t p = 1000; p < 1020; ++p) {
      const Rows want = Decode(off, without, g, 12, p);
      const Rows got = Decode(on, with, g, 12, p);
      const std::vector<double> want_out(want.out.data(), want.out.data() + want.out.size());
      // Keys are stored un-rotated with extension: the same angles, rounded once instead of twice.
      EXPECT_LE(RelativeError(got.out.data(), want_out, g.head_dim), 1e-5);
      for (uint32_t head = 0; head < g.kv_heads; ++head) {
        EXPECT_EQ(with.Selection(0, head), without.Selection(0, head)) << "position " << p;
      }
    }
  }
}

TEST(Acceptance, T5_TheTreeRefusesTheFirstTokenAtTheTrainedLength) {
  const Geometry g{4, 2, 64};
  hipattn_engine_options_t engine_options = EngineOptionsOf(g);
  engine_options.rope_mode = 1;
  engine_options.rope_theta = 10000.0F;
  engine_options.trained_tokens = 100;
  Engine engine(engine_options);
  Sequence sequence(engine);
  Feed(engine, sequence, g, 12, 0, 100);
  Rows next = MakeRows(g, 12, 0, 100, 1);
  EXPECT_EQ(TryAttend(engine, sequence, 0, next, kDecode), HIPATTN_UNSUPPORTED);
  EXPECT_EQ(next.out[0], Rows::kUnset);
  EXPECT_EQ(sequence.length(), 100U);
}

// T6: a text that sinks and window cover needs no search.
TEST(Acceptance, T6_ShortTextsAreNotSearched) {
  const Geometry g{4, 2, 64};
  for (const uint32_t search :
       {HIPATTN_SEARCH_TREE, HIPATTN_SEARCH_FLAT, HIPATTN_SEARCH_STAGED, HIPATTN_SEARCH_BEAM}) {
    Engine engine(EngineOptionsOf(g));
    hipattn_attention_options_t options = SparseOptions(16, 64, 128);
    options.search = search;
    Sequence sequence(engine, options);
    NaiveLayer naive({.geometry = g});
    for (uint64_t p = 0; p < 192; ++p) {
      const Rows step = Decode(engine, sequence, g, 13, p);
      naive.Append(step.k.data(), step.v.data(), 1);
      if (p % 17 == 0 || p == 191) {
        ExpectNear(g, step, 0, naive.AttendAll(step.q.data(), p), 1e-5);
      }
    }
    EXPECT_EQ(engine.Stats().search_keys_read, 0U) << "search " << search;
  }
}

// T7: lengths of a batch may differ, down to a first token; nothing is ever NaN.
TEST(Acceptance, T7_MixedLengthsInOneBatch) {
  const Geometry g{4, 2, 64};
  Engine engine(EngineOptionsOf(g));
  const uint64_t lengths[] = {0, 1, 15, 16, 100, 700};
  std::vector<Sequence> sequences;
  std::vector<hipattn_sequence_t*> handles;
  std::vector<uint32_t> counts;
  Rows batch(g, 12);
  for (uint32_t i = 0; i < 6; ++i) {
    sequences.emplace_back(engine, SparseOptions(32, 0, 16));
    handles.push_back(sequences.back().get());
    Feed(engine, sequences.back(), g, 20 + i, 0, lengths[i]);
    counts.push_back(i % 3 + 1);
  }
  uint64_t row = 0;
  for (uint32_t i = 0; i < 6; ++i) {
    const Rows rows = MakeRows(g, 20 + i, 0, lengths[i], counts[i]);
    std::copy_n(rows.q.data(), rows.q.size(), batch.q.data() + row * g.q_row());
    std::copy_n(rows.k.data(), rows.k.size(), batch.k.data() + row * g.kv_row());
    std::copy_n(rows.v.data(), rows.v.size(), batch.v.data() + row * g.kv_row());
    row += counts[i];
  }
  for (const uint32_t phase : {kByLength, kDecode, kPrefill}) {
    std::vector<Sequence> forks;
    std::vector<hipattn_sequence_t*> fork_handles;
    for (uint32_t i = 0; i < 6; ++i) {
      forks.push_back(sequences[i].Fork(lengths[i]));
      fork_handles.push_back(forks.back().get());
    }
    engine.Attend<float>(0,
                         fork_handles,
                         counts,
                         {.q = std::as_const(batch.q).span(),
                          .k = std::as_const(batch.k).span(),
                          .v = std::as_const(batch.v).span(),
                          .out = batch.out.span(),
                          .lse = batch.lse.span()},
                         phase);
    for (size_t i = 0; i < batch.out.size(); ++i) {
      ASSERT_TRUE(std::isfinite(batch.out[i])) << i;
    }
    // A first token sees itself alone: its output is its value.
    for (uint32_t h = 0; h < g.q_heads; ++h) {
      for (uint32_t d = 0; d < g.head_dim; ++d) {
        EXPECT_NEAR(batch.out[h * g.head_dim + d], batch.v[h / g.group() * g.head_dim + d], 1e-6);
      }
    }
  }
}

// T9: one row is the same whether a decode or a prefill kernel attends it.
TEST(Acceptance, T9_DecodeAndPrefillAgreeOnASingleQuery) {
  for (const Geometry g : {Geometry{2, 2, 64}, {8, 2, 64}, {16, 2, 128}, {8, 1, 96}, {9, 3, 64}}) {
    for (const uint32_t length : {1U, 17U, 500U}) {
      Engine engine(EngineOptionsOf(g));
      Sequence decode(engine, SparseOptions(4096, 16, 16)),
          prefill(engine, SparseOptions(4096, 16, 16));
      Feed(engine, decode, g, 14, 0, length - 1);
      Feed(engine, prefill, g, 14, 0, length - 1);
      const Rows a = Decode(engine, decode, g, 14, length - 1);
      const Rows b = Feed(engine, prefill, g, 14, length - 1, length);
      const std::vector<double> want(a.out.data(), a.out.data() + a.out.size());
      EXPECT_LE(RelativeError(b.out.data(), want, g.head_dim), 1e-5);
    }
  }
}

// T9: the q heads of a group share one selection, each kv head has its own.
TEST(Acceptance, T9_SelectionsArePerKvHead) {
  const Geometry g{8, 4, 64};
  Engine engine(EngineOptionsOf(g));
  Sequence sequence(engine, SparseOptions(64, 16, 16));
  Feed(engine, sequence, g, 15, 0, 2000);
  Decode(engine, sequence, g, 15, 2000);
  std::set<std::vector<int32_t>> distinct;
  for (uint32_t head = 0; head < g.kv_heads; ++head) {
    distinct.insert(sequence.Selection(0, head));
  }
  EXPECT_EQ(distinct.size(), g.kv_heads);
}

}  // namespace
}  // namespace hipattn::test
