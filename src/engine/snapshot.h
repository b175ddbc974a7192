// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Snapshots: a running text as a file (docs/offload.md, "Snapshots"). After a load every step gives
// the bits that it would have given after the save. Extents: 0 the state (snapshot_state.h), then
// the index of every head (head_content.h), by layer, then the blocks of every head.
#ifndef HIPATTN_ENGINE_SNAPSHOT_H_
#define HIPATTN_ENGINE_SNAPSHOT_H_

#include "base/result.h"
#include "base/status.h"
#include "engine/engine.h"
#include "engine/state.h"

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>

namespace hipattn::engine {

// Puts the sequence in the place of what is at `path`; errors of offload::WriteSnapshot and the
// device's. The sequence goes on as if nothing had been saved.
Status SaveSnapshot(EngineState& engine,
                    SequenceState* sequence,
                    const std::string& path,
                    std::span<const std::byte> fingerprint);

// Makes the engine's empty sequence with these options.
using CreateSequence =
    std::function<Result<std::unique_ptr<Sequence>>(const AttentionOptions& options)>;

// Reads and checks all of the file. The sequence reserves nothing. Errors, nothing changed:
// kIoError (cannot be read), kCorrupt (no snapshot, or damaged; the message names what is),
// kMismatch (another version, geometry or fingerprint; with the field and both values),
// kOutOfBudget, kOutOfMemory.
Result<std::unique_ptr<Sequence>> LoadSnapshot(EngineState& engine,
                                               const std::string& path,
                                               std::span<const std::byte> fingerprint,
                                               const CreateSequence& create);

}  // namespace hipattn::engine

#endif  // HIPATTN_ENGINE_SNAPSHOT_H_
