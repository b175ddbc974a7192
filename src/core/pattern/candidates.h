// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What the search tries on every head (prefill SPEC 8.1; MInference, arXiv 2407.02490, table 7, and
// the pairs of its published files). More may be put behind them.
#ifndef HIPATTN_CORE_PATTERN_CANDIDATES_H_
#define HIPATTN_CORE_PATTERN_CANDIDATES_H_

#include "core/pattern/head_pattern.h"

#include <array>

namespace hipattn::core {

// Its kernel FLOPs are what the paper's search allows a head.
inline constexpr HeadPattern kTargetPattern = {PatternType::kAShape, 1024, 4096};

inline constexpr std::array<HeadPattern, 13> kCandidates = {{
    kTargetPattern,
    {PatternType::kAShape, 100, 800},
    {PatternType::kVerticalSlash, 30, 800},
    {PatternType::kVerticalSlash, 30, 2048},
    {PatternType::kVerticalSlash, 100, 750},
    {PatternType::kVerticalSlash, 100, 800},
    {PatternType::kVerticalSlash, 100, 1800},
    {PatternType::kVerticalSlash, 500, 700},
    {PatternType::kVerticalSlash, 500, 1500},
    {PatternType::kVerticalSlash, 1000, 4096},
    {PatternType::kVerticalSlash, 3000, 200},
    {PatternType::kVerticalSlash, 3500, 100},
    {PatternType::kBlockSparse, kDefaultBlocks, 0},
}};

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_PATTERN_CANDIDATES_H_
