// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Head profiles: what the audits of a text learnt of a model's heads, as a JSON file
// (docs/search.md, "Audit"). One object with `format`, `version`, the geometry (`num_layers`,
// `num_q_heads`, `num_kv_heads`, `head_dim`) and `heads`, every head once in any order: `layer`,
// `kv_head`, `loss`, `samples`, `mode` ("tree" or "scan"). Nothing else may be in it.
#ifndef HIPATTN_ENGINE_PROFILE_H_
#define HIPATTN_ENGINE_PROFILE_H_

#include "base/result.h"
#include "base/status.h"
#include "core/search/audit.h"
#include "engine/options.h"

#include <string>

namespace hipattn::engine {

// kIoError: the file cannot be read. kCorrupt: it is no profile, or damaged. kMismatch: of another
// geometry or version. The message names the field.
Result<core::AuditTable> ReadProfile(const std::string& path, const EngineOptions& engine);

// Writes another file beside `path` and renames it: a write that fails leaves what was there.
// kIoError.
Status WriteProfile(const std::string& path,
                    const EngineOptions& engine,
                    const core::AuditTable& audits);

}  // namespace hipattn::engine

#endif  // HIPATTN_ENGINE_PROFILE_H_
