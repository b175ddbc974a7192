// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "layer_search.h"

#include "core/pattern/refine.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>

namespace pattern_search {
namespace {

using hipattn::core::HeadPattern;
using hipattn::core::PatternType;

Result<TrialScore> Try(const SearchOptions& options,
                       const TileCosts& costs,
                       const HeadInput& input,
                       const Attended& dense,
                       const HeadPattern& pattern,
                       HeadAttention* attention) {
  const Result<Attended> run = attention->Run(input, pattern);
  if (!run.ok()) {
    return run.status();
  }
  const Attended& sparse = run.value();
  const auto tokens = static_cast<uint32_t>(dense.lse.size());
  return TrialScore{
      {costs.ShareOf(pattern, sparse),
       hipattn::core::LseRecall({tokens, tokens}, sparse.lse, dense.lse, options.first_row),
       hipattn::core::OutputError(sparse.out, dense.out)},
      static_cast<double>(sparse.tiles) / static_cast<double>(sparse.dense_tiles),
      sparse.ran_dense()};
}

// Adds lines to *choice until it has the recall, or runs dense.
Status Refine(const SearchOptions& options,
              const TileCosts& costs,
              const HeadInput& input,
              const Attended& dense,
              HeadAttention* attention,
              HeadChoice* choice) {
  while (choice->pattern.type == PatternType::kVerticalSlash && !choice->trial.ran_dense &&
         choice->trial.score.recall < options.refine) {
    const uint32_t step = hipattn::core::RefineStep(choice->trial.score.recall);
    choice->pattern.a += step;
    choice->pattern.b += step;
    ++choice->refinements;
    const Result<TrialScore> trial = Try(options, costs, input, dense, choice->pattern, attention);
    if (!trial.ok()) {
      return trial.status();
    }
    choice->trial = trial.value();
  }
  if (choice->refinements > 0 && choice->trial.ran_dense) {
    choice->pattern = kDensePattern;
    choice->trial = choice->trials.back();
  }
  return {};
}

std::vector<float> RowsOf(const void* rows, size_t num_rows, size_t width, size_t begin, size_t n) {
  const float* const values = static_cast<const float*>(rows);
  std::vector<float> part;
  part.reserve(num_rows * n);
  for (size_t row = 0; row < num_rows; ++row) {
    const float* const first = values + row * width + begin;
    part.insert(part.end(), first, first + n);
  }
  return part;
}

}  // namespace

size_t ChooseTrial(const SearchOptions& options, const std::vector<TrialScore>& trials) {
  std::vector<size_t> places;
  std::vector<hipattn::core::CandidateScore> scores;
  for (size_t i = 0; i < trials.size(); ++i) {
    if (!trials[i].ran_dense || options.candidates[i] == kDensePattern) {
      places.push_back(i);
      scores.push_back(trials[i].score);
    }
  }
  return places[hipattn::core::ChooseCandidate(scores, options.objective, options.bound)];
}

Result<HeadChoice> SearchHead(const SearchOptions& options,
                              const TileCosts& costs,
                              const HeadInput& input,
                              HeadAttention* attention) {
  const Result<Attended> dense = attention->Run(input, std::nullopt);
  if (!dense.ok()) {
    return dense.status();
  }
  HeadChoice choice;
  for (const HeadPattern& candidate : options.candidates) {
    const Result<TrialScore> trial =
        Try(options, costs, input, dense.value(), candidate, attention);
    if (!trial.ok()) {
      return trial.status();
    }
    choice.trials.push_back(trial.value());
  }
  const size_t chosen = ChooseTrial(options, choice.trials);
  choice.pattern = options.candidates[chosen];
  choice.trial = choice.trials[chosen];
  RUN_RETURN_IF_ERROR(Refine(options, costs, input, dense.value(), attention, &choice));
  return choice;
}

HeadInput InputOf(const hipattn_attend_args_t& call,
                  const hipattn_run::LlamaConfig& config,
                  uint32_t head) {
  const size_t rows = call.num_new_tokens[0];
  const size_t dim = config.head_dim;
  const size_t kv_head = head / (config.num_q_heads / config.num_kv_heads);
  return {RowsOf(call.q, rows, config.q_width(), head * dim, dim),
          RowsOf(call.k, rows, config.kv_width(), kv_head * dim, dim),
          RowsOf(call.v, rows, config.kv_width(), kv_head * dim, dim)};
}

Result<std::vector<HeadChoice>> SearchLayer(const SearchOptions& options,
                                            const hipattn_run::LlamaConfig& config,
                                            const TileCosts& costs,
                                            const hipattn_attend_args_t& call,
                                            std::vector<HeadAttention>* attentions,
                                            const std::function<void()>& head_done) {
  const auto num_heads = static_cast<uint32_t>(config.num_q_heads);
  std::vector<HeadChoice> choices(num_heads);
  std::atomic<uint32_t> next{0};
  std::mutex mutex;
  Status failure;
  const auto fail = [&](const std::string& reason) {
    const std::lock_guard lock(mutex);
    failure = Status::Error("layer ", call.layer, ": ", reason);
    next = num_heads;
  };
  const auto work = [&](HeadAttention* attention) {
    try {
      for (uint32_t head = next++; head < num_heads; head = next++) {
        Result<HeadChoice> choice =
            SearchHead(options, costs, InputOf(call, config, head), attention);
        if (!choice.ok()) {
          fail(choice.status().message());
          return;
        }
        const std::lock_guard lock(mutex);
        choices[head] = std::move(choice.value());
        head_done();
      }
    } catch (const std::exception& error) {
      fail(error.what());
    }
  };
  std::vector<std::thread> threads;
  for (HeadAttention& attention : *attentions) {
    threads.emplace_back(work, &attention);
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  if (!failure.ok()) {
    return failure;
  }
  return choices;
}

}  // namespace pattern_search
