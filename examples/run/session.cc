// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "session.h"

#include "matrix_product.h"
#include "progress.h"
#include "sampler.h"
#include "saved_text.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <random>

namespace hipattn_run {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// What all threads of this process have used.
double CpuSeconds() {
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

double Median(std::vector<double> values) {
  if (values.empty()) {
    return 0;
  }
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// What the steps behind `stats` read: whole blocks of keys and values, and what searches looked at.
Result<uint64_t> BytesRead(const Engine& engine, const hipattn_stats_t& stats) {
  hipattn_engine_options_t options = HIPATTN_ENGINE_OPTIONS_INIT;
  RUN_RETURN_IF_ERROR(
      CheckHipattn(hipattn_engine_get_options(engine.get(), &options), "ask for the options"));
  const uint64_t element_bytes = options.kv_dtype == HIPATTN_F32 ? 4 : 2;
  const uint64_t block_bytes = 2 * element_bytes * options.block_tokens * options.head_dim;
  return stats.blocks_attended * block_bytes + stats.search_bytes_read;
}

}  // namespace

Result<std::unique_ptr<Session>> Session::Create(const LlamaModel& model,
                                                 const Tokenizer& tokenizer,
                                                 const Options& options) {
  std::unique_ptr<Session> session(new Session(model, tokenizer, options));
  const Status status = session->Start();
  if (!status.ok()) {
    return status;
  }
  return session;
}

Status Session::Start() {
  hipattn_engine_options_t wanted = MakeEngineOptions(model_);
  wanted.num_threads = options_.threads;
  wanted.kv_dtype = options_.kv_dtype;
  wanted.device_kv_bytes = options_.device_kv_bytes;
  wanted.host_kv_bytes = options_.host_kv_bytes;
  wanted.disk_kv_bytes = options_.disk_kv_bytes;
  wanted.disk_path = options_.disk_path.empty() ? nullptr : options_.disk_path.c_str();
  wanted.trace_path = options_.trace.empty() ? nullptr : options_.trace.c_str();
  if (options_.search == HIPATTN_SEARCH_STAGED || options_.search == HIPATTN_SEARCH_BEAM) {
    wanted.trained_tokens = static_cast<uint32_t>(model_.config.trained_tokens);
  }
  Result<Engine> engine = CreateEngine(wanted);
  if (!engine.ok()) {
    return engine.status();
  }
  engine_ = std::move(engine.value());
  hipattn_engine_options_t resolved = {};
  resolved.struct_size = sizeof(resolved);
  RUN_RETURN_IF_ERROR(CheckHipattn(hipattn_engine_get_options(engine_.get(), &resolved),
                                   "read the engine's options"));
  workers_ = std::make_unique<Workers>(std::max(1U, resolved.num_threads));
  forward_ = std::make_unique<LlamaForward>(model_, engine_.get(), *workers_, options_.ctx_chunk);
  prompt_logits_.resize(model_.config.vocab_size);
  return {};
}

std::optional<double> Reading::density() const {
  if (dense_tiles > 0) {
    return static_cast<double>(tiles) / static_cast<double>(dense_tiles);
  }
  // AUTO without a tile was dense in every chunk.
  const bool dense =
      prefill == PrefillName(HIPATTN_PREFILL_DENSE) || prefill == PrefillName(HIPATTN_PREFILL_AUTO);
  return dense ? std::optional(1.0) : std::nullopt;
}

Result<Sequence> Session::BeginText(uint32_t prefill_mode, Reading* reading) {
  const hipattn_attention_options_t attention =
      MakeAttentionOptions(options_, options_.attention, prefill_mode);
  if (options_.load_text.empty()) {
    return CreateSequence(engine_, attention);
  }
  const Clock::time_point begin = Clock::now();
  Result<Sequence> sequence = LoadText(engine_, options_.load_text, kept_.fingerprint, attention);
  reading->load_seconds = SecondsSince(begin);
  reading->saved_tokens = kept_.tokens;
  return sequence;
}

Status Session::ReadRest(const Sequence& sequence,
                         std::span<const int32_t> prompt,
                         Reading* reading) {
  const auto rest = [&] {
    return prompt.subspan(hipattn_sequence_length(sequence.get()) - options_.depth);
  };
  if (options_.save_text.empty()) {
    return ReadChunks(sequence.get(), rest(), true);
  }
  RUN_RETURN_IF_ERROR(ReadChunks(sequence.get(), prompt.first(kept_.tokens), false));
  const Clock::time_point begin = Clock::now();
  RUN_RETURN_IF_ERROR(SaveText(sequence, options_.save_text, kept_.fingerprint));
  reading->save_seconds = SecondsSince(begin);
  reading->saved_tokens = kept_.tokens;
  return ReadChunks(sequence.get(), rest(), true);
}

Result<Sequence> Session::ReadPrompt(const std::vector<int32_t>& prompt,
                                     uint32_t prefill_mode,
                                     Reading* reading) {
  *reading = {};
  Result<Sequence> sequence = BeginText(prefill_mode, reading);
  if (!sequence.ok()) {
    return sequence;
  }
  hipattn_sequence_t* handle = sequence.value().get();
  Status status = CheckHipattn(
      hipattn_sequence_reserve(handle, options_.depth + prompt.size() + options_.max_new_tokens),
      "reserve memory for the text");
  if (status.ok()) {
    status = CheckMemoryForBlas(workers_->num_threads());
  }
  if (status.ok() && options_.depth > 0) {
    status = FillWithRandomTokens(handle);
  }
  if (status.ok()) {
    status = ReadStats(engine_, true).status();
  }
  const double cpu_begin = CpuSeconds();
  const Clock::time_point begin = Clock::now();
  if (status.ok()) {
    status = ReadRest(sequence.value(), prompt, reading);
  }
  reading->seconds = SecondsSince(begin) - reading->save_seconds + reading->load_seconds;
  reading->cpu_seconds = CpuSeconds() - cpu_begin;
  if (!status.ok()) {
    return status;
  }
  const Result<hipattn_stats_t> stats = ReadStats(engine_, false);
  if (!stats.ok()) {
    return stats.status();
  }
  reading->prefill = PrefillName(prefill_mode);
  reading->tiles = stats.value().prefill_tiles;
  reading->dense_tiles = stats.value().prefill_dense_tiles;
  reading->recall = stats.value().prefill_recall;
  reading->logits = prompt_logits_;
  return sequence;
}

Status Session::ReadChunks(hipattn_sequence_t* sequence,
                           std::span<const int32_t> tokens,
                           bool last) {
  Progress progress("reading the prompt", tokens.size(), options_.quiet);
  for (size_t done = 0; done < tokens.size();) {
    const size_t count = std::min(forward_->max_chunk_tokens(), tokens.size() - done);
    const bool end = done + count == tokens.size();
    RUN_RETURN_IF_ERROR(forward_->Run(sequence,
                                      tokens.subspan(done, count),
                                      Phase::kPrefill,
                                      last && end ? prompt_logits_.data() : nullptr));
    done += count;
    progress.Update(done);
  }
  return {};
}

Status Session::FillWithRandomTokens(hipattn_sequence_t* sequence) {
  constexpr size_t kChunk = 512;
  const size_t width = model_.config.kv_width();
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> values(2 * kChunk * width);
  std::generate(values.begin(), values.end(), [&] { return normal(random); });
  Progress progress("filling the cache", options_.depth, options_.quiet);
  for (uint64_t done = 0; done < options_.depth;) {
    const auto count = static_cast<uint32_t>(std::min<uint64_t>(kChunk, options_.depth - done));
    // A different part of the random numbers for each chunk and layer.
    for (size_t layer = 0; layer < model_.config.num_layers; ++layer) {
      const size_t shift = (done / kChunk + layer * 7) % kChunk;
      hipattn_attend_args_t args = {};
      args.struct_size = sizeof(args);
      args.layer = static_cast<uint32_t>(layer);
      args.num_sequences = 1;
      args.sequences = &sequence;
      args.num_new_tokens = &count;
      args.k = values.data() + shift * width;
      args.v = values.data() + (kChunk - 1 - shift) * width;
      RUN_RETURN_IF_ERROR(CheckHipattn(hipattn_attend(engine_.get(), &args), "fill the cache"));
    }
    done += count;
    progress.Update(done);
  }
  return {};
}

Status Session::Step(const Sequence& sequence,
                     int32_t token,
                     std::vector<float>* logits,
                     Answer* answer) {
  const double cpu_begin = CpuSeconds();
  const Clock::time_point begin = Clock::now();
  RUN_RETURN_IF_ERROR(forward_->Run(sequence.get(), {&token, 1}, Phase::kDecode, logits->data()));
  answer->step_seconds.push_back(SecondsSince(begin));
  answer->decode_seconds += answer->step_seconds.back();
  answer->decode_cpu_seconds += CpuSeconds() - cpu_begin;
  ++answer->decode_steps;
  Result<double> share = ReadAttendedShare(engine_, sequence);
  if (!share.ok()) {
    return share.status();
  }
  answer->attended_share += share.value();
  if (options_.verify_recall || options_.min_recall > 0) {
    return AddStep(engine_, sequence, &answer->recall);
  }
  return {};
}

Result<Answer> Session::Generate(const Sequence& sequence,
                                 const std::function<void(std::string_view)>& show) {
  Answer answer;
  Sampler sampler(options_.temperature, options_.seed);
  StreamDecoder decoder(tokenizer_);
  std::vector<float> logits = prompt_logits_;
  const auto add_text = [&](const std::string& text) {
    answer.text += text;
    show(text);
  };
  Result<hipattn_stats_t> stats = ReadStats(engine_, true);
  Status status = stats.status();
  while (status.ok()) {
    const int32_t token = sampler.Choose(logits);
    if (tokenizer_.IsEnd(token) && !options_.ignore_end) {
      break;
    }
    answer.tokens.push_back(token);
    add_text(decoder.Add(token));
    if (answer.tokens.size() == options_.max_new_tokens) {
      break;
    }
    status = Step(sequence, token, &logits, &answer);
  }
  if (!status.ok()) {
    return status;
  }
  add_text(decoder.Finish());
  if (answer.decode_steps > 0) {
    answer.attended_share /= static_cast<double>(answer.decode_steps);
    const std::vector<double>& seconds = answer.step_seconds;
    answer.least_step_seconds = *std::min_element(seconds.begin(), seconds.end());
    answer.median_step_seconds = Median(seconds);
  }
  stats = ReadStats(engine_, false);
  if (!stats.ok()) {
    return stats.status();
  }
  answer.stats = stats.value();
  const Result<uint64_t> bytes_read = BytesRead(engine_, answer.stats);
  if (!bytes_read.ok()) {
    return bytes_read.status();
  }
  answer.bytes_read = bytes_read.value();
  Result<std::vector<AuditedHead>> heads = ReadAuditedHeads(engine_, sequence);
  if (!heads.ok()) {
    return heads.status();
  }
  answer.audited_heads = std::move(heads.value());
  return answer;
}

}  // namespace hipattn_run
