// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// One hipattn_attend: check everything, make room, append, summarise, attend, and only then raise
// the lengths.
#ifndef HIPATTN_ENGINE_ATTEND_H_
#define HIPATTN_ENGINE_ATTEND_H_

#include "base/status.h"
#include "engine/engine.h"

namespace hipattn::engine {

struct EngineState;

// On an error nothing was appended in any sequence.
Status RunAttend(EngineState& engine, const AttendArgs& args);

}  // namespace hipattn::engine

#endif  // HIPATTN_ENGINE_ATTEND_H_
