// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The patterns of a model's q heads, as a pattern file has them (prefill SPEC 8.7).
#ifndef HIPATTN_CORE_PATTERN_PATTERN_TABLE_H_
#define HIPATTN_CORE_PATTERN_PATTERN_TABLE_H_

#include "core/pattern/head_pattern.h"

#include <cstdint>
#include <map>
#include <vector>

namespace hipattn::core {

// Says how good the search found the pattern. Nothing reads it; files have counts and shares, and
// each comes back as what it was.
struct PatternScore {
  double value = 1.0;
  bool is_integer = true;
  bool operator==(const PatternScore&) const = default;
};

// Sizes as they stand in the file, those of a block-sparse head included.
struct PatternEntry {
  HeadPattern sizes;
  PatternScore score;
  bool operator==(const PatternEntry&) const = default;

  // What the head attends: a block-sparse head keeps kDefaultBlocks whatever the sizes say.
  HeadPattern Pattern() const {
    return sizes.type == PatternType::kBlockSparse
               ? HeadPattern{PatternType::kBlockSparse, kDefaultBlocks, 0}
               : sizes;
  }
};

struct PatternTable {
  std::vector<std::map<uint32_t, PatternEntry>> layers;  // by q head of the model
  bool operator==(const PatternTable&) const = default;

  // Of local head `head` of a machine that has the model's heads from head_offset on. Heads and
  // layers that are missing are vertical-slash (1000, 6096) with score 1.
  PatternEntry Lookup(uint32_t layer, uint32_t head, uint32_t head_offset = 0) const {
    if (layer < layers.size()) {
      const auto found = layers[layer].find(head_offset + head);
      if (found != layers[layer].end()) {
        return found->second;
      }
    }
    return {};
  }
};

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_PATTERN_PATTERN_TABLE_H_
