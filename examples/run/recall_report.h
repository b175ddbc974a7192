// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// A RecallLog as JSON and as text for people.
#ifndef HIPATTN_EXAMPLES_RUN_RECALL_REPORT_H_
#define HIPATTN_EXAMPLES_RUN_RECALL_REPORT_H_

#include "recall_log.h"

#include <nlohmann/json.hpp>

#include <string>

namespace hipattn_run {

// null where nothing is known.
nlohmann::json RecallToJson(const RecallLog& log);

// One line per layer: means over its heads, the least true share of any step, the worst audited
// loss, scanned kv heads; and one line for all.
std::string FormatRecall(const RecallLog& log);

}  // namespace hipattn_run

#endif  // HIPATTN_EXAMPLES_RUN_RECALL_REPORT_H_
