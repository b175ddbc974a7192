// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/search/audit.h"

#include "base/int_math.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace hipattn::core {
namespace {

// A scan reads as much as 1/10 of dense attention; once in length / 400 steps that is less than 40
// tokens a step, however long the text.
constexpr uint64_t kLeastInterval = 64;
constexpr uint64_t kIntervalShare = 400;

double MassOf(const float* scores, std::span<const int32_t> places, double top) {
  double mass = 0.0;
  for (const int32_t place : places) {
    mass += std::exp2(static_cast<double>(scores[place]) - top);
  }
  return mass;
}

bool Wants(const HeadAudit& head) {
  return head.samples >= kLeastSamples && head.loss >= (head.scanned ? kLeaveLoss : kEnterLoss);
}

AuditTable::Counts CountOf(std::span<const HeadAudit> heads) {
  AuditTable::Counts counts;
  for (const HeadAudit& head : heads) {
    counts.scanned += head.scanned ? 1 : 0;
    counts.waiting += head.waiting ? 1 : 0;
  }
  return counts;
}

}  // namespace

double AuditLoss::Of(const AuditScores& audit) {
  keys_.assign(audit.num_blocks, INT32_MIN);
  for (uint32_t g = 0; g < audit.group; ++g) {
    const float* scores = audit.scores + uint64_t{g} * audit.num_blocks;
    for (uint32_t b = 0; b < audit.num_blocks; ++b) {
      keys_[b] = std::max(keys_[b], OrderedKey(scores[b]));
    }
  }
  places_.resize(audit.num_blocks);
  std::iota(places_.begin(), places_.end(), 0);
  top_k_.Keep(keys_, places_, audit.best, &best_of_all_);
  kept_keys_.clear();
  for (const int32_t place : audit.kept) {
    kept_keys_.push_back(keys_[static_cast<size_t>(place)]);
  }
  best_of_kept_.assign(audit.kept.begin(), audit.kept.end());
  if (audit.kept.size() > audit.best) {
    top_k_.Keep(kept_keys_, audit.kept, audit.best, &best_of_kept_);
  }
  double loss = 0.0;
  for (uint32_t g = 0; g < audit.group; ++g) {
    const float* scores = audit.scores + uint64_t{g} * audit.num_blocks;
    const auto outside = static_cast<double>(audit.outside[g]);
    const auto best = static_cast<double>(*std::max_element(scores, scores + audit.num_blocks));
    const double top = std::max(outside, best);
    const double all = MassOf(scores, places_, top) + std::exp2(outside - top);
    const double lost = MassOf(scores, best_of_all_, top) - MassOf(scores, best_of_kept_, top);
    loss = std::max(loss, lost / all);
  }
  return std::min(loss, 1.0);
}

AuditTable::AuditTable(uint32_t num_layers, uint32_t heads_per_layer)
    : heads_per_layer_(heads_per_layer),
      heads_(size_t{num_layers} * heads_per_layer),
      saved_(heads_.size()) {}

const HeadAudit& AuditTable::at(uint32_t layer, uint32_t head) const {
  return heads_[size_t{layer} * heads_per_layer_ + head];
}

void AuditTable::Set(uint32_t layer, uint32_t head, const HeadAudit& audit) {
  heads_[size_t{layer} * heads_per_layer_ + head] = audit;
}

void AuditTable::AddSample(uint32_t layer, uint32_t head, double loss) {
  HeadAudit& audit = heads_[size_t{layer} * heads_per_layer_ + head];
  audit.samples = std::min(audit.samples + 1, kMeanSamples);
  audit.loss += (loss - audit.loss) / audit.samples;
}

void AuditTable::Decide(size_t first, size_t count, uint32_t max_scanned) {
  wanting_.clear();
  for (size_t i = 0; i < heads_.size(); ++i) {
    if (Wants(heads_[i])) {
      wanting_.push_back(static_cast<uint32_t>(i));
    }
  }
  const size_t scanned = std::min<size_t>(max_scanned, wanting_.size());
  if (scanned < wanting_.size()) {
    std::nth_element(wanting_.begin(),
                     wanting_.begin() + static_cast<std::ptrdiff_t>(scanned),
                     wanting_.end(),
                     [&](uint32_t a, uint32_t b) {
                       return heads_[a].loss != heads_[b].loss ? heads_[a].loss > heads_[b].loss
                                                               : a < b;
                     });
  }
  for (size_t i = first; i < first + count; ++i) {
    heads_[i].scanned = false;
    heads_[i].waiting = false;
  }
  for (size_t i = 0; i < wanting_.size(); ++i) {
    if (wanting_[i] >= first && wanting_[i] < first + count) {
      heads_[wanting_[i]].scanned = i < scanned;
      heads_[wanting_[i]].waiting = i >= scanned;
    }
  }
}

void AuditTable::DecideLayer(uint32_t layer, uint32_t max_scanned) {
  Decide(size_t{layer} * heads_per_layer_, heads_per_layer_, max_scanned);
}

void AuditTable::DecideAll(uint32_t max_scanned) {
  Decide(0, heads_.size(), max_scanned);
}

void AuditTable::Save(uint32_t layer) {
  const auto first = heads_.begin() + static_cast<std::ptrdiff_t>(layer) * heads_per_layer_;
  std::copy_n(first, heads_per_layer_, saved_.begin() + (first - heads_.begin()));
}

void AuditTable::Restore(uint32_t layer) {
  const auto first = saved_.begin() + static_cast<std::ptrdiff_t>(layer) * heads_per_layer_;
  std::copy_n(first, heads_per_layer_, heads_.begin() + (first - saved_.begin()));
}

AuditTable::Counts AuditTable::Count() const {
  return CountOf(heads_);
}

AuditTable::Counts AuditTable::Change(uint32_t layer) const {
  const size_t first = size_t{layer} * heads_per_layer_;
  const Counts now = CountOf(std::span(heads_).subspan(first, heads_per_layer_));
  const Counts before = CountOf(std::span(saved_).subspan(first, heads_per_layer_));
  return {now.scanned - before.scanned, now.waiting - before.waiting};
}

bool AuditIsDue(uint64_t pos, uint32_t interval, uint64_t head, uint64_t num_heads) {
  const uint64_t steps =
      interval != 0 ? interval
                    : std::max(kLeastInterval, RoundUp((pos + 1) / kIntervalShare, kLeastInterval));
  return (pos + head * steps / num_heads) % steps == 0;
}

}  // namespace hipattn::core
