// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// MemoryBudget: the bytes of one tier, everything counted: slots, tables and summaries. Nothing is
// allocated without a charge.
#ifndef HIPATTN_OFFLOAD_MEMORY_BUDGET_H_
#define HIPATTN_OFFLOAD_MEMORY_BUDGET_H_

#include "base/status.h"

#include <atomic>
#include <cstdint>

namespace hipattn::offload {

// Thread-safe.
class MemoryBudget {
 public:
  explicit MemoryBudget(uint64_t limit_bytes) : limit_(limit_bytes) {}

  // kOutOfBudget, and nothing charged, when the bytes would pass the limit.
  Status Charge(uint64_t bytes);
  void Release(uint64_t bytes) { used_.fetch_sub(bytes, std::memory_order_relaxed); }

  uint64_t limit() const { return limit_; }
  uint64_t used() const { return used_.load(std::memory_order_relaxed); }
  uint64_t peak() const { return peak_.load(std::memory_order_relaxed); }
  void ResetPeak() { peak_.store(used(), std::memory_order_relaxed); }

 private:
  const uint64_t limit_;
  std::atomic<uint64_t> used_{0};
  std::atomic<uint64_t> peak_{0};
};

}  // namespace hipattn::offload

#endif  // HIPATTN_OFFLOAD_MEMORY_BUDGET_H_
