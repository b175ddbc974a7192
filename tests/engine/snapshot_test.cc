// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Snapshots of running texts: after a load every step gives the bits that it gives without, and the
// loaded text is saved to the same file again.
#include "tests/engine/engine_fixture.h"
#include "tests/support/temporary_folder.h"

#include <functional>

namespace hipattn::test {
namespace {

constexpr uint32_t kLayers = 2;
const Geometry kGeometry;

std::span<const std::byte> Fingerprint() {
  static const std::string text = "a model and its text";
  return std::as_bytes(std::span(text));
}

// An engine with a text, and what the text is fed with.
struct Setting {
  std::string name;
  hipattn_engine_options_t engine = EngineOptionsOf(kGeometry, HIPATTN_BF16, kLayers, 2);
  hipattn_attention_options_t attention = SparseOptions(128, 16, 64);
  uint64_t prompt = 700;
  uint32_t steps = 5;
};

hipattn_attention_options_t Sketched() {
  hipattn_attention_options_t options = SparseOptions(64, 16, 64);
  options.rerank_tokens = 128;
  options.audit_interval = 3;
  options.max_scanned_heads = 1;
  return options;
}

Setting With(std::string name, const std::function<void(Setting*)>& change) {
  Setting setting;
  setting.name = std::move(name);
  change(&setting);
  return setting;
}

std::vector<Setting> DTypeSettings() {
  std::vector<Setting> settings;
  for (const uint32_t dtype : {HIPATTN_F32, HIPATTN_F16, HIPATTN_BF16}) {
    for (const uint32_t block_tokens : {16U, 64U}) {
      settings.push_back(
          With("kv_dtype" + std::to_string(dtype) + "_block" + std::to_string(block_tokens),
               [&](Setting* s) {
                 s->engine.kv_dtype = dtype;
                 s->engine.block_tokens = block_tokens;
               }));
    }
  }
  return settings;
}

std::vector<Setting> SearchSettings() {
  std::vector<Setting> settings;
  for (const uint32_t search :
       {HIPATTN_SEARCH_TREE, HIPATTN_SEARCH_STAGED, HIPATTN_SEARCH_FLAT, HIPATTN_SEARCH_BEAM}) {
    for (const uint32_t steps : {0U, 1U, 5U, 6U, 9U}) {
      settings.push_back(With(
          "search" + std::to_string(search) + "_steps" + std::to_string(steps), [&](Setting* s) {
            s->attention.search = search;
            // Keeps selections, of all stages, over the save.
            s->attention.refresh_interval = search == HIPATTN_SEARCH_STAGED ? 0 : 4;
            s->steps = steps;
          }));
    }
  }
  for (const uint32_t scorer : {HIPATTN_SCORER_MEAN,
                                HIPATTN_SCORER_EXACT,
                                HIPATTN_SCORER_BOUNDS,
                                HIPATTN_SCORER_REPRESENTATIVE}) {
    settings.push_back(
        With("scorer" + std::to_string(scorer), [&](Setting* s) { s->attention.scorer = scorer; }));
  }
  return settings;
}

std::vector<Setting> OtherSettings() {
  std::vector<Setting> settings = {
      With("defaults", [](Setting* s) { s->attention = HIPATTN_ATTENTION_OPTIONS_INIT; }),
      With("dense", [](Setting* s) { s->attention.decode_mode = HIPATTN_DECODE_DENSE; }),
      With("sketches", [](Setting* s) { s->attention = Sketched(); }),
      With("sketches_late",
           [](Setting* s) {
             s->attention = Sketched();
             s->attention.refresh_interval = 3;
             s->prompt = 1500;
             s->steps = 20;
           }),
      // Dense steps follow with the index eight blocks at a time.
      With("index_behind",
           [](Setting* s) {
             s->attention = Sketched();
             s->attention.decode_mode = HIPATTN_DECODE_AUTO;
             s->attention.dense_up_to_tokens = 760;
             s->steps = 45;
           }),
      With("no_sinks", [](Setting* s) { s->attention.sink_tokens = HIPATTN_NONE; }),
      With("min_recall",
           [](Setting* s) {
             s->attention.min_recall = 0.9F;
             s->attention.refresh_interval = 2;
           }),
      With("verify_recall", [](Setting* s) { s->attention.verify_recall = 1; }),
      With("prefill_hip",
           [](Setting* s) {
             s->attention.prefill_mode = HIPATTN_PREFILL_HIP;
             s->attention.window_tokens = 80;
           }),
      With("prefill_lines",
           [](Setting* s) { s->attention.prefill_mode = HIPATTN_PREFILL_VERTICAL_SLASH; }),
      With("prefill_flash",
           [](Setting* s) { s->attention.prefill_mode = HIPATTN_PREFILL_FLASH_V2; }),
      With("rope",
           [](Setting* s) {
             s->engine.rope_mode = 1;
             s->engine.rope_theta = 10000.0F;
             s->engine.rope_theta = 10000.0F;
           }),
      // More than a node of 8192 tokens: open nodes above it come from kept vectors.
      With("long",
           [](Setting* s) {
             s->attention = Sketched();
             s->prompt = 8192 + 8192 / 2 + 77;
             s->steps = 3;
           }),
  };
  for (const uint32_t search : {HIPATTN_SEARCH_STAGED, HIPATTN_SEARCH_BEAM}) {
    settings.push_back(With("unrotated" + std::to_string(search), [&](Setting* s) {
      s->engine.rope_mode = 1;
      s->engine.rope_theta = 10000.0F;
      s->engine.trained_tokens = 300;
      s->attention.search = search;
    }));
  }
  for (const uint64_t prompt : {0U, 1U, 15U, 16U, 17U, 127U, 128U, 1024U}) {
    settings.push_back(With("prompt" + std::to_string(prompt), [&](Setting* s) {
      s->attention = Sketched();
      s->prompt = prompt;
      s->steps = prompt == 0 ? 0 : 1;
    }));
  }
  return settings;
}

std::vector<Setting> AllSettings() {
  std::vector<Setting> all = DTypeSettings();
  for (const std::vector<Setting>& more : {SearchSettings(), OtherSettings()}) {
    all.insert(all.end(), more.begin(), more.end());
  }
  return all;
}

void DecodeAll(Engine& engine, Sequence& sequence, uint64_t position) {
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    Decode(engine, sequence, kGeometry, 1, position, layer);
  }
}

void ExpectSameText(const Sequence& got, const Sequence& want) {
  EXPECT_EQ(got.length(), want.length());
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    for (uint32_t head = 0; head < kGeometry.kv_heads; ++head) {
      EXPECT_EQ(got.Selection(layer, head), want.Selection(layer, head));
    }
    for (uint32_t head = 0; head < kGeometry.q_heads; ++head) {
      const hipattn_recall_t a = got.Recall(layer, head);
      const hipattn_recall_t b = want.Recall(layer, head);
      EXPECT_EQ(std::memcmp(&a, &b, sizeof(a)), 0)
          << layer << ", " << head << ": " << a.estimate << " and " << b.estimate;
    }
  }
}

struct Text {
  Engine* engine;
  Sequence* sequence;
};

// Steps, a chunk, a cut and steps again give the same bits in both.
void ExpectSameFuture(const Text& got, const Text& want) {
  uint64_t position = want.sequence->length();
  const auto step = [&](uint64_t at, uint32_t phase, uint64_t count) {
    for (uint32_t layer = 0; layer < kLayers; ++layer) {
      Rows a = MakeRows(kGeometry, 1, layer, at, count);
      Rows b = MakeRows(kGeometry, 1, layer, at, count);
      ASSERT_EQ(TryAttend(*got.engine, *got.sequence, layer, a, phase), HIPATTN_OK)
          << hipattn_last_error_message();
      ASSERT_EQ(TryAttend(*want.engine, *want.sequence, layer, b, phase), HIPATTN_OK);
      ExpectSameRows(a, b);
    }
    ExpectSameText(*got.sequence, *want.sequence);
  };
  for (uint32_t i = 0; i < 18; ++i) {
    step(position++, kDecode, 1);
  }
  step(position, kPrefill, 70);
  position += 70;
  step(position++, kDecode, 1);
  position -= 40;
  got.sequence->Truncate(position);
  want.sequence->Truncate(position);
  step(position++, kDecode, 1);
  step(position, kDecode, 1);
}

class SnapshotOf : public testing::TestWithParam<Setting> {};

TEST_P(SnapshotOf, ATextGoesOnBitForBit) {
  const Setting& setting = GetParam();
  const TemporaryFolder folder;
  Engine engine(setting.engine);
  Sequence text(engine, setting.attention);
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    Feed(engine, text, kGeometry, 1, 0, setting.prompt, {400, layer});
  }
  for (uint32_t step = 0; step < setting.steps; ++step) {
    DecodeAll(engine, text, setting.prompt + step);
  }
  text.Save(folder.Path("text"), Fingerprint());
  EXPECT_EQ(folder.NumFiles(), 1U);

  hipattn_engine_options_t other = setting.engine;
  other.num_threads = 1;
  Engine elsewhere(other);
  Sequence loaded = Sequence::Load(elsewhere, folder.Path("text"), Fingerprint());
  ExpectSameText(loaded, text);
  EXPECT_EQ(elsewhere.Stats().scanned_heads, engine.Stats().scanned_heads);
  loaded.Save(folder.Path("again"), Fingerprint());
  EXPECT_EQ(FileBytes(folder.Path("again")) == FileBytes(folder.Path("text")), true)
      << "the same text is the same file";
  ExpectSameFuture({&elsewhere, &loaded}, {&engine, &text});
}

INSTANTIATE_TEST_SUITE_P(Settings,
                         SnapshotOf,
                         testing::ValuesIn(AllSettings()),
                         [](const auto& test) { return test.param.name; });

// Layers, as after a call that some of them missed.
TEST(Snapshot, LayersOfDifferentLengths) {
  const TemporaryFolder folder;
  const hipattn_engine_options_t options = EngineOptionsOf(kGeometry, HIPATTN_F16, kLayers);
  Engine engine(options);
  Sequence text(engine, Sketched());
  Feed(engine, text, kGeometry, 1, 0, 500, {500, 0});
  Feed(engine, text, kGeometry, 1, 0, 333, {333, 1});
  Decode(engine, text, kGeometry, 1, 500, 0);
  text.Save(folder.Path("text"), Fingerprint());
  Sequence loaded = Sequence::Load(engine, folder.Path("text"), Fingerprint());
  EXPECT_EQ(loaded.length(), 333U);
  ExpectSameText(loaded, text);
  for (Sequence* sequence : {&text, &loaded}) {
    Feed(engine, *sequence, kGeometry, 1, 333, 501, {168, 1});
  }
  ExpectSameFuture({&engine, &loaded}, {&engine, &text});
}

// What two texts share is in the file of each.
TEST(Snapshot, ForksAndCutTexts) {
  const TemporaryFolder folder;
  const hipattn_engine_options_t options = EngineOptionsOf(kGeometry, HIPATTN_BF16, kLayers);
  Engine engine(options);
  Sequence text(engine, Sketched());
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    Feed(engine, text, kGeometry, 1, 0, 1000, {1000, layer});
  }
  Sequence fork = text.Fork(777);
  fork.Save(folder.Path("fork"), Fingerprint());
  Sequence untouched = Sequence::Load(engine, folder.Path("fork"), Fingerprint());
  DecodeAll(engine, fork, 777);
  fork.Save(folder.Path("fork"), Fingerprint());
  text.Truncate(650);
  text.Save(folder.Path("cut"), Fingerprint());
  Sequence loaded_fork = Sequence::Load(engine, folder.Path("fork"), Fingerprint());
  Sequence loaded_cut = Sequence::Load(engine, folder.Path("cut"), Fingerprint());
  DecodeAll(engine, untouched, 777);
  ExpectSameText(untouched, fork);
  ExpectSameFuture({&engine, &loaded_fork}, {&engine, &fork});
  ExpectSameFuture({&engine, &loaded_cut}, {&engine, &text});
}

// Options that keep no index leave the one of earlier options behind, which is not saved.
TEST(Snapshot, OptionsThatChangedOnTheWay) {
  const TemporaryFolder folder;
  Engine engine(EngineOptionsOf(kGeometry, HIPATTN_BF16, kLayers));
  Sequence text(engine, Sketched());
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    Feed(engine, text, kGeometry, 1, 0, 1000, {1000, layer});
  }
  hipattn_attention_options_t dense = Sketched();
  dense.decode_mode = HIPATTN_DECODE_DENSE;
  dense.rerank_tokens = 0;
  dense.audit_interval = 0;
  dense.max_scanned_heads = 0;
  text.SetOptions(dense);
  DecodeAll(engine, text, 1000);
  text.Save(folder.Path("text"), Fingerprint());
  Sequence loaded = Sequence::Load(engine, folder.Path("text"), Fingerprint());
  ExpectSameText(loaded, text);
  for (Sequence* sequence : {&text, &loaded}) {
    DecodeAll(engine, *sequence, 1001);
    sequence->SetOptions(Sketched());
  }
  ExpectSameFuture({&engine, &loaded}, {&engine, &text});
}

TEST(Snapshot, ASaveChangesNothingAndReplacesTheEarlierFile) {
  const TemporaryFolder folder;
  const hipattn_engine_options_t options = EngineOptionsOf(kGeometry, HIPATTN_BF16, kLayers);
  Engine engine(options);
  Sequence saved(engine, Sketched());
  Sequence never(engine, Sketched());
  for (Sequence* sequence : {&saved, &never}) {
    for (uint32_t layer = 0; layer < kLayers; ++layer) {
      Feed(engine, *sequence, kGeometry, 1, 0, 600, {600, layer});
    }
    DecodeAll(engine, *sequence, 600);
  }
  saved.Save(folder.Path("text"), Fingerprint());
  const hipattn_stats_t before = engine.Stats();
  saved.Save(folder.Path("text"), Fingerprint());
  EXPECT_EQ(engine.Stats().device_bytes, before.device_bytes);
  EXPECT_EQ(folder.NumFiles(), 1U);
  ExpectSameFuture({&engine, &saved}, {&engine, &never});
  saved.Save(folder.Path("text"), Fingerprint());
  const Sequence loaded = Sequence::Load(engine, folder.Path("text"), Fingerprint());
  EXPECT_EQ(loaded.length(), saved.length());
}

TEST(Snapshot, MovesTheOptionsAndNoReservation) {
  const TemporaryFolder folder;
  Engine engine(EngineOptionsOf(kGeometry, HIPATTN_BF16, kLayers));
  Sequence text(engine, SparseOptions(128, 16, 64));
  const uint64_t empty_bytes = engine.Stats().device_bytes;
  text.Reserve(5000);
  text.Save(folder.Path("text"), {});
  text = Sequence::Load(engine, folder.Path("text"), {});
  EXPECT_EQ(engine.Stats().device_bytes, empty_bytes);
  Sequence fixed = Sequence::Load(engine, folder.Path("text"), {});
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    Feed(engine, fixed, kGeometry, 1, 0, 400, {400, layer});
  }
  hipattn_attention_options_t flat = SparseOptions(128, 16, 64);
  flat.search = HIPATTN_SEARCH_FLAT;
  EXPECT_EQ(hipattn_sequence_set_options(fixed.get(), &flat), HIPATTN_INVALID_ARGUMENT)
      << "its search was TREE";
}

}  // namespace
}  // namespace hipattn::test
