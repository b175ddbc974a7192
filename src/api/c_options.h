// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Option structs of hipattn.h to and from those of the engine. Values are checked by the Resolve
// functions of engine/options.h; here is checked what only the C form can get wrong.
#ifndef HIPATTN_API_C_OPTIONS_H_
#define HIPATTN_API_C_OPTIONS_H_

#include "hipattn/hipattn.h"

#include "base/status.h"
#include "engine/options.h"

namespace hipattn::api {

// kInvalidArgument: NULL, struct_size, reserved. kUnsupported: strings of tiers and pools.
Result<engine::EngineOptions> ReadEngineOptions(const hipattn_engine_options_t* given);

// NULL gives the defaults. `name` is the parameter in messages.
Result<engine::AttentionOptions> ReadAttentionOptions(const char* name,
                                                      const hipattn_attention_options_t* given);

// REQUIRES: CheckStructSize(to). Pointers in *to live as long as `options`.
void WriteEngineOptions(const engine::EngineOptions& options, hipattn_engine_options_t* to);

}  // namespace hipattn::api

#endif  // HIPATTN_API_C_OPTIONS_H_
