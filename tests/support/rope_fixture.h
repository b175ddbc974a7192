// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The ways of rotation that ops are tested with: none, both layouts, a part of the dimensions.
#ifndef HIPATTN_TESTS_SUPPORT_ROPE_FIXTURE_H_
#define HIPATTN_TESTS_SUPPORT_ROPE_FIXTURE_H_

#include "device/params.h"

#include <cmath>
#include <cstdint>
#include <vector>

namespace hipattn::testing {

struct RopeKind {
  uint32_t mode;
  std::vector<double> inv_freq;

  // Points into this object.
  device::Rope rope() const {
    if (mode == 0) {
      return {};
    }
    return {mode, static_cast<uint32_t>(2 * inv_freq.size()), inv_freq.data()};
  }
};

// The usual frequencies, base^(-2i / dim).
inline RopeKind MakeRope(uint32_t mode, uint32_t dim, double base = 10000) {
  RopeKind kind{mode, {}};
  for (uint32_t pair = 0; pair < dim / 2; ++pair) {
    kind.inv_freq.push_back(std::pow(base, -2.0 * pair / dim));
  }
  return kind;
}

inline std::vector<RopeKind> RopeKinds(uint32_t head_dim) {
  return {{0, {}}, MakeRope(1, head_dim), MakeRope(2, head_dim), MakeRope(1, head_dim / 2 - 2)};
}

}  // namespace hipattn::testing

#endif  // HIPATTN_TESTS_SUPPORT_ROPE_FIXTURE_H_
