// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Checks of pointers, shapes and overlaps of the calls that compute. What needs the state of the
// sequences (lengths, external block numbers, room) is the engine's to check.
#ifndef HIPATTN_API_ATTEND_CHECK_H_
#define HIPATTN_API_ATTEND_CHECK_H_

#include "hipattn/hipattn.h"

#include "base/status.h"
#include "engine/engine.h"

#include <vector>

namespace hipattn::api {

// Sequences of one call: enough for any batch, and a wrong count is found before an array that
// does not exist is read to its end.
inline constexpr uint32_t kMaxBatchSequences = 65536;

// Fills *args, whose sequences are those of *sequences, the caller's to keep until the call is
// over.
Status CheckAttend(const hipattn_engine_t& engine,
                   const hipattn_attend_args_t* given,
                   std::vector<engine::Sequence*>* sequences,
                   engine::AttendArgs* args);

Status CheckMerge(const engine::MergeArgs& args);

}  // namespace hipattn::api

#endif  // HIPATTN_API_ATTEND_CHECK_H_
