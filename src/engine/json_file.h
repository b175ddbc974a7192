// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The JSON files that an engine reads and writes, as texts.
#ifndef HIPATTN_ENGINE_JSON_FILE_H_
#define HIPATTN_ENGINE_JSON_FILE_H_

#include "base/result.h"
#include "base/status.h"

#include <string>
#include <string_view>

namespace hipattn::engine {

// kIoError: the file cannot be read. kCorrupt: it has more than 64 MB, which a million heads do not
// fill.
Result<std::string> ReadJsonFile(const std::string& path);

// Writes another file beside `path` and renames it: a write that fails leaves what was there.
// kIoError.
Status WriteJsonFile(const std::string& path, std::string_view text);

}  // namespace hipattn::engine

#endif  // HIPATTN_ENGINE_JSON_FILE_H_
