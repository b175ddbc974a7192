// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/mask/block_tiles.h"

#include <algorithm>

namespace hipattn::core {

// The window's keys in [begin, end).
void BlockTiles::AddWindow(uint32_t begin,
                           uint32_t end,
                           uint32_t tile,
                           std::vector<MaskRange>* ranges) const {
  const uint32_t seen = TilePosition(shape(), tile) + 1;  // by the tile's first row
  if (window_tokens_ == 0) {
    return;
  }
  begin = std::max(begin, seen > window_tokens_ ? seen - window_tokens_ : 0);
  const uint32_t limit = TileLimit(shape(), tile);
  const bool cuts = begin < limit && limit - 1 - begin >= window_tokens_;
  AddRange({begin, end, cuts ? 1U : 0U}, limit, ranges);
}

void BlockTiles::Ranges(uint32_t tile, std::vector<MaskRange>* ranges) const {
  ranges->clear();
  const uint32_t limit = TileLimit(shape(), tile);
  uint32_t done = std::min(sink_tokens_, limit);
  AddRange({0, done, 0}, limit, ranges);
  if (lists_ != nullptr) {
    for (const int32_t block : lists_->List(tile / lists_->tiles_per_list)) {
      const uint64_t first = uint64_t{static_cast<uint32_t>(block)} * lists_->block_tokens;
      const auto begin = static_cast<uint32_t>(std::clamp<uint64_t>(first, done, limit));
      const auto end =
          static_cast<uint32_t>(std::clamp<uint64_t>(first + lists_->block_tokens, begin, limit));
      if (begin < end) {
        AddWindow(done, begin, tile, ranges);
        AddRange({begin, end, 0}, limit, ranges);
        done = end;
      }
    }
  }
  AddWindow(done, limit, tile, ranges);
}

}  // namespace hipattn::core
