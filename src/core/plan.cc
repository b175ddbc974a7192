// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/plan.h"

#include <algorithm>
#include <bit>

namespace hipattn::core {
namespace {

// Calls emit(begin, end) for every maximal run of [0, sink_end) and the leaves inside [sink_end,
// window_begin), ascending; returns the last run instead of emitting it.
template <typename Emit>
TokenRange ForEachRun(const Partition& part, const LeafList& ascending, const Emit& emit) {
  TokenRange run{0, part.sink_end};
  const int64_t size = ascending.leaf_tokens;
  for (const int32_t leaf : ascending.leaves) {
    const int64_t begin = std::max(leaf * size, part.sink_end);
    const int64_t end = std::min((leaf + 1) * size, part.window_begin);
    if (begin <= run.end) {
      run.end = std::max(run.end, end);
    } else if (begin < end) {
      emit(run);
      run = {begin, end};
    }
  }
  return run;
}

// Calls plan(list) with an ascending list of the same leaves.
template <typename Plan>
void WithAscending(const LeafList& selected, const Plan& plan) {
  if (std::is_sorted(selected.leaves.begin(), selected.leaves.end())) {
    plan(selected);
    return;
  }
  std::vector<int32_t> sorted(selected.leaves.begin(), selected.leaves.end());
  std::sort(sorted.begin(), sorted.end());
  plan(LeafList{sorted, selected.leaf_tokens});
}

// Calls emit(piece) for the pieces of the range between multiples of 2^shift.
template <typename Emit>
void CutAtBlocks(const TokenRange& range, int shift, const Emit& emit) {
  int64_t begin = range.begin;
  while (begin < range.end) {
    const int64_t end = std::min(((begin >> shift) + 1) << shift, range.end);
    emit(TokenRange{begin, end});
    begin = end;
  }
}

}  // namespace

void PlanRow(const Partition& part,
             const LeafList& selected,
             uint32_t block_tokens,
             std::vector<TokenRange>* ranges) {
  const int shift = std::countr_zero(block_tokens);
  ranges->clear();
  const auto emit = [&](const TokenRange& run) {
    CutAtBlocks(run, shift, [&](const TokenRange& piece) { ranges->push_back(piece); });
  };
  WithAscending(selected, [&](const LeafList& ascending) {
    TokenRange run = ForEachRun(part, ascending, emit);
    if (run.end == part.window_begin) {
      run.end = part.end;
      emit(run);
    } else {
      emit(run);
      emit({part.window_begin, part.end});
    }
  });
}

std::vector<int64_t> AttendPositions(int64_t sink_tokens,
                                     int64_t num_selected,
                                     int64_t window_begin) {
  const int64_t offset = FarOffset(sink_tokens, num_selected, window_begin);
  std::vector<int64_t> positions;
  for (int64_t slot = 0; slot < sink_tokens + num_selected; ++slot) {
    positions.push_back(std::max<int64_t>(0, slot + offset));
  }
  return positions;
}

void PlanExtendedRow(const ExtendedRow& extended,
                     const LeafList& selected,
                     uint32_t block_tokens,
                     std::vector<TokenRange>* ranges,
                     std::vector<int64_t>* positions) {
  const int shift = std::countr_zero(block_tokens);
  ranges->clear();
  positions->clear();
  const auto append = [&](const TokenRange& run, int64_t position) {
    CutAtBlocks(run, shift, [&](const TokenRange& piece) {
      ranges->push_back(piece);
      positions->push_back(position + piece.begin - run.begin);
    });
  };
  WithAscending(selected, [&](const LeafList& ascending) {
    int64_t num_far = 0;  // sinks and selected tokens that have a slot
    const auto count = [&](const TokenRange& run) { num_far += run.end - run.begin; };
    count(ForEachRun(extended.last_row, ascending, count));
    int64_t position =
        FarOffset(extended.sink_tokens, num_far - extended.sink_tokens, extended.window_begin);
    // The row's searchable range begins where the last row's does and ends no later, so its far
    // keys are the first slots of the list.
    const auto emit = [&](const TokenRange& run) {
      append(run, position);
      position += run.end - run.begin;
    };
    emit(ForEachRun(extended.row, ascending, emit));
  });
  append({extended.row.window_begin, extended.row.end}, extended.row.window_begin);
}

}  // namespace hipattn::core
