// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What tiles cost, in nanoseconds of this machine's kernels or in FLOPs; the search compares
// candidates by it.
#ifndef HIPATTN_BENCH_SEARCH_TILE_COSTS_H_
#define HIPATTN_BENCH_SEARCH_TILE_COSTS_H_

#include "core/pattern/head_pattern.h"
#include "head_attention.h"
#include "result.h"

#include <nlohmann/json.hpp>

#include <cstdint>

namespace pattern_search {

struct TileCosts {
  double dense_tile = 0;   // of 64 queries x 64 keys, by dense attention
  double masked_tile = 0;  // by a mask
  double lines = 0;        // finding a head's columns and diagonals
  double blocks = 0;       // finding its blocks

  // As a share of what dense attention of the same chunk costs.
  double ShareOf(const hipattn::core::HeadPattern& pattern, const Attended& attended) const;
};

// By random queries, keys and values of num_tokens; the least of three times each.
Result<TileCosts> MeasureCosts(HeadAttention* attention, uint32_t num_tokens, uint32_t head_dim);
TileCosts CountCosts(uint32_t num_tokens, uint32_t head_dim);

nlohmann::json CostsToJson(const TileCosts& costs);
// False if the object has no such costs.
bool CostsFromJson(const nlohmann::json& object, TileCosts* costs);

}  // namespace pattern_search

#endif  // HIPATTN_BENCH_SEARCH_TILE_COSTS_H_
