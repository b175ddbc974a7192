// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What tells one model or text from another, for files of results that a later run goes on with.
#ifndef HIPATTN_BENCH_RECALL_FINGERPRINT_H_
#define HIPATTN_BENCH_RECALL_FINGERPRINT_H_

#include "result.h"

#include <nlohmann/json.hpp>

#include <string>

namespace recall_bench {

// Name, size, and a hash of the beginning: metadata and vocabulary. Fails for a file that cannot be
// read.
hipattn_run::Result<nlohmann::json> DescribeModel(const std::string& path);

// Name, size and hash of the text in this file.
nlohmann::json DescribeText(const std::string& path, const std::string& text);

}  // namespace recall_bench

#endif  // HIPATTN_BENCH_RECALL_FINGERPRINT_H_
