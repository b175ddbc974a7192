// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "offload/memory_budget.h"

namespace hipattn::offload {

bool MemoryBudget::TryCharge(uint64_t bytes) {
  uint64_t used = used_.load(std::memory_order_relaxed);
  do {
    if (bytes > limit_ || used > limit_ - bytes) {
      return false;
    }
  } while (!used_.compare_exchange_weak(used, used + bytes, std::memory_order_relaxed));
  uint64_t peak = peak_.load(std::memory_order_relaxed);
  while (peak < used + bytes &&
         !peak_.compare_exchange_weak(peak, used + bytes, std::memory_order_relaxed)) {
  }
  return true;
}

Status MemoryBudget::ChargeOwn(uint64_t bytes) {
  if (!TryCharge(bytes)) {
    return OutOfBudget(
        field_, " is ", limit_, ", of which ", used(), " are in use: no room for ", bytes, " more");
  }
  Status charged = whole_ == nullptr ? Status::Ok() : whole_->Charge(bytes);
  if (!charged.ok()) {
    used_.fetch_sub(bytes, std::memory_order_relaxed);
  }
  return charged;
}

Status MemoryBudget::Charge(uint64_t bytes) {
  Status charged = ChargeOwn(bytes);
  if (charged.ok() || lender_ == nullptr) {
    return charged;
  }
  lender_->GiveBack(bytes);
  return ChargeOwn(bytes);
}

}  // namespace hipattn::offload
