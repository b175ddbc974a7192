// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Reads one node out of a group of int8 summaries (device/params.h, SummaryLevel), without its
// scales.
#ifndef HIPATTN_HOST_REF_REF_SUMMARY_H_
#define HIPATTN_HOST_REF_REF_SUMMARY_H_

#include "device/params.h"

#include <cstddef>
#include <cstdint>

namespace hipattn::host::ref {

// The 8 children of one node; `child` below is 0 .. 7.
class SummaryGroup {
 public:
  SummaryGroup(const device::SummaryLevel& level,
               uint32_t head_dim,
               bool has_spread,
               uint32_t group)
      : has_spread_(has_spread),
        data_(device::SummaryGroupAddress(
            level, device::SummaryGroupBytes(head_dim, has_spread), group)) {}

  float scale_m(uint32_t child) const { return scales()[child]; }
  float scale_w(uint32_t child) const { return scales()[kFanOut + child]; }
  int32_t m(uint32_t child, uint32_t dim) const {
    return lanes()[device::SummaryPlace(has_spread_, 0, child, dim)];
  }
  // 0 without spread.
  int32_t w(uint32_t child, uint32_t dim) const {
    return has_spread_ ? lanes()[device::SummaryPlace(true, 1, child, dim)] : 0;
  }

 private:
  const float* scales() const { return reinterpret_cast<const float*>(data_); }
  const int8_t* lanes() const {
    return reinterpret_cast<const int8_t*>(data_ + 2 * kFanOut * sizeof(float));
  }

  bool has_spread_;
  const std::byte* data_;
};

}  // namespace hipattn::host::ref

#endif  // HIPATTN_HOST_REF_REF_SUMMARY_H_
