// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// One fact through all settings: the text is read densely once, then every setting decodes the
// question token by token and answers greedily, from the cache that the dense pass left. Settings
// with another prefill mode read the text themselves.
#ifndef HIPATTN_BENCH_RECALL_TRIAL_H_
#define HIPATTN_BENCH_RECALL_TRIAL_H_

#include "fact.h"
#include "llama_forward.h"
#include "llama_model.h"
#include "recall_options.h"
#include "results_file.h"
#include "setting.h"
#include "step_observer.h"
#include "text_record.h"
#include "workers.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace recall_bench {

// What all trials of a run share; thread-safe where they change it.
struct Bench {
  const LlamaModel& model;
  const RopeTable& rope;
  const RecallOptions& options;
  const std::vector<Setting>& settings;
  const std::vector<int32_t>& text;
  std::optional<int32_t> bos;
  Encode encode;
  std::function<std::string(const std::vector<int32_t>&)> decode;
  std::function<bool(int32_t)> is_end;
  std::function<void(uint64_t)> progress;  // tokens that have gone through the model
  ResultsFile* results;
};

// The fact as this run hides it.
Result<Prompt> MakeBenchPrompt(const Bench& bench, const Fact& fact);

// Fails when the library refuses the setting, or there is no pattern file for it.
Status CheckSetting(const Bench& bench, const Setting& setting);

// Tokens that a whole trial of these settings puts through the model, about.
uint64_t TrialTokens(const RecallOptions& options, const std::vector<const Setting*>& settings);

// Settings of the run that the results lack for this fact; none where dense was wrong, unless such
// facts are kept.
std::vector<const Setting*> MissingSettings(const Bench& bench, uint64_t fact);

// Serves one fact after the other on one thread.
class Trial {
 public:
  explicit Trial(const Bench& bench);

  // Measures what is missing of the fact and adds it to the results.
  Status Run(uint64_t fact);

 private:
  struct Answer {
    std::vector<int32_t> tokens;
    std::vector<float> first_logits;
    double seconds = 0;
  };
  struct Reading {
    double seconds = 0;
    nlohmann::json density;  // of the masks; null: dense
    nlohmann::json recall;   // with verify
  };
  struct TextSequence {
    hipattn_run::Sequence sequence;
    Reading reading;
  };
  // By the setting's prefill mode; densely without one. What the record has is this text then.
  Result<TextSequence> ReadText(const Prompt& prompt, const Setting* setting);
  Status ReadTokens(const Prompt& prompt,
                    size_t chunk_tokens,
                    hipattn_engine_t* engine,
                    hipattn_sequence_t* sequence);
  Result<Answer> Decode(const hipattn_run::Sequence& sequence, const Prompt& prompt);
  Status RunDense(uint64_t index, const Fact& fact, const Prompt& prompt, Answer* dense);
  Status RunSetting(const Setting& setting,
                    const hipattn_run::Sequence& text,
                    const Prompt& prompt,
                    Answer* answer,
                    nlohmann::json* line);
  // Of the settings that `settings` begins with, those that share a text; they are measured and
  // taken out.
  Status RunSharing(uint64_t index,
                    const Fact& fact,
                    const Prompt& prompt,
                    const Answer& dense,
                    std::vector<const Setting*>* settings);
  nlohmann::json Describe(uint64_t index,
                          const std::string& setting,
                          const Fact& fact,
                          const Answer& answer) const;
  Result<hipattn_run::Sequence> Replay(const Setting& setting);
  Result<hipattn_engine_t*> EngineOf(uint32_t block_tokens);

  const Bench& bench_;
  hipattn_run::Workers workers_;
  hipattn_run::LlamaForward forward_;
  TextRecord record_;
  StepObserver observer_;
  std::map<uint32_t, hipattn_run::Engine> engines_;  // by block_tokens
};

}  // namespace recall_bench

#endif  // HIPATTN_BENCH_RECALL_TRIAL_H_
