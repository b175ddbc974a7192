// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "step_observer.h"

#include <algorithm>
#include <cmath>

namespace recall_bench {
namespace {

using hipattn_run::CheckHipattn;

// A head looks for the fact when the fact has more than this share of its mass.
constexpr double kFactMass = 0.2;

// The first layer attends diffusely in every model and would hide the others in the means.
constexpr uint32_t kFirstJudgedLayer = 1;

// These attend parts of blocks, so a list of blocks does not say what was attended.
bool SelectsPartsOfBlocks(const Setting& setting) {
  return setting.attention.search == HIPATTN_SEARCH_STAGED ||
         setting.attention.search == HIPATTN_SEARCH_BEAM;
}

}  // namespace

double AttendedShare(double whole, const std::vector<double>& edges, double lse_share) {
  double nearest = whole;
  for (size_t choice = 1; choice < size_t{1} << edges.size(); ++choice) {
    double share = whole;
    for (size_t i = 0; i < edges.size(); ++i) {
      share -= (choice >> i & 1U) != 0 ? edges[i] : 0;
    }
    if (std::abs(share - lse_share) < std::abs(nearest - lse_share)) {
      nearest = share;
    }
  }
  return nearest;
}

StepObserver::StepObserver(const LlamaConfig& config, const RopeTable& rope, KeyPanels* keys)
    : config_(config),
      rope_(rope),
      keys_(keys),
      softmax_(config.num_q_heads),
      steps_(config.num_layers),
      anchors_(config.num_layers),
      lse_(config.num_q_heads) {}

void StepObserver::Begin(const Setting* setting, hipattn_engine_t* engine, const Fact& fact) {
  setting_ = setting;
  engine_ = engine;
  fact_ = fact;
  answering_ = false;
  measures_ = {};
  std::fill(steps_.begin(), steps_.end(), uint64_t{0});
}

StepObserver::Step StepObserver::MakeStep(const hipattn_attend_args_t& args) {
  Step step = {};
  step.layer = args.layer;
  step.position = keys_->length(args.layer);
  step.sequence = args.sequences[0];
  if (setting_ == nullptr) {
    return step;
  }
  const hipattn_attention_options_t& options = setting_->attention;
  const uint32_t interval = std::max(1U, options.refresh_interval);
  uint64_t& n = steps_[args.layer];
  if (n == 0 || (n + args.layer) % interval == 0) {
    anchors_[args.layer] = step.position;
  }
  ++n;
  const size_t sinks = options.sink_tokens == HIPATTN_NONE ? 0 : options.sink_tokens;
  const size_t behind_anchor = anchors_[args.layer] + 1;
  step.sink_end = std::min(sinks, step.position + 1);
  step.window_begin = behind_anchor - std::min<size_t>(behind_anchor, options.window_tokens);
  return step;
}

void StepObserver::ChooseBlocks(const Step& step, hipattn_attend_args_t* args) {
  const size_t count = setting_->budget_tokens() / setting_->block_tokens;
  external_.assign(config_.num_kv_heads * count, -1);
  for (size_t head = 0; head < config_.num_kv_heads; ++head) {
    const std::vector<int32_t> best =
        softmax_.BestBlocks(head, step.sink_end, step.window_begin, setting_->block_tokens, count);
    std::copy(
        best.begin(), best.end(), external_.begin() + static_cast<std::ptrdiff_t>(head * count));
  }
  args->external_blocks = external_.data();
  args->num_external = static_cast<uint32_t>(count);
}

Status StepObserver::Attend(const hipattn_attend_args_t& args) {
  const Step step = MakeStep(args);
  const auto* const q = static_cast<const float*>(args.q);
  const auto* const k = static_cast<const float*>(args.k);
  q_.assign(q, q + config_.q_width());
  k_.assign(k, k + config_.kv_width());
  rope_.Rotate(q_.data(), 1, config_.num_q_heads, step.position);
  rope_.Rotate(k_.data(), 1, config_.num_kv_heads, step.position);
  keys_->Append(args.layer, k_.data(), 1);
  hipattn_attend_args_t rotated = args;
  rotated.q = q_.data();
  rotated.k = k_.data();
  rotated.lse = lse_.data();
  if (setting_ != nullptr) {
    const float scale = 1.0F / std::sqrt(static_cast<float>(config_.head_dim));
    softmax_.Compute(*keys_, args.layer, q_.data(), scale);
    if (setting_->oracle) {
      ChooseBlocks(step, &rotated);
    }
  }
  RUN_RETURN_IF_ERROR(CheckHipattn(hipattn_attend(engine_, &rotated), "attend"));
  return setting_ == nullptr ? Status() : Judge(step);
}

Status StepObserver::ReadSelection(const Step& step, uint32_t kv_head) {
  uint32_t count = 0;
  blocks_.resize(step.position / setting_->block_tokens + 1);
  RUN_RETURN_IF_ERROR(CheckHipattn(hipattn_sequence_selection(step.sequence,
                                                              step.layer,
                                                              kv_head,
                                                              blocks_.data(),
                                                              static_cast<uint32_t>(blocks_.size()),
                                                              &count),
                                   "read the selection"));
  if (count > blocks_.size()) {
    return Status::Error(
        "the library attended ", count, " blocks of a text that has ", blocks_.size());
  }
  blocks_.resize(count);
  return {};
}

Status StepObserver::Judge(const Step& step) {
  const size_t group = config_.num_q_heads / config_.num_kv_heads;
  for (uint32_t head = 0; head < config_.num_kv_heads; ++head) {
    RUN_RETURN_IF_ERROR(ReadSelection(step, head));
    const double length = static_cast<double>(step.position + 1);
    const double attended = static_cast<double>(blocks_.size() * setting_->block_tokens);
    measures_.attended.Add(std::min(1.0, attended / length));
    if (step.layer >= kFirstJudgedLayer && setting_->attention.min_recall > 0.0F &&
        step.sink_end < step.window_begin) {
      JudgeBudget(step, head);
    }
    for (size_t n = head * group; step.layer >= kFirstJudgedLayer && n < (head + 1) * group; ++n) {
      RUN_RETURN_IF_ERROR(JudgeRecall(step, n, JudgeMass(step, n)));
    }
  }
  return {};
}

// A block where sinks end or the window begins is not counted: it may be attended without a search.
void StepObserver::JudgeBudget(const Step& step, uint32_t kv_head) {
  const size_t size = setting_->block_tokens;
  const size_t first = (step.sink_end + size - 1) / size;
  const size_t end = step.window_begin / size;
  const auto searched = std::count_if(blocks_.begin(), blocks_.end(), [&](int32_t block) {
    return static_cast<size_t>(block) >= first && static_cast<size_t>(block) < end;
  });
  const double wanted = static_cast<double>(setting_->attention.min_recall);
  const size_t least = softmax_.BlocksForShare(
      kv_head, step.sink_end, step.window_begin, size, wanted, setting_->budget_tokens() / size);
  measures_.grown_tokens.Add(static_cast<double>(searched) * static_cast<double>(size));
  measures_.least_tokens.Add(static_cast<double>(least * size));
}

double StepObserver::JudgeMass(const Step& step, size_t q_head) {
  const size_t size = setting_->block_tokens;
  double whole = 0;
  double fact_attended = 0;
  std::vector<double> edges;
  for (const int32_t block : blocks_) {
    const size_t begin = static_cast<size_t>(block) * size;
    const size_t end = begin + size;
    whole += softmax_.Share(q_head, begin, end);
    fact_attended += softmax_.Share(q_head, std::max(begin, fact_.begin), std::min(end, fact_.end));
    if (begin < step.sink_end && step.sink_end < end) {
      edges.push_back(softmax_.Share(q_head, step.sink_end, end));
    } else if (begin < step.window_begin && step.window_begin < end) {
      edges.push_back(softmax_.Share(q_head, begin, step.window_begin));
    }
  }
  const double lse_share = std::exp(static_cast<double>(lse_[q_head]) - softmax_.lse(q_head));
  const double mass = SelectsPartsOfBlocks(*setting_) ? std::min(1.0, lse_share)
                                                      : AttendedShare(whole, edges, lse_share);
  measures_.mass.Add(mass);
  measures_.mass_at_least_90.Add(mass >= 0.90 ? 1 : 0);
  measures_.mass_at_least_95.Add(mass >= 0.95 ? 1 : 0);
  measures_.lse_gap.Add(std::abs(mass - lse_share));
  if (answering_) {
    measures_.answer_mass.Add(mass);
  }
  const double fact_mass = softmax_.Share(q_head, fact_.begin, fact_.end);
  if (fact_mass > kFactMass) {
    const double share = fact_attended / fact_mass;
    measures_.fact.Add(share);
    if (answering_) {
      measures_.answer_fact.Add(share);
    }
  }
  return mass;
}

Status StepObserver::JudgeRecall(const Step& step, size_t q_head, double mass) {
  hipattn_recall_t recall = HIPATTN_RECALL_INIT;
  RUN_RETURN_IF_ERROR(CheckHipattn(
      hipattn_sequence_recall(step.sequence, step.layer, static_cast<uint32_t>(q_head), &recall),
      "read the recall"));
  if (!std::isnan(recall.estimate)) {
    const double error = static_cast<double>(recall.estimate) - mass;
    measures_.estimate_error.Add(std::abs(error));
    measures_.estimate_bias.Add(error);
  }
  if (!std::isnan(recall.truth)) {
    measures_.verify_error.Add(std::abs(static_cast<double>(recall.truth) - mass));
  }
  return {};
}

}  // namespace recall_bench
