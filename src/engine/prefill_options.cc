// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "engine/prefill_options.h"

#include "core/pattern/candidates.h"
#include "core/pattern/flash_select.h"
#include "core/pattern/flex_select.h"
#include "core/pattern/xattention_select.h"

#include <algorithm>
#include <cmath>

namespace hipattn::engine {
namespace {

constexpr uint32_t kDefaultLastQ = 64;

// Of the root of the text's length: twice as many columns for four times the text.
constexpr double kAutoVerticals = 24.0;
// An estimate takes as long as dense attention of so many rows, selection and packing included.
constexpr uint64_t kEstimateRows = 100;
constexpr uint64_t kEstimatesPerChunk = 33;  // one is 3 % of it

// What a mode takes of prefill_sizes, and what 0 stands for.
struct ModeSizes {
  uint32_t count;
  uint32_t defaults[2];
};

ModeSizes SizesOf(PrefillMode mode) {
  switch (mode) {
    case PrefillMode::kAShape:
      return {2, {core::kTargetPattern.a, core::kTargetPattern.b}};
    case PrefillMode::kVerticalSlash:
      return {2, {core::HeadPattern{}.a, core::HeadPattern{}.b}};
    case PrefillMode::kBlockSparse:
      return {1, {core::kDefaultBlocks, 0}};
    default:
      return {0, {0, 0}};
  }
}

bool HasEstimate(PrefillMode mode) {
  return mode == PrefillMode::kVerticalSlash || mode == PrefillMode::kPatterns;
}

Status ResolveSizes(AttentionOptions* options) {
  const ModeSizes sizes = SizesOf(options->prefill());
  for (uint32_t i = 0; i < 2; ++i) {
    uint32_t& size = options->prefill_sizes[i];
    if (i >= sizes.count && size != 0) {
      return InvalidArgument("prefill_sizes[",
                             i,
                             "] is ",
                             size,
                             ", prefill_mode ",
                             options->prefill_mode,
                             " takes ",
                             sizes.count);
    }
    if (size > kMaxTokens) {
      return InvalidArgument("prefill_sizes[", i, "] is ", size, ", must be at most ", kMaxTokens);
    }
    size = size == 0 ? sizes.defaults[i] : size;
  }
  return Status::Ok();
}

Status ResolveLastQ(AttentionOptions* options) {
  uint32_t& last_q = options->prefill_last_q;
  if (last_q != 0 && last_q != 64 && last_q != 128 && last_q != 256 && last_q != 512) {
    return InvalidArgument("prefill_last_q is ", last_q, ", must be 64, 128, 256 or 512");
  }
  if (last_q != 0 && !HasEstimate(options->prefill())) {
    return InvalidArgument("prefill_last_q is ",
                           last_q,
                           ", prefill_mode ",
                           options->prefill_mode,
                           " estimates no lines");
  }
  if (last_q == 0 && HasEstimate(options->prefill())) {
    last_q = kDefaultLastQ;
  }
  return Status::Ok();
}

// What 0 stands for; 0: the mode has no threshold.
double DefaultThreshold(PrefillMode mode) {
  return mode == PrefillMode::kFlex         ? core::FlexOptions{}.gamma
         : mode == PrefillMode::kXAttention ? core::kXAttentionThreshold
         : mode == PrefillMode::kFlashV2    ? core::FlashOptions{}.alpha
                                            : 0.0;
}

Status ResolveThreshold(AttentionOptions* options) {
  float& threshold = options->prefill_threshold;
  const double standard = DefaultThreshold(options->prefill());
  if (standard == 0.0 && threshold != 0.0F) {
    return InvalidArgument(
        "prefill_threshold is ", threshold, ", prefill_mode ", options->prefill_mode, " has none");
  }
  if (!(threshold >= 0.0F && threshold <= 1.0F)) {
    return InvalidArgument("prefill_threshold is ", threshold, ", must be in (0, 1], or 0");
  }
  threshold = threshold == 0.0F ? static_cast<float>(standard) : threshold;
  return Status::Ok();
}

}  // namespace

bool PrefillsMasked(PrefillMode mode) {
  return mode != PrefillMode::kAuto && mode != PrefillMode::kDense && mode != PrefillMode::kHip;
}

bool AutoTakesPatterns(const core::PrefillShape& chunk) {
  const uint64_t seen = 2 * uint64_t{chunk.kv_len} - chunk.q_len;  // by a mean row, twice
  return chunk.q_len * seen >= 2 * kEstimatesPerChunk * kEstimateRows * chunk.kv_len;
}

core::LineBudget AutoLines(uint32_t kv_len) {
  const double verticals = kAutoVerticals * std::sqrt(static_cast<double>(kv_len));
  return {RoundUp(static_cast<uint32_t>(verticals), kRowTile), core::kForcedSlashes};
}

void ChoosePrefill(const AutoPrefill& by, AttentionOptions* options) {
  if (options->prefill_delta_interval == 1) {
    options->prefill_mode = static_cast<uint32_t>(PrefillMode::kDense);
  }
  if (options->prefill() != PrefillMode::kAuto) {
    return;
  }
  if (!by.keys_rotated || by.chunk.kv_len <= kAutoDenseUpTo || by.chunk.q_len < kAutoLeastRows) {
    options->prefill_mode = static_cast<uint32_t>(PrefillMode::kDense);
    return;
  }
  options->prefill_last_q = kDefaultLastQ;
  if (by.has_patterns) {
    const bool takes = AutoTakesPatterns(by.chunk);
    options->prefill_mode =
        static_cast<uint32_t>(takes ? PrefillMode::kPatterns : PrefillMode::kDense);
    return;
  }
  options->prefill_mode = static_cast<uint32_t>(PrefillMode::kVerticalSlash);
  const core::LineBudget lines = AutoLines(by.chunk.kv_len);
  options->prefill_sizes[0] = lines.verticals;
  options->prefill_sizes[1] = lines.slashes;
}

Status ResolvePrefill(AttentionOptions* options) {
  const PrefillMode mode = options->prefill();
  HIPATTN_RETURN_IF_ERROR(ResolveSizes(options));
  HIPATTN_RETURN_IF_ERROR(ResolveLastQ(options));
  if (options->prefill_delta_interval != 0 && mode == PrefillMode::kDense) {
    return InvalidArgument("prefill_delta_interval is ",
                           options->prefill_delta_interval,
                           ", prefill_mode ",
                           options->prefill_mode,
                           " has nothing to correct");
  }
  HIPATTN_RETURN_IF_ERROR(ResolveThreshold(options));
  const float skip = options->prefill_skip_threshold;
  if (!(skip >= 0.0F && skip < 1.0F)) {
    return InvalidArgument("prefill_skip_threshold is ", skip, ", must be in [0, 1)");
  }
  if (skip != 0.0F && !PrefillsMasked(mode) && mode != PrefillMode::kAuto) {
    return InvalidArgument("prefill_skip_threshold is ",
                           skip,
                           ", prefill_mode ",
                           options->prefill_mode,
                           " skips nothing");
  }
  return Status::Ok();
}

}  // namespace hipattn::engine
