// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Audits of a call: for some of its query rows, what a scan of all sketches finds and the tree does
// not (core/search/audit.h). They change the losses of a sequence's heads; modes follow from the
// losses before a decode step searches.
#ifndef HIPATTN_ENGINE_AUDIT_H_
#define HIPATTN_ENGINE_AUDIT_H_

#include "base/status.h"
#include "engine/state.h"

#include <cstdint>

namespace hipattn::engine {

struct Call;
struct Part;

// Rows of a prefill between two audited ones, at fixed positions: where a prompt is cut does not
// matter. The row before each multiple of it is audited.
inline constexpr uint32_t kPrefillAuditRows = 256;

// All kv heads, for the audited rows of the call's prefill parts.
Status AuditPrefill(Call* call);

// The kv heads whose turn it is, for one decode row of `part`: row `row` of the call, at `pos`.
Status AuditDecode(Call* call, const Part& part, uint64_t row, uint64_t pos);

// Sets the modes of the call's layer from the losses.
void DecideModes(const Call& call, const Part& part);

// Keeps the engine's number of scanned heads in step with a sequence's.
void CountModes(EngineState& engine, const core::AuditTable::Counts& change);

// Gives a sequence the losses and modes of another, of the engine's profile, or of a snapshot.
void AdoptAudits(EngineState& engine, const core::AuditTable& audits, SequenceState* sequence);

}  // namespace hipattn::engine

#endif  // HIPATTN_ENGINE_AUDIT_H_
