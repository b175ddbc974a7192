// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The recall estimate from the float vectors of a BlockTree (SPEC D36), plainly written: what
// RecallPlan with the op estimate_nodes is compared with.
#ifndef HIPATTN_CORE_SEARCH_PLAIN_RECALL_H_
#define HIPATTN_CORE_SEARCH_PLAIN_RECALL_H_

#include "core/search/block_tree.h"
#include "core/search/config.h"
#include "core/search/recall.h"

#include <cstdint>
#include <span>

namespace hipattn::core {

struct RecallQuery {
  std::span<const float> q;  // [head_dim], one row of one q head
  double lse = 0.0;          // of what the row attended
  double scale = 1.0;
  double softcap = 0.0;  // 0: none
};

// Estimated share of the row's softmax mass that was attended; vectors of cuboid_mean in `form`.
double PlainRecall(const RecallPlan& plan,
                   const BlockTree& tree,
                   SummaryForm form,
                   const RecallQuery& query);

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_SEARCH_PLAIN_RECALL_H_
