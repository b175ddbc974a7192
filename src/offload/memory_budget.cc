// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "offload/memory_budget.h"

namespace hipattn::offload {

Status MemoryBudget::Charge(uint64_t bytes) {
  uint64_t used = used_.load(std::memory_order_relaxed);
  do {
    if (bytes > limit_ || used > limit_ - bytes) {
      return OutOfBudget("device_kv_bytes is ",
                         limit_,
                         ", of which ",
                         used,
                         " are in use: no room for ",
                         bytes,
                         " more");
    }
  } while (!used_.compare_exchange_weak(used, used + bytes, std::memory_order_relaxed));
  uint64_t peak = peak_.load(std::memory_order_relaxed);
  while (peak < used + bytes &&
         !peak_.compare_exchange_weak(peak, used + bytes, std::memory_order_relaxed)) {
  }
  return Status::Ok();
}

}  // namespace hipattn::offload
