// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What a trace calls an op: as the table does, whichever device's entry it is.
#ifndef HIPATTN_ENGINE_OP_NAMES_H_
#define HIPATTN_ENGINE_OP_NAMES_H_

#include "device/ops.h"

#include <type_traits>

namespace hipattn::engine {

template <typename Params>
constexpr const char* OpName() {
  using device::OpTable;
  const auto is = [](auto OpTable::*entry) {
    return std::is_same_v<decltype(entry), device::Op<Params> OpTable::*>;
  };
  struct Named {
    bool is;
    const char* name;
  };
  constexpr Named kNames[] = {{is(&OpTable::append_kv), "append_kv"},
                              {is(&OpTable::load_q), "load_q"},
                              {is(&OpTable::summarize_blocks), "summarize_blocks"},
                              {is(&OpTable::score_nodes), "score_nodes"},
                              {is(&OpTable::estimate_nodes), "estimate_nodes"},
                              {is(&OpTable::write_sketches), "write_sketches"},
                              {is(&OpTable::score_sketches), "score_sketches"},
                              {is(&OpTable::score_keys), "score_keys"},
                              {is(&OpTable::sparse_decode), "sparse_decode"},
                              {is(&OpTable::attend_rotated), "attend_rotated"},
                              {is(&OpTable::dense_prefill), "dense_prefill"},
                              {is(&OpTable::sparse_prefill), "sparse_prefill"},
                              {is(&OpTable::pack_columns), "pack_columns"},
                              {is(&OpTable::estimate_lines), "estimate_lines"},
                              {is(&OpTable::pool_blocks), "pool_blocks"},
                              {is(&OpTable::score_blocks), "score_blocks"},
                              {is(&OpTable::score_antidiagonals), "score_antidiagonals"},
                              {is(&OpTable::apply_deltas), "apply_deltas"},
                              {is(&OpTable::merge_states), "merge_states"}};
  const char* found = nullptr;
  for (const Named& named : kNames) {
    found = named.is ? named.name : found;
  }
  return found;
}

}  // namespace hipattn::engine

#endif  // HIPATTN_ENGINE_OP_NAMES_H_
