// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Settings of the searches and what makes them invalid (SPEC D25, D35): rejected, never repaired.
// The message of a failed check names the field and its value.
#ifndef HIPATTN_CORE_SEARCH_CONFIG_H_
#define HIPATTN_CORE_SEARCH_CONFIG_H_

#include "base/status.h"
#include "base/tree.h"
#include "core/search/tree_walk.h"

#include <cstdint>
#include <span>
#include <vector>

namespace hipattn::core {

// Query blocks and what is always attended.
struct SearchRows {
  uint32_t block_q = 1;       // rows of a query block (D7)
  uint32_t query_stride = 1;  // every query_stride-th row of a block takes part (D8)
  uint32_t sink_tokens = 128;
  uint32_t window_tokens = 1024;
};

// Which of a part's probe blocks stands for it (D13).
enum class Representative : uint32_t { kCenter = 1, kFirst = 2, kLast = 3 };

// HiP's beam (SPEC section 3); the defaults are those of its released code.
struct BeamConfig {
  SearchRows rows;
  uint32_t block_tokens = 2;     // a probe block
  uint32_t budget_tokens = 512;  // a positive multiple of leaf_tokens
  uint32_t leaf_tokens = 2;      // a multiple of block_tokens
  uint32_t key_stride = 1;       // one key per key_stride of a probe block is looked at
  Representative representative = Representative::kCenter;
};

// One stage of InfiniteHiP's search (SPEC section 4): chunks of chunk_tokens come in, the best
// keep_tokens / chunk_tokens go out.
struct Stage {
  uint32_t block_q;
  uint32_t query_stride;
  uint32_t chunk_tokens;
  uint32_t keep_tokens;
};

// The defaults are InfiniteHiP's "3K" preset; the last chunk size is the leaf, the last keep the
// budget.
struct StagedConfig {
  std::vector<Stage> stages = {{64, 4, 256, 32768}, {64, 4, 32, 8192}, {64, 1, 8, 2048}};
  uint32_t sink_tokens = 256;
  uint32_t window_tokens = 1024;
};

// What a search scores against: summaries as float32 vectors or as int8 (D30).
enum class SummaryForm : uint32_t { kFloat32 = 1, kInt8 = 2 };

// Where keys and queries turn to while a search looks at them (D21-D23).
enum class ScanMode : uint32_t { kTrue = 1, kRelative = 2, kStreaming = 3 };

// Position extension: once a query block reaches trained_tokens, searches use `mode` (D21).
struct Extension {
  uint32_t trained_tokens = 0;  // 0: positions are always true
  ScanMode mode = ScanMode::kRelative;
};

// What has to fit below the trained length (D25).
struct ExtensionUse {
  int64_t sink_tokens = 0;
  int64_t budget_tokens = 0;
  int64_t window_tokens = 0;
  int64_t slack_tokens = 0;  // max(block_q, intervals[0])
  int64_t scan_window = 0;   // SWs of D22
  int64_t max_pos = 0;       // the last position that will be attended
};

// Window of a scan: what queries keep between themselves and the candidates (D22).
constexpr uint32_t ScanWindow(const BeamConfig& config) {
  return config.rows.window_tokens;
}
inline uint32_t ScanWindow(const StagedConfig& config) {
  const uint32_t chunk = config.stages[0].chunk_tokens;
  return config.window_tokens > chunk ? config.window_tokens - chunk : 0;
}

// A field above 2^31 - 1 is invalid everywhere: leaf numbers are int32.
// The tree also rejects unknown scorers and forms (D35).
Status ValidateTree(const TreeConfig& config,
                    const SearchRows& rows,
                    Scorer scorer,
                    SummaryForm form);
Status ValidateBeam(const BeamConfig& config);
Status ValidateStaged(const StagedConfig& config);
// Refresh intervals: at least one, each at least 1 and a multiple of the next (D16).
Status ValidateIntervals(std::span<const uint32_t> intervals);
// No search with summaries knows position extension: max_pos must stay below trained_tokens (D35).
Status ValidateTreePositions(const Extension& extension, int64_t max_pos);
Status ValidateExtension(const Extension& extension, const ExtensionUse& use);

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_SEARCH_CONFIG_H_
