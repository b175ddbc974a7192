// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What one q head attends in a sparse prefill, as MInference's pattern files say it (arXiv
// 2407.02490; prefill SPEC 3, 4 and 6): a type and two sizes.
#ifndef HIPATTN_CORE_PATTERN_HEAD_PATTERN_H_
#define HIPATTN_CORE_PATTERN_HEAD_PATTERN_H_

#include <cstdint>

namespace hipattn::core {

enum class PatternType : uint32_t { kAShape, kVerticalSlash, kBlockSparse };

// "stream_llm", "vertical_and_slash", "block_sparse": their names in pattern files.
constexpr const char* PatternTypeName(PatternType type) {
  return type == PatternType::kAShape          ? "stream_llm"
         : type == PatternType::kVerticalSlash ? "vertical_and_slash"
                                               : "block_sparse";
}

// A block-sparse head's blocks per row tile where nothing else is said; pattern files cannot.
inline constexpr uint32_t kDefaultBlocks = 100;

struct HeadPattern {
  PatternType type = PatternType::kVerticalSlash;
  uint32_t a = 1000;  // sinks, verticals, or blocks per row tile
  uint32_t b = 6096;  // window, slashes, or 0
  bool operator==(const HeadPattern&) const = default;
};

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_PATTERN_HEAD_PATTERN_H_
