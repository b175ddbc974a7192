// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "head_attention.h"

#include "core/mask/prefill_shape.h"
#include "llama_forward.h"

namespace pattern_search {
namespace {

using hipattn::core::HeadPattern;
using hipattn::core::PatternType;
using hipattn_run::CheckHipattn;

hipattn_attention_options_t OptionsFor(const std::optional<HeadPattern>& pattern) {
  hipattn_attention_options_t options = HIPATTN_ATTENTION_OPTIONS_INIT;
  options.rerank_tokens = HIPATTN_NONE;  // nothing is decoded: no sketches
  options.prefill_mode = HIPATTN_PREFILL_DENSE;
  if (pattern) {
    options.prefill_mode = PrefillModeOf(pattern->type);
    options.prefill_sizes[0] = pattern->a;
    options.prefill_sizes[1] = pattern->b;
  }
  return options;
}

}  // namespace

uint32_t PrefillModeOf(PatternType type) {
  return type == PatternType::kAShape          ? HIPATTN_PREFILL_A_SHAPE
         : type == PatternType::kVerticalSlash ? HIPATTN_PREFILL_VERTICAL_SLASH
                                               : HIPATTN_PREFILL_BLOCK_SPARSE;
}

Result<HeadAttention> HeadAttention::Create(const LlamaModel& model) {
  hipattn_engine_options_t options = hipattn_run::MakeEngineOptions(model);
  options.num_layers = 1;
  options.num_q_heads = 1;
  options.num_kv_heads = 1;
  options.num_threads = 1;
  Result<hipattn_run::Engine> engine = hipattn_run::CreateEngine(options);
  if (!engine.ok()) {
    return engine.status();
  }
  Result<hipattn_run::Sequence> sequence =
      hipattn_run::CreateSequence(engine.value(), OptionsFor(std::nullopt));
  if (!sequence.ok()) {
    return sequence.status();
  }
  return HeadAttention(
      std::move(engine.value()), std::move(sequence.value()), model.config.head_dim);
}

Result<Attended> HeadAttention::Run(const HeadInput& input,
                                    const std::optional<HeadPattern>& pattern) {
  const auto tokens = static_cast<uint32_t>(input.q.size() / head_dim_);
  const hipattn_attention_options_t options = OptionsFor(pattern);
  hipattn_sequence_t* const sequence = sequence_.get();
  Attended attended;
  attended.out.resize(input.q.size());
  attended.lse.resize(tokens);
  hipattn_attend_args_t args = HIPATTN_ATTEND_ARGS_INIT;
  args.num_sequences = 1;
  args.sequences = &sequence;
  args.num_new_tokens = &tokens;
  args.q = input.q.data();
  args.k = input.k.data();
  args.v = input.v.data();
  args.out = attended.out.data();
  args.lse = attended.lse.data();
  args.phase = static_cast<uint32_t>(hipattn_run::Phase::kPrefill);
  Status status = CheckHipattn(hipattn_sequence_truncate(sequence, 0), "empty the sequence");
  if (status.ok()) {
    status =
        CheckHipattn(hipattn_sequence_set_options(sequence, &options), "set a pattern's options");
  }
  if (status.ok()) {
    status = hipattn_run::ReadStats(engine_, true).status();
  }
  if (status.ok()) {
    status = CheckHipattn(hipattn_attend(engine_.get(), &args), "attend");
  }
  if (!status.ok()) {
    return status;
  }
  const Result<hipattn_stats_t> stats = hipattn_run::ReadStats(engine_, false);
  if (!stats.ok()) {
    return stats.status();
  }
  attended.dense_tiles = hipattn::core::CausalTiles({tokens, tokens});
  attended.tiles = pattern ? stats.value().prefill_tiles : attended.dense_tiles;
  attended.select_ns = static_cast<double>(stats.value().search_ns);
  attended.attend_ns = static_cast<double>(stats.value().attend_ns);
  return attended;
}

}  // namespace pattern_search
