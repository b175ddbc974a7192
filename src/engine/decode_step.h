// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The decode rows of a call: choose what each attends (dense, searched, kept from an earlier step,
// or picked from outside), attend, and note what the recall estimate will need.
//
// Rows of one sequence are steps one after the other; rows of different sequences go together.
#ifndef HIPATTN_ENGINE_DECODE_STEP_H_
#define HIPATTN_ENGINE_DECODE_STEP_H_

#include "base/status.h"

namespace hipattn::engine {

struct Call;

Status RunDecode(Call* call);

}  // namespace hipattn::engine

#endif  // HIPATTN_ENGINE_DECODE_STEP_H_
