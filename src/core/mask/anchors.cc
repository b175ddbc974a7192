// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/mask/anchors.h"

namespace hipattn::core {

uint64_t Anchors::Next(uint32_t pos) const {
  if (interval_ == 0) {
    return uint64_t{1} << 31;
  }
  return pos == chunk_begin_ ? pos : CeilDiv(uint64_t{pos}, uint64_t{interval_}) * interval_;
}

uint64_t Anchors::Tiles(const PrefillShape& shape) const {
  uint64_t rows_of_blocks = 0;
  for (uint64_t pos = Next(shape.kv_len - shape.q_len); pos < shape.kv_len;
       pos = Next(static_cast<uint32_t>(pos) + 1)) {
    rows_of_blocks += pos / kRowTile + 1;
  }
  return CeilDiv(rows_of_blocks, uint64_t{kRowTile});
}

}  // namespace hipattn::core
