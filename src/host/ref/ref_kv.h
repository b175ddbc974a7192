// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What the references share: where one number of a stored key or value is, and how a vector is
// rotated.
#ifndef HIPATTN_HOST_REF_REF_KV_H_
#define HIPATTN_HOST_REF_REF_KV_H_

#include "base/dtype.h"
#include "device/params.h"

#include <cmath>
#include <cstddef>
#include <cstdint>

namespace hipattn::host::ref {

// Element number of dimension `dim` of the key of token `token` of a block (device/params.h: panels
// of 16 tokens).
inline size_t KeyIndex(const device::BlockPool& pool, uint32_t token, uint32_t dim) {
  const size_t panel = token / device::kPanelTokens;
  return (panel * pool.head_dim + dim) * device::kPanelTokens + token % device::kPanelTokens;
}

// The same for its value; the values follow the keys.
inline size_t ValueIndex(const device::BlockPool& pool, uint32_t token, uint32_t dim) {
  return (size_t{pool.block_tokens} + token) * pool.head_dim + dim;
}

// k, v: [head_dim], the key and value of `token` of the block in `slot`, widened. Either may be
// null.
inline void ReadToken(
    const device::BlockPool& pool, uint32_t slot, uint32_t token, float* k, float* v) {
  const std::byte* block = device::BlockAddress(pool, slot);
  for (uint32_t dim = 0; dim < pool.head_dim; ++dim) {
    if (k != nullptr) {
      k[dim] = LoadElement(block, pool.kv_dtype, KeyIndex(pool, token, dim));
    }
    if (v != nullptr) {
      v[dim] = LoadElement(block, pool.kv_dtype, ValueIndex(pool, token, dim));
    }
  }
}

// Turns row to `position`: (x, y) -> (x cos - y sin, y cos + x sin) for every pair (RoPE, arXiv
// 2104.09864, SPEC D20). The angle in f64, its cosine and sine rounded to f32, products and sums in
// f32, each rounded.
inline void RotateRow(const device::Rope& rope, int64_t position, float* row) {
  if (rope.mode == 0) {
    return;
  }
  const uint32_t half = rope.dim / 2;
  for (uint32_t pair = 0; pair < half; ++pair) {
    const uint32_t first = rope.mode == 1 ? pair : 2 * pair;
    const uint32_t second = rope.mode == 1 ? pair + half : 2 * pair + 1;
    const double angle = static_cast<double>(position) * rope.inv_freq[pair];
    const auto cosine = static_cast<float>(std::cos(angle));
    const auto sine = static_cast<float>(std::sin(angle));
    const float x = row[first];
    const float y = row[second];
    row[first] = x * cosine - y * sine;
    row[second] = y * cosine + x * sine;
  }
}

}  // namespace hipattn::host::ref

#endif  // HIPATTN_HOST_REF_REF_KV_H_
