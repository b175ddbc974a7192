// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/mask/prefill_shape.h"

namespace hipattn::core {

Status CheckShape(const PrefillShape& shape) {
  if (shape.q_len == 0 || shape.q_len > shape.kv_len) {
    return InvalidArgument(
        "q_len is ", shape.q_len, ", must be 1 to kv_len, which is ", shape.kv_len);
  }
  if (shape.kv_len > uint32_t{INT32_MAX}) {
    return InvalidArgument("kv_len is ", shape.kv_len, ", must be below 2^31");
  }
  return Status::Ok();
}

uint64_t CausalTiles(const PrefillShape& shape) {
  uint64_t tiles = 0;
  for (uint32_t tile = 0; tile < NumRowTiles(shape); ++tile) {
    tiles += CeilDiv(TileLimit(shape, tile), kRowTile);
  }
  return tiles;
}

}  // namespace hipattn::core
