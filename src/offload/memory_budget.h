// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// MemoryBudget: the bytes of one tier, everything counted: slots, tables and summaries. Nothing is
// allocated without a charge. A budget may be a part of another: what it is charged is charged to
// the whole, too, and neither passes its limit.
#ifndef HIPATTN_OFFLOAD_MEMORY_BUDGET_H_
#define HIPATTN_OFFLOAD_MEMORY_BUDGET_H_

#include "base/status.h"

#include <atomic>
#include <cstdint>

namespace hipattn::offload {

// Who holds bytes of a budget that others may have: a cache.
class BudgetLender {
 public:
  BudgetLender() = default;
  BudgetLender(const BudgetLender&) = delete;
  BudgetLender& operator=(const BudgetLender&) = delete;
  virtual ~BudgetLender() = default;

  // Gives back until `bytes` more fit. What cannot be had stays missing.
  virtual void GiveBack(uint64_t bytes) = 0;
};

// Thread-safe, but for Charge of a budget with a lender.
class MemoryBudget {
 public:
  // `field` is the option that sets the limit, for messages; it and `whole` outlive the budget.
  // nullptr: it is a part of none.
  explicit MemoryBudget(uint64_t limit_bytes,
                        const char* field = "device_kv_bytes",
                        MemoryBudget* whole = nullptr)
      : limit_(limit_bytes), field_(field), whole_(whole) {}

  // The lender outlives the last Charge; nullptr: there is none.
  void SetLender(BudgetLender* lender) { lender_ = lender; }

  // kOutOfBudget, and nothing charged, when the bytes would pass the limit and no lender helps.
  Status Charge(uint64_t bytes);
  // Without asking the lender; for the lender itself.
  Status ChargeOwn(uint64_t bytes);
  bool Fits(uint64_t bytes) const {
    return bytes <= limit_ && used() <= limit_ - bytes &&
           (whole_ == nullptr || whole_->Fits(bytes));
  }
  void Release(uint64_t bytes) {
    used_.fetch_sub(bytes, std::memory_order_relaxed);
    if (whole_ != nullptr) {
      whole_->Release(bytes);
    }
  }

  uint64_t limit() const { return limit_; }
  uint64_t used() const { return used_.load(std::memory_order_relaxed); }
  uint64_t peak() const { return peak_.load(std::memory_order_relaxed); }
  void ResetPeak() { peak_.store(used(), std::memory_order_relaxed); }

 private:
  bool TryCharge(uint64_t bytes);

  const uint64_t limit_;
  const char* const field_;
  MemoryBudget* const whole_;
  BudgetLender* lender_ = nullptr;
  std::atomic<uint64_t> used_{0};
  std::atomic<uint64_t> peak_{0};
};

}  // namespace hipattn::offload

#endif  // HIPATTN_OFFLOAD_MEMORY_BUDGET_H_
