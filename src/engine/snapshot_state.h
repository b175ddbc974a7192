// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What a snapshot says of a sequence beside its heads' content (docs/offload.md, "Snapshots"): of
// which model and text it is, the attention options, and per layer and head what the next step
// builds on. Reading checks every number against the engine and the others, so that what has been
// read can be run, whoever wrote the file.
#ifndef HIPATTN_ENGINE_SNAPSHOT_STATE_H_
#define HIPATTN_ENGINE_SNAPSHOT_STATE_H_

#include "base/result.h"
#include "base/status.h"
#include "engine/options.h"
#include "engine/state.h"

#include <cstddef>
#include <span>
#include <vector>

namespace hipattn::engine {

// REQUIRES: layers whose estimate is not known have none.
std::vector<std::byte> WriteState(const EngineOptions& engine,
                                  const SequenceState& sequence,
                                  std::span<const std::byte> fingerprint);

// The bytes of WriteState, read in the order they were written: first ReadOptions, then ReadLayers.
class StateReader {
 public:
  // `bytes` outlives the reader.
  explicit StateReader(std::span<const std::byte> bytes) : left_(bytes) {}

  // The sequence's options. kMismatch: the snapshot is of another geometry (the message has the
  // field and both values) or fingerprint; kCorrupt: the bytes are no state.
  Result<AttentionOptions> ReadOptions(const EngineOptions& engine,
                                       std::span<const std::byte> fingerprint);

  // Fills the layers of a sequence that has those options and no tokens; its stores get no room.
  // The audits of its heads. kCorrupt.
  Result<core::AuditTable> ReadLayers(const EngineOptions& engine, SequenceState* sequence);

 private:
  std::span<const std::byte> left_;
};

}  // namespace hipattn::engine

#endif  // HIPATTN_ENGINE_SNAPSHOT_STATE_H_
