// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The keys of one query row as a list of token ranges: sinks, selected leaves and window merged,
// every visible key once (SPEC D2, D3), cut at block edges. The list depends on the set of keys
// alone, so results that depend on the list alone do not depend on how it was found.
#ifndef HIPATTN_CORE_PLAN_H_
#define HIPATTN_CORE_PLAN_H_

#include "core/partition.h"

#include <cstdint>
#include <span>
#include <vector>

namespace hipattn::core {

struct TokenRange {
  int64_t begin;
  int64_t end;
  bool operator==(const TokenRange&) const = default;
};

// Leaf i is the tokens [i * leaf_tokens, (i + 1) * leaf_tokens). The list may be unsorted or have
// repeats; ascending lists are faster.
struct LeafList {
  std::span<const int32_t> leaves;
  uint32_t leaf_tokens;
};

// Ascending, disjoint, none empty, none crossing a multiple of block_tokens; neighbours touch only
// there. Only the parts of leaves inside [sink_end, window_begin) count. Clears *ranges first.
// REQUIRES: block_tokens is a power of two.
void PlanRow(const Partition& part,
             const LeafList& selected,
             uint32_t block_tokens,
             std::vector<TokenRange>* ranges);

// Positions past the trained length (D24): slot j of [sinks, then the selected tokens of the
// block's last row, ascending] turns to max(0, j + FarOffset); the window keeps its true positions.
constexpr int64_t FarOffset(int64_t sink_tokens, int64_t num_selected, int64_t window_begin) {
  return window_begin - sink_tokens - num_selected;
}

// Of slots 0 .. sink_tokens + num_selected - 1.
std::vector<int64_t> AttendPositions(int64_t sink_tokens,
                                     int64_t num_selected,
                                     int64_t window_begin);

struct ExtendedRow {
  Partition row;       // of the row that attends
  Partition last_row;  // of its query block's last row: its selected tokens number the slots
  int64_t sink_tokens;
  int64_t window_begin;  // f of D24: first row's position, or anchor, - window_tokens + 1
};

// As PlanRow, with the position that the first token of each range turns to; the i-th token of a
// range turns to max(0, position + i). Ranges end where positions jump.
void PlanExtendedRow(const ExtendedRow& extended,
                     const LeafList& selected,
                     uint32_t block_tokens,
                     std::vector<TokenRange>* ranges,
                     std::vector<int64_t>* positions);

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_PLAN_H_
