// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/refresh.h"

namespace hipattn::core {

uint32_t RefreshStage(std::span<const uint32_t> intervals, uint64_t step) {
  uint32_t stage = 0;
  while (stage < intervals.size() && step % intervals[stage] != 0) {
    ++stage;
  }
  return stage;
}

}  // namespace hipattn::core
