// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "tests/golden/engine_checks.h"

#include "engine/engine.h"
#include "engine/select.h"
#include "tests/golden/expect.h"
#include "tests/support/compare.h"

#include <algorithm>
#include <iterator>
#include <memory>
#include <string>

namespace hipattn::golden {
namespace {

// Blocks that hold the keys of a beam or staged search, whose own blocks are others.
constexpr uint32_t kProbeStorage = 16;

// The engine's first layers search past the trained length by streaming, this one relatively.
constexpr uint32_t kRelativeLayer = 3;

engine::Search SearchOf(const GoldenCase& golden) {
  const std::string name = golden.Text("search");
  return name == "beam"     ? engine::Search::kBeam
         : name == "staged" ? engine::Search::kStaged
                            : engine::Search::kTree;
}

// Whether no step of a staged search leaves anything out.
bool KeepsAll(const GoldenCase& golden) {
  const auto tokens = golden.Input("k").shape[0];
  const core::StagedConfig config = StagedOf(golden);
  return std::all_of(config.stages.begin(), config.stages.end(), [&](const core::Stage& stage) {
    return stage.keep_tokens >= tokens;
  });
}

// The budget and the intervals are all that the engine's options say of a staged search.
bool HasPresetStages(const GoldenCase& golden) {
  const core::StagedConfig config = StagedOf(golden);
  engine::AttentionOptions options;
  options.budget_tokens = config.stages.back().keep_tokens;
  const core::StagedConfig preset = engine::StagedConfigOf(options, false);
  return std::equal(config.stages.begin(),
                    config.stages.end(),
                    preset.stages.begin(),
                    preset.stages.end(),
                    [](const core::Stage& a, const core::Stage& b) {
                      return a.block_q == b.block_q && a.query_stride == b.query_stride &&
                             a.chunk_tokens == b.chunk_tokens && a.keep_tokens == b.keep_tokens;
                    });
}

bool EngineRunsStaged(const GoldenCase& golden) {
  const std::vector<uint32_t> intervals = golden.Counts("intervals");
  return std::equal(intervals.begin(),
                    intervals.end(),
                    std::begin(engine::kStagedIntervals),
                    std::end(engine::kStagedIntervals)) &&
         (KeepsAll(golden) || HasPresetStages(golden));
}

// One layer of one sequence that has read a text's first tokens.
class EngineText {
 public:
  EngineText(const GoldenCase& golden, const Machine& machine)
      : q_(golden.Input("q")), k_(golden.Input("k")), v_(golden.Input("v")) {
    const engine::Search search = SearchOf(golden);
    const bool is_tree = search == engine::Search::kTree;
    const RopeSettings rope = RopeOf(golden);
    const core::Extension extension = ExtensionOf(golden);
    const bool is_relative = extension.mode == core::ScanMode::kRelative;
    layer_ = extension.trained_tokens > 0 && is_relative ? kRelativeLayer : golden.Count("layer");
    engine::EngineOptions options;
    options.num_threads = 2;
    options.num_layers = layer_ + 1;
    options.num_q_heads = static_cast<uint32_t>(q_.shape[1]);
    options.num_kv_heads = static_cast<uint32_t>(k_.shape[1]);
    options.head_dim = static_cast<uint32_t>(k_.shape[2]);
    options.block_tokens = is_tree ? golden.Count("block_tokens") : kProbeStorage;
    options.io_dtype = static_cast<uint32_t>(DType::kF32);
    options.kv_dtype = static_cast<uint32_t>(machine.kv_dtype);
    options.softmax_scale = static_cast<float>(golden.Number("scale"));
    options.rope_mode = static_cast<uint32_t>(rope.layout);
    options.rope_dim = golden.Count("rope_dim");
    options.rope_theta = static_cast<float>(golden.Number("rope_base", 0.0));
    options.trained_tokens = extension.trained_tokens;
    options.device_kv_bytes = uint64_t{64} << 20;
    engine::AttentionOptions attention;
    attention.decode_mode = static_cast<uint32_t>(engine::DecodeMode::kSparse);
    attention.search = static_cast<uint32_t>(search);
    attention.scorer = static_cast<uint32_t>(is_tree ? ScorerOf(golden) : Scorer::kRepresentative);
    attention.budget_tokens = search == engine::Search::kStaged
                                  ? StagedOf(golden).stages.back().keep_tokens
                                  : golden.Count("budget_tokens");
    attention.sink_tokens =
        golden.Int("sink_tokens") == 0 ? engine::kNone : golden.Count("sink_tokens");
    attention.window_tokens = golden.Count("window_tokens");
    attention.rerank_tokens = engine::kNone;
    attention.refresh_interval =
        is_tree ? golden.Count("interval", 1) : golden.Counts("intervals")[0];
    Create(options, attention, machine.table->name);
  }

  // Appends `count` tokens.
  void Read(uint32_t count) { Attend(nullptr, count, engine::Phase::kByLength, nullptr, nullptr); }

  // One decode step with row `row` of q.
  void Step(uint32_t row, Outputs* outputs) {
    const size_t heads = row * q_.shape[1];
    Attend(q_.floats.data() + heads * q_.shape[2],
           1,
           engine::Phase::kDecode,
           outputs->out.data() + heads * q_.shape[2],
           outputs->lse.data() + heads);
  }

  // The blocks that the last step attended, per kv head.
  Lists Selection() const {
    Lists blocks;
    for (uint32_t head = 0; head < k_.shape[1]; ++head) {
      Result<std::vector<int32_t>> selection = sequence_->Selection(layer_, head);
      EXPECT_TRUE(selection.ok()) << selection.status().message();
      blocks.push_back(selection.ok() ? selection.value() : std::vector<int32_t>());
    }
    return blocks;
  }

  // Of all q heads.
  std::vector<float> Recalls() const {
    std::vector<float> recalls;
    for (uint32_t head = 0; head < q_.shape[1]; ++head) {
      Result<engine::Recall> recall = sequence_->GetRecall(layer_, head);
      EXPECT_TRUE(recall.ok()) << recall.status().message();
      recalls.push_back(recall.ok() ? recall.value().estimate : 0.0F);
    }
    return recalls;
  }

 private:
  void Create(const engine::EngineOptions& options,
              const engine::AttentionOptions& attention,
              const char* instruction_set) {
    const auto engine_options = engine::ResolveEngineOptions(options);
    ASSERT_TRUE(engine_options.ok()) << engine_options.status().message();
    auto created = engine::Engine::Create(engine_options.value(), instruction_set);
    ASSERT_TRUE(created.ok()) << created.status().message();
    engine_ = created.value();
    const auto attention_options = engine::ResolveAttentionOptions(engine_->options(), attention);
    ASSERT_TRUE(attention_options.ok()) << attention_options.status().message();
    auto sequence = engine::Sequence::Create(engine_, attention_options.value());
    ASSERT_TRUE(sequence.ok()) << sequence.status().message();
    sequence_ = std::move(sequence.value());
  }

  void Attend(const float* q, uint32_t num_tokens, engine::Phase phase, float* out, float* lse) {
    ASSERT_NE(sequence_, nullptr);
    engine::Sequence* const sequences[] = {sequence_.get()};
    const uint32_t counts[] = {num_tokens};
    const size_t first = size_t{read_} * k_.shape[1] * k_.shape[2];
    engine::AttendArgs args;
    args.layer = layer_;
    args.sequences = sequences;
    args.num_new_tokens = counts;
    args.q = q;
    args.k = k_.floats.data() + first;
    args.v = v_.floats.data() + first;
    args.out = out;
    args.lse = lse;
    args.phase = phase;
    const Status status = engine_->Attend(args);
    ASSERT_TRUE(status.ok()) << status.message();
    read_ += num_tokens;
  }

  const Array& q_;
  const Array& k_;
  const Array& v_;
  uint32_t layer_ = 0;
  uint32_t read_ = 0;
  std::shared_ptr<engine::Engine> engine_;
  std::unique_ptr<engine::Sequence> sequence_;
};

}  // namespace

bool EngineRuns(const GoldenCase& golden) {
  if (golden.op() == "decode") {
    if (SearchOf(golden) == engine::Search::kStaged) {
      return EngineRunsStaged(golden);
    }
    return golden.Int("block_tokens") == 2 && golden.Int("leaf_tokens") == 2 &&
           golden.Int("key_stride") == 1 && golden.Text("representative") == "center" &&
           golden.Counts("intervals").size() == 1 && golden.Text("rope_layout", "none") == "none";
  }
  // Rows of one step each: prefill has query blocks of another size in the engine.
  const bool steps = golden.op() == "tree_decode" || golden.Input("q").shape[0] == 1;
  return steps && golden.Count("block_q", 1) == 1 && ScorerOf(golden) != Scorer::kExact;
}

bool EngineHasTheRulesOf(const GoldenCase& golden) {
  if (golden.op() == "decode") {
    return true;
  }
  const int64_t hi = golden.Int("first_pos") + static_cast<int64_t>(golden.Input("q").shape[0]);
  const bool scores_nothing = hi <= golden.Int("budget_tokens");
  return scores_nothing || (FormOf(golden) == core::SummaryForm::kInt8 && golden.Int("beam") == 0);
}

void CheckThroughEngine(const GoldenCase& golden,
                        const Machine& machine,
                        const Outputs& want,
                        const Lists& want_attended) {
  EngineText text(golden, machine);
  const Array& q = golden.Input("q");
  if (golden.Int("first_pos") > 0) {
    text.Read(golden.Count("first_pos"));
  }
  Outputs got(q);
  Lists got_blocks;
  for (uint32_t row = 0; row < q.shape[0]; ++row) {
    text.Step(row, &got);
    const Lists blocks = text.Selection();
    got_blocks.insert(got_blocks.end(), blocks.begin(), blocks.end());
  }
  EXPECT_EQ(got_blocks, want_attended) << "the engine's selection";
  EXPECT_TRUE(testing::SameBits(got.out, want.out)) << "the engine's out";
  EXPECT_TRUE(testing::SameBits(got.lse, want.lse)) << "the engine's lse";
  if (EngineHasTheRulesOf(golden)) {
    ExpectFloats(golden, "out", got.out, machine.narrow());
    ExpectLse(golden, "lse", got.lse, machine.narrow());
    if (golden.Expects("recall")) {
      ExpectFloats(golden, "recall", text.Recalls(), machine.narrow());
    }
  }
}

}  // namespace hipattn::golden
