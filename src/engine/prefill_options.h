// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Options of sparse prefill (the prefill_ fields of hipattn_attention_options): what each mode
// takes, its defaults, and the constants of this release that decide when a mask is worth it.
#ifndef HIPATTN_ENGINE_PREFILL_OPTIONS_H_
#define HIPATTN_ENGINE_PREFILL_OPTIONS_H_

#include "base/status.h"
#include "core/mask/density.h"
#include "engine/options.h"

namespace hipattn::engine {

// Whether prefill chunks of the mode attend a mask (core/mask).
bool PrefillsMasked(PrefillMode mode);

// Checks the fields and puts in the mode's defaults; AUTO becomes DENSE.
Status ResolvePrefill(AttentionOptions* options);

// When a head of a masked prefill runs dense all the same. A constant of the release, so that
// results do not depend on the machine's speed: a mask's tiles were seen to take up to 1.13 times a
// dense one's, estimates some percent more (docs/measurements/kernels.md).
inline constexpr core::DenseRules kPrefillDenseRules = {-1, 0, 1.15};

}  // namespace hipattn::engine

#endif  // HIPATTN_ENGINE_PREFILL_OPTIONS_H_
