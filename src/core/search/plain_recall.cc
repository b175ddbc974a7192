// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/search/plain_recall.h"

#include "core/search/quantize.h"

#include <cmath>
#include <vector>

namespace hipattn::core {
namespace {

struct PrunedGroup {
  uint32_t level;
  uint32_t index;
  std::span<const float> tokens;  // [8]
};

// log of n exp(scale q.m + scale^2 / 2 sum q_d^2 w_d^2), the exponent under the softcap.
double LogMass(const NodeVectors& vectors, double tokens, const RecallQuery& query) {
  double centre = 0.0;
  double variance = 0.0;
  for (size_t i = 0; i < query.q.size(); ++i) {
    const double spread = static_cast<double>(query.q[i]) * vectors.w[i];
    centre += static_cast<double>(query.q[i]) * vectors.m[i];
    variance += spread * spread;
  }
  double exponent = query.scale * centre + query.scale * query.scale / 2 * variance;
  if (query.softcap > 0.0) {
    exponent = query.softcap * std::tanh(exponent / query.softcap);
  }
  return std::log(tokens) + exponent;
}

// Appends the log masses of the nodes of one group.
void AppendGroup(const BlockTree& tree,
                 SummaryForm form,
                 const RecallQuery& query,
                 const PrunedGroup& group,
                 std::vector<float>* log_masses) {
  for (uint32_t i = 0; i < kFanOut; ++i) {
    if (group.tokens[i] == 0.0F) {
      continue;
    }
    NodeVectors vectors =
        CuboidMeanScorer().Vectors(tree.node(group.level, int64_t{group.index} * kFanOut + i));
    if (form == SummaryForm::kInt8) {
      vectors = ThroughInt8(vectors);
    }
    log_masses->push_back(static_cast<float>(LogMass(vectors, group.tokens[i], query)));
  }
}

}  // namespace

double PlainRecall(const RecallPlan& plan,
                   const BlockTree& tree,
                   SummaryForm form,
                   const RecallQuery& query) {
  std::vector<float> log_masses;
  for (uint32_t level = 0; level < plan.num_levels(); ++level) {
    const std::span<const NodeGroup> groups = plan.groups(level);
    for (size_t g = 0; g < groups.size(); ++g) {
      const PrunedGroup group{
          level, groups[g].index, plan.tokens(level).subspan(g * kFanOut, kFanOut)};
      AppendGroup(tree, form, query, group, &log_masses);
    }
  }
  return RecallShare(query.lse, log_masses);
}

}  // namespace hipattn::core
