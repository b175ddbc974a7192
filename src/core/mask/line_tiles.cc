// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/mask/line_tiles.h"

#include <algorithm>
#include <functional>

namespace hipattn::core {
namespace {

// Ascending, each once, within the text.
std::vector<uint32_t> Clean(std::span<const int32_t> lines, uint32_t kv_len) {
  std::vector<uint32_t> clean;
  clean.reserve(lines.size());
  for (const int32_t line : lines) {
    if (line >= 0 && static_cast<uint32_t>(line) < kv_len) {
      clean.push_back(static_cast<uint32_t>(line));
    }
  }
  std::sort(clean.begin(), clean.end());
  clean.erase(std::unique(clean.begin(), clean.end()), clean.end());
  return clean;
}

}  // namespace

LineTiles::LineTiles(const PrefillShape& shape,
                     std::span<const int32_t> verticals,
                     std::span<const int32_t> slashes)
    : TileSource(shape),
      verticals_(Clean(verticals, shape.kv_len)),
      slashes_(Clean(slashes, shape.kv_len)) {
  std::reverse(slashes_.begin(), slashes_.end());
  int64_t covered = 0;  // both from the tile's end
  for (uint32_t i = 0; i < slashes_.size(); ++i) {
    const int64_t edge = -int64_t{slashes_[i]};
    if (runs_.empty() || edge > covered + kRowTile) {
      runs_.push_back({i, 1});
      covered = edge;
    } else if (edge > covered) {
      ++runs_.back().num_tiles;
      covered += kRowTile;
    }
  }
}

void LineTiles::Ranges(uint32_t tile, std::vector<MaskRange>* ranges) const {
  ranges->clear();
  const uint32_t end = TileEnd(shape(), tile);
  const uint32_t limit = TileLimit(shape(), tile);
  auto slash = std::lower_bound(slashes_.begin(), slashes_.end(), end - 1, std::greater<>());
  auto run = runs_.begin();
  uint32_t covered = 0;
  for (; slash != slashes_.end(); ++slash) {
    const uint32_t edge = end - *slash;
    if (edge <= covered) {
      continue;
    }
    const uint32_t start = std::max(covered, edge < kRowTile ? 0 : edge - kRowTile);
    const auto number = static_cast<uint32_t>(slash - slashes_.begin());
    while (run != runs_.end() && run->first_slash < number) {
      ++run;
    }
    if (run != runs_.end() && run->first_slash == number && start + kRowTile == edge) {
      break;  // here the tile has caught up with those that have all slashes
    }
    covered = start + kRowTile;
    AddRange({start, covered, 0}, limit, ranges);
  }
  if (slash == slashes_.end()) {
    return;
  }
  for (; run != runs_.end(); ++run) {
    const uint32_t start = end - slashes_[run->first_slash] - kRowTile;
    AddRange({start, start + run->num_tiles * kRowTile, 0}, limit, ranges);
  }
}

}  // namespace hipattn::core
