// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Single tokens of a block as rows of floats, for the ops that cannot work on whole panels.
// Compiled once per instruction set.
#ifndef HIPATTN_HOST_KERNELS_TOKEN_ROWS_H_
#define HIPATTN_HOST_KERNELS_TOKEN_ROWS_H_

#include "device/params.h"
#include "host/kernels/dispatch.h"
#include "host/vec/vec.h"

#include <cstddef>
#include <cstdint>

namespace hipattn::host::HIPATTN_ISA {

// Where the key of a token begins in its panel; dimension d is kPanelTokens * d elements further
// on.
template <typename Tag>
static inline typename Tag::Elem* KeyLane(std::byte* block, uint32_t head_dim, uint32_t token) {
  const size_t panel = token / device::kPanelTokens;
  return reinterpret_cast<typename Tag::Elem*>(block) + panel * head_dim * device::kPanelTokens +
         token % device::kPanelTokens;
}

// The value of a token: head_dim elements in a row.
template <typename Tag>
static inline typename Tag::Elem* ValueRow(std::byte* block,
                                           const device::BlockPool& pool,
                                           uint32_t token) {
  return reinterpret_cast<typename Tag::Elem*>(block) +
         (size_t{pool.block_tokens} + token) * pool.head_dim;
}

// row[0, head_dim) = the key of one token, widened. Reads no other token's lane.
template <typename Tag>
static inline void ReadKey(
    Tag tag, const device::BlockPool& pool, std::byte* block, uint32_t token, float* row) {
  const typename Tag::Elem* lane = KeyLane<Tag>(block, pool.head_dim, token);
  typename Tag::Elem compact[device::kMaxHeadDim];
  for (uint32_t dim = 0; dim < pool.head_dim; ++dim) {
    compact[dim] = lane[size_t{dim} * device::kPanelTokens];
  }
  ConvertRow(F32{}, row, tag, compact, static_cast<int>(pool.head_dim));
}

// a . b over `count` numbers, a multiple of 8; the order of the sum depends on count alone.
static inline float Dot(const float* a, const float* b, int count) {
  VF sum = Zero();
  int i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    sum = MulAdd(Load(a + i), Load(b + i), sum);
  }
  if (i < count) {
    sum = MulAdd(LoadFirst(a + i, count - i), LoadFirst(b + i, count - i), sum);
  }
  return ReduceAdd(sum);
}

}  // namespace hipattn::host::HIPATTN_ISA

#endif  // HIPATTN_HOST_KERNELS_TOKEN_ROWS_H_
