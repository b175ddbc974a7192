// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/counts.h"

#include "base/int_math.h"
#include "core/search/beam_walk.h"
#include "core/search/staged_walk.h"

#include <algorithm>

namespace hipattn::core {

StagedCount CountStaged(std::span<const Stage> stages, int64_t lo, int64_t hi) {
  StagedCount count;
  int64_t covered = hi - lo;
  for (const Stage& stage : stages) {
    const int64_t size = stage.chunk_tokens;
    const int64_t chunks = covered == hi - lo ? CeilDiv(hi, size) - lo / size : covered / size;
    if (covered <= int64_t{stage.keep_tokens}) {
      continue;
    }
    const auto num = static_cast<uint64_t>(chunks);
    const uint64_t probes = 2 * WalkSteps(stage.chunk_tokens);
    count.keys_scored += probes * num;
    // A chunk of 2 has two different probes; a descent into any other meets some key twice (D19).
    count.distinct_keys += (probes - (size != 2 ? 1 : 0)) * num;
    count.keys_with_extra_step += (size == 1 ? 2 : probes + 2) * num;
    covered = stage.keep_tokens;
  }
  return count;
}

BeamCount CountBeam(const BeamConfig& config, int64_t lo, int64_t hi) {
  BeamCount count;
  if (hi - lo <= int64_t{config.budget_tokens}) {
    return count;
  }
  const int64_t leaf = config.leaf_tokens;
  const int64_t leaves = CeilDiv(hi, leaf) - lo / leaf;
  const int64_t beam = std::min<int64_t>(config.budget_tokens / config.block_tokens, leaves);
  const auto parts = static_cast<uint64_t>(std::min(2 * beam, leaves));
  count.levels = BeamLevels(BeamStarts(leaves, beam));
  count.keys_scored = count.levels * parts * CeilDiv(config.block_tokens, config.key_stride);
  return count;
}

TreeCount CountTree(const TreeConfig& config, const SearchRange& range) {
  TreeCount count;
  if (range.hi - range.lo <= int64_t{config.budget_tokens}) {
    return count;
  }
  const uint32_t top = StartLevel(config, range);
  count.start_level = static_cast<int>(top);
  int64_t above = 0;
  for (uint32_t level = top + 1; level-- > 0;) {
    const NodeRange nodes = MeetingNodes(range, NodeTokens(config.block_tokens, level));
    int64_t most = nodes.size();
    if (level < top) {
      const int64_t parents = range.complete / NodeTokens(config.block_tokens, level + 1);
      const int64_t edge =
          std::max<int64_t>(0, nodes.end - std::max(nodes.first, parents * kFanOut));
      most = std::min(most, kFanOut * above + edge);
    }
    const int64_t keep = KeepCount(config, level);
    count.summaries_at_most += most > keep ? static_cast<uint64_t>(most) : 0;
    above = std::min(most, keep);
  }
  return count;
}

}  // namespace hipattn::core
