// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Options of sparse prefill (the prefill_ fields of hipattn_attention_options): what each mode
// takes, its defaults, and the constants of this release that decide when a mask is worth it.
#ifndef HIPATTN_ENGINE_PREFILL_OPTIONS_H_
#define HIPATTN_ENGINE_PREFILL_OPTIONS_H_

#include "base/status.h"
#include "core/mask/density.h"
#include "core/pattern/line_select.h"
#include "engine/options.h"

namespace hipattn::engine {

// Whether prefill chunks of the mode attend a mask (core/mask).
bool PrefillsMasked(PrefillMode mode);

// Checks the fields and puts in the mode's defaults. AUTO stays: what it is depends on the chunk.
Status ResolvePrefill(AttentionOptions* options);

// What AUTO goes by beside the options.
struct AutoPrefill {
  core::PrefillShape chunk;
  bool keys_rotated = true;   // masks need it
  bool has_patterns = false;  // the engine has loaded some
};

// Puts what AUTO is for a chunk in its place: dense, patterns, or vertical-slash of AutoLines. A
// delta correction of every row becomes dense attention, which it is.
void ChoosePrefill(const AutoPrefill& by, AttentionOptions* options);

// When a head of a masked prefill runs dense all the same. A constant of the release, so that
// results do not depend on the machine's speed: a mask's tiles were seen to take up to 1.13 times a
// dense one's, estimates some percent more (docs/measurements/kernels.md).
inline constexpr core::DenseRules kPrefillDenseRules = {-1, 0, 1.15};

// Constants of AUTO (docs/measurements/prefill.md). It is dense for texts that end up to here with
// the chunk: the third of a short prompt's time that attention takes is not worth what masks lose.
inline constexpr uint32_t kAutoDenseUpTo = 4096;
// And for chunks of fewer rows, whose estimate costs too much of what it saves.
inline constexpr uint32_t kAutoLeastRows = 512;
// Whether an estimate for nothing costs at most 3 % of the chunk's dense attention, which it does
// where the density guard refuses a pattern. AutoLines are never refused.
bool AutoTakesPatterns(const core::PrefillShape& chunk);
// Columns and diagonals of AUTO's vertical-slash heads, where there are no patterns. The diagonals
// are the nearest alone, a window.
core::LineBudget AutoLines(uint32_t kv_len);

}  // namespace hipattn::engine

#endif  // HIPATTN_ENGINE_PREFILL_OPTIONS_H_
