// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/mask/mask_build.h"

#include <algorithm>
#include <span>
#include <vector>

namespace hipattn::core {
namespace {

static_assert(sizeof(MaskRange) == 12 && alignof(MaskRange) == 4);
static_assert(sizeof(ColumnInterval) == 8 && alignof(ColumnInterval) == 4);

// Calls emit(ColumnInterval) for the gap before each range and for the last one.
template <typename Emit>
void ForEachGap(std::span<const MaskRange> ranges,
                std::span<const uint32_t> columns,
                uint32_t limit,
                const Emit& emit) {
  const uint32_t* place = columns.data();
  const uint32_t* last = place + columns.size();
  const auto number = [&](const uint32_t* at) {
    return static_cast<uint32_t>(at - columns.data());
  };
  for (const MaskRange& range : ranges) {
    const uint32_t* end = std::lower_bound(place, last, range.begin);
    emit(ColumnInterval{number(place), number(end)});
    place = std::lower_bound(end, last, range.end);
  }
  emit(ColumnInterval{number(place), number(std::lower_bound(place, last, limit))});
}

uint64_t TilesOf(std::span<const MaskRange> ranges) {
  uint64_t tiles = 0;
  for (size_t i = 0; i < ranges.size();) {
    const uint32_t begin = ranges[i].begin;
    uint32_t end = begin;
    for (; i < ranges.size() && ranges[i].begin == end; ++i) {
      end = ranges[i].end;
    }
    tiles += CeilDiv(end - begin, kRowTile);
  }
  return tiles;
}

}  // namespace

uint64_t MaskSize::bytes() const {
  return (uint64_t{num_tiles} + 1 + num_columns) * sizeof(uint32_t) +
         num_ranges * sizeof(MaskRange) + num_intervals() * sizeof(ColumnInterval);
}

Result<MaskSize> MeasureMask(const TileSource& source) {
  MaskSize size;
  size.num_tiles = NumRowTiles(source.shape());
  size.num_columns = static_cast<uint32_t>(source.columns().size());
  uint64_t num_ranges = 0;
  std::vector<MaskRange> ranges;
  for (uint32_t tile = 0; tile < size.num_tiles; ++tile) {
    source.Ranges(tile, &ranges);
    num_ranges += ranges.size();
    uint32_t num_columns = 0;
    ForEachGap(
        ranges, source.columns(), TileLimit(source.shape(), tile), [&](const ColumnInterval& gap) {
          num_columns += gap.end - gap.begin;
        });
    size.computed_tiles += TilesOf(ranges) + CeilDiv(num_columns, kRowTile);
  }
  if (num_ranges > UINT32_MAX) {
    return Unsupported("a mask of ", num_ranges, " ranges, at most 2^32 - 1");
  }
  size.num_ranges = static_cast<uint32_t>(num_ranges);
  return size;
}

PrefillMask FillMask(const TileSource& source, const MaskSize& size, std::byte* memory) {
  auto* range_ptr = reinterpret_cast<uint32_t*>(memory);
  auto* all_ranges = reinterpret_cast<MaskRange*>(range_ptr + size.num_tiles + 1);
  auto* intervals = reinterpret_cast<ColumnInterval*>(all_ranges + size.num_ranges);
  auto* columns = reinterpret_cast<uint32_t*>(intervals + size.num_intervals());
  const PrefillMask mask = {
      range_ptr, all_ranges, intervals, columns, size.num_tiles, size.num_columns, source.window()};
  std::copy(source.columns().begin(), source.columns().end(), columns);
  std::vector<MaskRange> ranges;
  *range_ptr = 0;
  for (uint32_t tile = 0; tile < size.num_tiles; ++tile) {
    source.Ranges(tile, &ranges);
    all_ranges = std::copy(ranges.begin(), ranges.end(), all_ranges);
    range_ptr[tile + 1] = range_ptr[tile] + static_cast<uint32_t>(ranges.size());
    ForEachGap(
        ranges, source.columns(), TileLimit(source.shape(), tile), [&](const ColumnInterval& gap) {
          *intervals++ = gap;
        });
  }
  return mask;
}

}  // namespace hipattn::core
