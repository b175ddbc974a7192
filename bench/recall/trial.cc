// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "trial.h"

#include "logits.h"
#include "utf8.h"

#include <algorithm>
#include <chrono>

namespace recall_bench {
namespace {

using hipattn_run::CheckHipattn;
using hipattn_run::Engine;
using hipattn_run::KullbackLeibler;
using hipattn_run::Phase;
using hipattn_run::Sequence;
using nlohmann::json;
using Clock = std::chrono::steady_clock;

// Engine of the dense pass.
constexpr uint32_t kDenseBlockTokens = 16;
constexpr size_t kChunkTokens = 512;
// A question of a known form has fewer.
constexpr size_t kQuestionTokens = 48;

double SecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

int32_t Greatest(const std::vector<float>& logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

json ToJson(const Mean& mean) {
  return {{"sum", mean.sum}, {"count", mean.count}};
}

void AddMeasures(const Measures& measures, json* line) {
  (*line)["mass"] = ToJson(measures.mass);
  (*line)["mass_at_least_90"] = ToJson(measures.mass_at_least_90);
  (*line)["mass_at_least_95"] = ToJson(measures.mass_at_least_95);
  (*line)["fact_attended"] = ToJson(measures.fact);
  (*line)["answer_mass"] = ToJson(measures.answer_mass);
  (*line)["answer_fact"] = ToJson(measures.answer_fact);
  (*line)["lse_gap"] = ToJson(measures.lse_gap);
  (*line)["estimate_error"] = ToJson(measures.estimate_error);
  (*line)["estimate_bias"] = ToJson(measures.estimate_bias);
  (*line)["verify_error"] = ToJson(measures.verify_error);
  (*line)["attended"] = ToJson(measures.attended);
  const auto mean = [](const Mean& of) {
    return of.count == 0 ? json() : json(of.sum / static_cast<double>(of.count));
  };
  (*line)["grown_tokens"] = mean(measures.grown_tokens);
  (*line)["least_tokens"] = mean(measures.least_tokens);
}

void AddStats(const Setting& setting,
              const LlamaConfig& config,
              const hipattn_stats_t& stats,
              json* line) {
  const auto head_dim = static_cast<double>(config.head_dim);
  const auto per_head = [&](double value) {
    const uint64_t steps = (*line)["steps"];
    return value / static_cast<double>(steps * config.num_layers * config.num_kv_heads);
  };
  const double block_bytes = 2 * 2 * setting.block_tokens * head_dim;  // K and V, bf16
  (*line)["search_keys_per_head"] = per_head(static_cast<double>(stats.search_keys_read));
  (*line)["search_bytes_per_head"] = per_head(static_cast<double>(stats.search_bytes_read));
  (*line)["attended_bytes_per_head"] =
      per_head(static_cast<double>(stats.blocks_attended)) * block_bytes;
  (*line)["scanned_heads"] = stats.scanned_heads;
  (*line)["search_seconds"] = static_cast<double>(stats.search_ns) * 1e-9;
  (*line)["attend_seconds"] = static_cast<double>(stats.attend_ns) * 1e-9;
}

// Share of the answer's tokens before the first that differs from dense.
double SameTokens(const std::vector<int32_t>& tokens, const std::vector<int32_t>& dense) {
  if (dense.empty()) {
    return tokens.empty() ? 1 : 0;
  }
  const auto differs = std::mismatch(tokens.begin(), tokens.end(), dense.begin(), dense.end());
  return static_cast<double>(differs.second - dense.begin()) / static_cast<double>(dense.size());
}

Result<Engine> MakeEngine(const Bench& bench, uint32_t block_tokens) {
  Result<Engine> engine =
      hipattn_run::CreateEngine(UnrotatingEngineOptions(bench.model, block_tokens));
  if (engine.ok() && !bench.options.patterns.empty()) {
    RUN_RETURN_IF_ERROR(CheckHipattn(
        hipattn_engine_load_patterns(engine.value().get(), bench.options.patterns.c_str()),
        "load the patterns"));
  }
  return engine;
}

// What the longest chunk of any setting has.
size_t LongestChunk(const Bench& bench) {
  size_t longest = kChunkTokens;
  for (const Setting& setting : bench.settings) {
    if (setting.reads_text()) {
      longest = std::max<size_t>(longest, std::min(setting.chunk_tokens, bench.options.tokens));
    }
  }
  return longest;
}

}  // namespace

Result<Prompt> MakeBenchPrompt(const Bench& bench, const Fact& fact) {
  const PromptShape shape = {bench.options.tokens, bench.options.answer_tokens, bench.bos};
  return HideFact(fact, bench.text, shape, bench.encode);
}

Status CheckSetting(const Bench& bench, const Setting& setting) {
  if (setting.attention.prefill_mode == HIPATTN_PREFILL_PATTERNS &&
      bench.options.patterns.empty()) {
    return Status::Error("setting '", setting.name, "' needs --patterns");
  }
  const Result<Engine> engine = MakeEngine(bench, setting.block_tokens);
  if (!engine.ok()) {
    return Status::Error("setting '", setting.name, "': ", engine.status().message());
  }
  const Result<Sequence> sequence = hipattn_run::CreateSequence(engine.value(), setting.attention);
  if (!sequence.ok()) {
    return Status::Error("setting '", setting.name, "': ", sequence.status().message());
  }
  return {};
}

uint64_t TrialTokens(const RecallOptions& options, const std::vector<const Setting*>& settings) {
  uint64_t readings = 1;
  for (size_t i = 0; i < settings.size(); ++i) {
    const auto shares = [&](const Setting* other) { return ShareIndex(*other, *settings[i]); };
    const auto end = settings.begin() + static_cast<std::ptrdiff_t>(i);
    readings += settings[i]->reads_text() && std::none_of(settings.begin(), end, shares) ? 1 : 0;
  }
  return readings * options.tokens +
         (settings.size() + 1) * (kQuestionTokens + options.answer_tokens);
}

std::vector<const Setting*> MissingSettings(const Bench& bench, uint64_t fact) {
  std::vector<const Setting*> missing;
  const json* const dense = bench.results->Find(fact, "dense");
  if (dense != nullptr && !dense->at("right").get<bool>() && !bench.options.keep_wrong) {
    return missing;
  }
  for (const Setting& setting : bench.settings) {
    if (bench.results->Find(fact, setting.name) == nullptr) {
      missing.push_back(&setting);
    }
  }
  return missing;
}

Trial::Trial(const Bench& bench)
    : bench_(bench),
      workers_(1),
      forward_(bench.model, nullptr, workers_, LongestChunk(bench)),
      record_(bench.model.config, bench.options.tokens),
      observer_(bench.model.config, bench.rope, &record_.keys()) {}

Result<hipattn_engine_t*> Trial::EngineOf(uint32_t block_tokens) {
  Engine& engine = engines_[block_tokens];
  if (!engine) {
    Result<Engine> made = MakeEngine(bench_, block_tokens);
    if (!made.ok()) {
      return made.status();
    }
    engine = std::move(made.value());
  }
  return engine.get();
}

Status Trial::ReadTokens(const Prompt& prompt,
                         size_t chunk_tokens,
                         hipattn_engine_t* engine,
                         hipattn_sequence_t* sequence) {
  record_.Clear(prompt.tokens.size());
  const LlamaConfig& config = bench_.model.config;
  std::vector<float> q(chunk_tokens * config.q_width());
  std::vector<float> k(chunk_tokens * config.kv_width());
  forward_.set_attend_hook([&](const hipattn_attend_args_t& args) {
    const size_t tokens = args.num_new_tokens[0];
    const size_t position = record_.keys().length(args.layer);
    std::copy_n(static_cast<const float*>(args.q), tokens * config.q_width(), q.data());
    std::copy_n(static_cast<const float*>(args.k), tokens * config.kv_width(), k.data());
    bench_.rope.Rotate(q.data(), tokens, config.num_q_heads, position);
    bench_.rope.Rotate(k.data(), tokens, config.num_kv_heads, position);
    record_.Append(args.layer, q.data(), k.data(), static_cast<const float*>(args.v), tokens);
    hipattn_attend_args_t rotated = args;
    rotated.q = q.data();
    rotated.k = k.data();
    return CheckHipattn(hipattn_attend(engine, &rotated), "read the text");
  });
  Status status;
  for (size_t done = 0; status.ok() && done < prompt.tokens.size();) {
    const size_t count = std::min(chunk_tokens, prompt.tokens.size() - done);
    status = forward_.Run(
        sequence, std::span(prompt.tokens).subspan(done, count), Phase::kPrefill, nullptr);
    done += count;
    bench_.progress(count);
  }
  forward_.set_attend_hook(
      [this](const hipattn_attend_args_t& args) { return observer_.Attend(args); });
  return status;
}

Result<Trial::TextSequence> Trial::ReadText(const Prompt& prompt, const Setting* setting) {
  const Clock::time_point begin = Clock::now();
  const uint32_t block_tokens = setting == nullptr ? kDenseBlockTokens : setting->block_tokens;
  Result<hipattn_engine_t*> engine = EngineOf(block_tokens);
  if (!engine.ok()) {
    return engine.status();
  }
  hipattn_attention_options_t options = HIPATTN_ATTENTION_OPTIONS_INIT;
  options.decode_mode = HIPATTN_DECODE_DENSE;
  options.prefill_mode = HIPATTN_PREFILL_DENSE;
  Result<Sequence> sequence = hipattn_run::CreateSequence(
      engines_[block_tokens], setting == nullptr ? options : setting->attention);
  if (!sequence.ok()) {
    return sequence.status();
  }
  Result<hipattn_stats_t> stats = hipattn_run::ReadStats(engines_[block_tokens], true);
  if (!stats.ok()) {
    return stats.status();
  }
  const size_t chunk_tokens = setting == nullptr
                                  ? kChunkTokens
                                  : std::min<size_t>(setting->chunk_tokens, LongestChunk(bench_));
  RUN_RETURN_IF_ERROR(ReadTokens(prompt, chunk_tokens, engine.value(), sequence.value().get()));
  stats = hipattn_run::ReadStats(engines_[block_tokens], false);
  if (!stats.ok()) {
    return stats.status();
  }
  TextSequence text = {std::move(sequence.value()), {SecondsSince(begin), {}, {}}};
  const hipattn_stats_t& counted = stats.value();
  if (counted.prefill_dense_tiles > 0) {
    text.reading.density = static_cast<double>(counted.prefill_tiles) /
                           static_cast<double>(counted.prefill_dense_tiles);
  }
  if (!std::isnan(counted.prefill_recall)) {
    text.reading.recall = counted.prefill_recall;
  }
  return text;
}

Result<Trial::Answer> Trial::Decode(const Sequence& sequence, const Prompt& prompt) {
  const Clock::time_point begin = Clock::now();
  Answer answer;
  std::vector<float> logits(bench_.model.config.vocab_size);
  Status status;
  const auto step = [&](int32_t token, float* result) {
    status = forward_.Run(sequence.get(), {&token, 1}, Phase::kDecode, result);
    bench_.progress(1);
    return status.ok();
  };
  for (size_t i = 0; i < prompt.question.size(); ++i) {
    const bool last = i + 1 == prompt.question.size();
    if (last) {
      observer_.BeginAnswer();
    }
    if (!step(prompt.question[i], last ? logits.data() : nullptr)) {
      return status;
    }
  }
  answer.first_logits = logits;
  while (true) {
    const int32_t token = Greatest(logits);
    if (bench_.is_end(token)) {
      break;
    }
    answer.tokens.push_back(token);
    if (answer.tokens.size() == bench_.options.answer_tokens) {
      break;
    }
    if (!step(token, logits.data())) {
      return status;
    }
  }
  answer.seconds = SecondsSince(begin);
  record_.keys().Truncate(record_.text_tokens());
  return answer;
}

Result<Sequence> Trial::Replay(const Setting& setting) {
  Result<hipattn_engine_t*> engine = EngineOf(setting.block_tokens);
  if (!engine.ok()) {
    return engine.status();
  }
  Result<Sequence> sequence =
      hipattn_run::CreateSequence(engines_[setting.block_tokens], setting.attention);
  if (!sequence.ok()) {
    return sequence;
  }
  const Status status =
      record_.Replay(engine.value(), sequence.value().get(), AuditsHeads(setting));
  if (!status.ok()) {
    return status;
  }
  return sequence;
}

Status Trial::RunSetting(const Setting& setting,
                         const Sequence& text,
                         const Prompt& prompt,
                         Answer* answer,
                         json* line) {
  const Result<Sequence> sequence = hipattn_run::ForkSequence(text, setting.attention);
  if (!sequence.ok()) {
    return sequence.status();
  }
  const Engine& engine = engines_[setting.block_tokens];
  observer_.Begin(&setting, engine.get(), {prompt.fact_begin, prompt.fact_end});
  Result<hipattn_stats_t> stats = hipattn_run::ReadStats(engine, true);
  if (!stats.ok()) {
    return stats.status();
  }
  Result<Answer> decoded = Decode(sequence.value(), prompt);
  if (!decoded.ok()) {
    return decoded.status();
  }
  *answer = std::move(decoded.value());
  stats = hipattn_run::ReadStats(engine, false);
  if (!stats.ok()) {
    return stats.status();
  }
  const size_t steps = hipattn_sequence_length(sequence.value().get()) - prompt.tokens.size();
  (*line)["steps"] = steps;
  AddMeasures(observer_.measures(), line);
  AddStats(setting, bench_.model.config, stats.value(), line);
  return {};
}

json Trial::Describe(uint64_t index,
                     const std::string& setting,
                     const Fact& fact,
                     const Answer& answer) const {
  const std::string text = hipattn_run::ReplaceInvalidUtf8(bench_.decode(answer.tokens));
  return {{"fact", index},
          {"setting", setting},
          {"right", text.find(fact.value) != std::string::npos},
          {"answer", text},
          {"tokens", answer.tokens},
          {"seconds", answer.seconds}};
}

Status Trial::RunSharing(uint64_t index,
                         const Fact& fact,
                         const Prompt& prompt,
                         const Answer& dense,
                         std::vector<const Setting*>* settings) {
  const Setting& first = *settings->front();
  TextSequence text;
  if (first.reads_text()) {
    Result<TextSequence> read = ReadText(prompt, &first);
    if (!read.ok()) {
      return read.status();
    }
    text = std::move(read.value());
  } else {
    Result<Sequence> replayed = Replay(first);
    if (!replayed.ok()) {
      return replayed.status();
    }
    text.sequence = std::move(replayed.value());
  }
  const auto apart =
      std::stable_partition(settings->begin(), settings->end(), [&](const Setting* setting) {
        return ShareIndex(*setting, first);
      });
  for (auto it = settings->begin(); it != apart; ++it) {
    const Setting& setting = **it;
    Answer answer;
    json line;
    RUN_RETURN_IF_ERROR(RunSetting(setting, text.sequence, prompt, &answer, &line));
    line.update(Describe(index, setting.name, fact, answer));
    line["spec"] = setting.spec;
    line["kl"] = KullbackLeibler(dense.first_logits, answer.first_logits);
    line["tokens_as_dense"] = SameTokens(answer.tokens, dense.tokens);
    if (setting.reads_text()) {
      line["prefill_seconds"] = text.reading.seconds;
      line["prefill_density"] = text.reading.density;
      line["prefill_recall"] = text.reading.recall;
    }
    RUN_RETURN_IF_ERROR(bench_.results->Add(std::move(line)));
  }
  settings->erase(settings->begin(), apart);
  return {};
}

Status Trial::Run(uint64_t index) {
  std::vector<const Setting*> missing = MissingSettings(bench_, index);
  const json* const known = bench_.results->Find(index, "dense");
  if (known != nullptr && missing.empty()) {
    return {};
  }
  const Fact fact = MakeFact(bench_.options.fact, index);
  const Result<Prompt> prompt = MakeBenchPrompt(bench_, fact);
  if (!prompt.ok()) {
    return prompt.status();
  }
  Result<TextSequence> dense_text = ReadText(prompt.value(), nullptr);
  if (!dense_text.ok()) {
    return dense_text.status();
  }
  observer_.Begin(nullptr, engines_[kDenseBlockTokens].get(), {});
  const Result<Answer> dense = Decode(dense_text.value().sequence, prompt.value());
  if (!dense.ok()) {
    return dense.status();
  }
  dense_text.value().sequence.reset();
  json line = Describe(index, "dense", fact, dense.value());
  line["form"] = fact.form;
  line["value"] = fact.value;
  line["fact_begin"] = prompt.value().fact_begin;
  line["text_tokens"] = prompt.value().tokens.size();
  line["text_seconds"] = dense_text.value().reading.seconds;
  const bool counts = line["right"] || bench_.options.keep_wrong;
  if (known == nullptr) {
    RUN_RETURN_IF_ERROR(bench_.results->Add(std::move(line)));
  }
  if (!counts) {
    return {};
  }
  // A setting that reads the text puts its own in the record, so those that replay it come first.
  std::stable_partition(missing.begin(), missing.end(), [](const Setting* setting) {
    return !setting->reads_text();
  });
  while (!missing.empty()) {
    RUN_RETURN_IF_ERROR(RunSharing(index, fact, prompt.value(), dense.value(), &missing));
  }
  return {};
}

}  // namespace recall_bench
