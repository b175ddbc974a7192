// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The prefill rows of a call: dense, by masks (masked_prefill.h), or HiP (hip_prefill.h: one search
// per block of 64 rows, cut where positions are multiples of 64, then every row attends sinks,
// selection and its own window; SPEC D3, D7). Over keys that are stored un-rotated, and in large
// groups, rows attend one by one.
#ifndef HIPATTN_ENGINE_PREFILL_STEP_H_
#define HIPATTN_ENGINE_PREFILL_STEP_H_

#include "base/status.h"

namespace hipattn::engine {

struct Call;

Status RunPrefill(Call* call);

}  // namespace hipattn::engine

#endif  // HIPATTN_ENGINE_PREFILL_STEP_H_
