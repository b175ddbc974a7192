// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// More lines for a vertical-slash head that loses mass (prefill SPEC 8.6): the steps by which
// Qwen2.5-1M's files were made from MInference's (arXiv 2501.15383).
#ifndef HIPATTN_CORE_PATTERN_REFINE_H_
#define HIPATTN_CORE_PATTERN_REFINE_H_

#include <cstdint>

namespace hipattn::core {

// What to add to both numbers of lines of a head with this recall; 0: enough. Repeat until then.
constexpr uint32_t RefineStep(double recall) {
  return recall >= 0.9   ? 0
         : recall >= 0.8 ? 2048
         : recall >= 0.7 ? 4096
         : recall >= 0.6 ? 8192
                         : 12244;
}

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_PATTERN_REFINE_H_
