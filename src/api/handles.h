// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What the opaque handles of the C API are. Sequences of one engine may be used from several
// threads, the engine itself works for one at a time: every call that is not thread-safe below
// holds the engine's mutex, which the handles share because either may go first.
#ifndef HIPATTN_API_HANDLES_H_
#define HIPATTN_API_HANDLES_H_

#include "hipattn/hipattn.h"

#include "engine/engine.h"

#include <memory>
#include <mutex>

namespace hipattn::api {

struct SharedEngine {
  std::shared_ptr<engine::Engine> engine;
  std::mutex mutex;
};

}  // namespace hipattn::api

struct hipattn_engine {
  std::shared_ptr<hipattn::api::SharedEngine> shared;
};

struct hipattn_sequence {
  std::shared_ptr<hipattn::api::SharedEngine> shared;  // outlives the sequence below
  std::unique_ptr<hipattn::engine::Sequence> sequence;
};

#endif  // HIPATTN_API_HANDLES_H_
