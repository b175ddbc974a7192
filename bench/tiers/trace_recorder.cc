// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "trace_recorder.h"

#include "fingerprint.h"
#include "llama_forward.h"
#include "mapped_file.h"
#include "progress.h"
#include "saved_text.h"
#include "tokenizer.h"
#include "trace_file.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace tiers_bench {
namespace {

using hipattn_run::CheckHipattn;
using hipattn_run::Engine;
using hipattn_run::GgufFile;
using hipattn_run::LlamaModel;
using hipattn_run::Phase;
using hipattn_run::Progress;
using hipattn_run::Sequence;
using hipattn_run::Tokenizer;
using nlohmann::json;

// A block is strong when this share of the budget selects it, too.
constexpr uint32_t kStrongShare = 4;

// The library's defaults, said here because the trace leaves sinks and window out, and because both
// budgets have to choose among the same candidates.
constexpr uint32_t kSinkTokens = 128;
constexpr uint32_t kWindowTokens = 1024;
constexpr uint32_t kRerankTokens = 2048;

class Recorder {
 public:
  Recorder(const RecordOptions& options,
           const GgufFile& file,
           const LlamaModel& model,
           const std::vector<int32_t>& tokens)
      : options_(options), file_(file), model_(model), tokens_(tokens) {}

  Status Run(json run);

 private:
  Status Start();
  Status OpenText();
  Status ReadText();
  Status AtLayer(const hipattn_attend_args_t& args);
  Result<std::vector<uint32_t>> Selected(const Sequence& sequence, uint32_t layer, uint32_t head);
  Status AddPicks(uint32_t layer, uint32_t head);

  const RecordOptions& options_;
  const GgufFile& file_;
  const LlamaModel& model_;
  const std::vector<int32_t>& tokens_;
  hipattn_engine_options_t engine_options_ = {};
  hipattn_attention_options_t attention_ = {};
  Engine engine_;
  std::unique_ptr<hipattn_run::Workers> workers_;
  std::unique_ptr<hipattn_run::LlamaForward> forward_;
  Sequence sequence_;
  Sequence strong_;  // attends the same queries with a part of the budget
  std::vector<float> strong_out_;
  std::vector<Picks> step_;
};

Status Recorder::Start() {
  hipattn_engine_options_t wanted = hipattn_run::MakeEngineOptions(model_);
  wanted.num_threads = options_.threads;
  Result<Engine> engine = hipattn_run::CreateEngine(wanted);
  if (!engine.ok()) {
    return engine.status();
  }
  engine_ = std::move(engine.value());
  engine_options_.struct_size = sizeof(engine_options_);
  RUN_RETURN_IF_ERROR(CheckHipattn(hipattn_engine_get_options(engine_.get(), &engine_options_),
                                   "read the engine's options"));
  workers_ = std::make_unique<hipattn_run::Workers>(std::max(1U, engine_options_.num_threads));
  forward_ = std::make_unique<hipattn_run::LlamaForward>(
      model_, engine_.get(), *workers_, options_.chunk_tokens);
  attention_.struct_size = sizeof(attention_);
  attention_.decode_mode = HIPATTN_DECODE_SPARSE;
  attention_.prefill_mode = HIPATTN_PREFILL_AUTO;
  attention_.budget_tokens = options_.budget_tokens;
  attention_.refresh_interval = options_.refresh_interval;
  attention_.sink_tokens = kSinkTokens;
  attention_.window_tokens = kWindowTokens;
  attention_.rerank_tokens = std::max(kRerankTokens, options_.budget_tokens);
  return {};
}

Status Recorder::ReadText() {
  Progress progress("reading the text", options_.tokens, options_.quiet);
  for (size_t done = 0; done < options_.tokens;) {
    const size_t count = std::min<size_t>(options_.chunk_tokens, options_.tokens - done);
    RUN_RETURN_IF_ERROR(forward_->Run(
        sequence_.get(), std::span(tokens_).subspan(done, count), Phase::kPrefill, nullptr));
    done += count;
    progress.Update(done);
  }
  return {};
}

Status Recorder::OpenText() {
  const std::span<const int32_t> text = std::span(tokens_).first(options_.tokens);
  std::vector<std::byte> fingerprint = hipattn_run::TextFingerprint(file_, text);
  const auto chunk = std::as_bytes(std::span(&options_.chunk_tokens, 1));
  fingerprint.insert(fingerprint.end(), chunk.begin(), chunk.end());
  const bool loads = !options_.snapshot.empty() && std::filesystem::exists(options_.snapshot);
  Result<Sequence> sequence =
      loads ? hipattn_run::LoadText(engine_, options_.snapshot, fingerprint, attention_)
            : hipattn_run::CreateSequence(engine_, attention_);
  if (!sequence.ok()) {
    return sequence.status();
  }
  sequence_ = std::move(sequence.value());
  if (loads) {
    return {};
  }
  RUN_RETURN_IF_ERROR(ReadText());
  return options_.snapshot.empty()
             ? Status()
             : hipattn_run::SaveText(sequence_, options_.snapshot, fingerprint);
}

Result<std::vector<uint32_t>> Recorder::Selected(const Sequence& sequence,
                                                 uint32_t layer,
                                                 uint32_t head) {
  // The layer has the step's token already; the sequence gets it with the last layer.
  const size_t position = hipattn_sequence_length(sequence_.get());
  const uint32_t size = engine_options_.block_tokens;
  std::vector<int32_t> blocks(position / size + 1);
  uint32_t count = 0;
  const Status status = CheckHipattn(
      hipattn_sequence_selection(
          sequence.get(), layer, head, blocks.data(), static_cast<uint32_t>(blocks.size()), &count),
      "read the selection");
  if (!status.ok()) {
    return status;
  }
  const size_t window_begin = position + 1 - attention_.window_tokens;
  std::vector<uint32_t> kept;
  for (uint32_t i = 0; i < count; ++i) {
    const auto block = static_cast<uint32_t>(blocks[i]);
    if (block * size >= attention_.sink_tokens && (block + 1) * size <= window_begin) {
      kept.push_back(block);
    }
  }
  return kept;
}

Status Recorder::AddPicks(uint32_t layer, uint32_t head) {
  const Result<std::vector<uint32_t>> all = Selected(sequence_, layer, head);
  if (!all.ok()) {
    return all.status();
  }
  const Result<std::vector<uint32_t>> strong = Selected(strong_, layer, head);
  if (!strong.ok()) {
    return strong.status();
  }
  Picks picks;
  picks.blocks = all.value();
  const auto strong_end =
      std::stable_partition(picks.blocks.begin(), picks.blocks.end(), [&](uint32_t block) {
        return std::binary_search(strong.value().begin(), strong.value().end(), block);
      });
  picks.num_strong = static_cast<uint32_t>(strong_end - picks.blocks.begin());
  step_.push_back(std::move(picks));
  return {};
}

Status Recorder::AtLayer(const hipattn_attend_args_t& args) {
  RUN_RETURN_IF_ERROR(CheckHipattn(hipattn_attend(engine_.get(), &args), "attend"));
  hipattn_attend_args_t again = args;
  hipattn_sequence_t* const strong = strong_.get();
  again.sequences = &strong;
  again.out = strong_out_.data();
  RUN_RETURN_IF_ERROR(CheckHipattn(hipattn_attend(engine_.get(), &again), "attend with less"));
  for (uint32_t head = 0; head < engine_options_.num_kv_heads; ++head) {
    RUN_RETURN_IF_ERROR(AddPicks(args.layer, head));
  }
  return {};
}

Status Recorder::Run(json run) {
  RUN_RETURN_IF_ERROR(Start());
  RUN_RETURN_IF_ERROR(OpenText());
  hipattn_attention_options_t less = attention_;
  less.budget_tokens = std::max(engine_options_.block_tokens,
                                options_.budget_tokens / kStrongShare /
                                    engine_options_.block_tokens * engine_options_.block_tokens);
  Result<Sequence> strong = hipattn_run::ForkSequence(sequence_, less);
  if (!strong.ok()) {
    return strong.status();
  }
  strong_ = std::move(strong.value());
  strong_out_.resize(model_.config.q_width());
  run["num_layers"] = engine_options_.num_layers;
  run["num_kv_heads"] = engine_options_.num_kv_heads;
  run["head_dim"] = engine_options_.head_dim;
  run["block_tokens"] = engine_options_.block_tokens;
  run["sink_tokens"] = attention_.sink_tokens;
  run["window_tokens"] = attention_.window_tokens;
  const Result<std::unique_ptr<TraceWriter>> writer = TraceWriter::Create(options_.out, run);
  if (!writer.ok()) {
    return writer.status();
  }
  forward_->set_attend_hook([this](const hipattn_attend_args_t& args) { return AtLayer(args); });
  Progress progress("recording", options_.steps, options_.quiet, "steps");
  for (uint32_t step = 0; step < options_.steps; ++step) {
    step_.clear();
    RUN_RETURN_IF_ERROR(forward_->Run(sequence_.get(),
                                      std::span(tokens_).subspan(options_.tokens + step, 1),
                                      Phase::kDecode,
                                      nullptr));
    RUN_RETURN_IF_ERROR(writer.value()->Add(step_));
    progress.Update(step + 1);
  }
  return writer.value()->Finish();
}

Result<std::vector<int32_t>> TokensOf(const RecordOptions& options,
                                      const std::string& text,
                                      Tokenizer* tokenizer) {
  Result<std::vector<int32_t>> tokens = tokenizer->Encode(text);
  if (!tokens.ok()) {
    return Status::Error("'", options.text, "': ", tokens.status().message());
  }
  std::vector<int32_t>& list = tokens.value();
  if (tokenizer->add_bos() && tokenizer->bos()) {
    list.insert(list.begin(), *tokenizer->bos());
  }
  if (list.size() < size_t{options.tokens} + options.steps) {
    return Status::Error("'",
                         options.text,
                         "' has ",
                         list.size(),
                         " tokens, --tokens and --steps together are ",
                         size_t{options.tokens} + options.steps);
  }
  return tokens;
}

}  // namespace

Status RecordTrace(const RecordOptions& options) {
  const Result<std::string> text = hipattn_run::ReadTextFile(options.text);
  if (!text.ok()) {
    return text.status();
  }
  const Result<GgufFile> file = GgufFile::Open(options.model);
  if (!file.ok()) {
    return file.status();
  }
  Result<Tokenizer> tokenizer = Tokenizer::Create(file.value());
  if (!tokenizer.ok()) {
    return tokenizer.status();
  }
  Result<LlamaModel> model = LlamaModel::Load(file.value());
  if (!model.ok()) {
    return model.status();
  }
  if (options.rope_base > 0) {
    model.value().SetRopeBase(options.rope_base);
  }
  const Result<std::vector<int32_t>> tokens = TokensOf(options, text.value(), &tokenizer.value());
  if (!tokens.ok()) {
    return tokens.status();
  }
  Result<json> described = recall_bench::DescribeModel(options.model);
  if (!described.ok()) {
    return described.status();
  }
  Recorder recorder(options, file.value(), model.value(), tokens.value());
  return recorder.Run({{"model", described.value()},
                       {"text", recall_bench::DescribeText(options.text, text.value())},
                       {"tokens", options.tokens},
                       {"steps", options.steps},
                       {"budget_tokens", options.budget_tokens},
                       {"refresh_interval", options.refresh_interval},
                       {"rope_base", double{model.value().config.rope_theta}}});
}

}  // namespace tiers_bench
