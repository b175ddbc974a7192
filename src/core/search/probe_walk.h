// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// ProbeWalk: what the searches that look at single keys have in common (HiP's beam, InfiniteHiP's
// stages). Like TreeWalk a state machine: it names keys, the caller gives each the best q.k over
// the query rows it asked for, the walk goes on.
#ifndef HIPATTN_CORE_SEARCH_PROBE_WALK_H_
#define HIPATTN_CORE_SEARCH_PROBE_WALK_H_

#include "core/search/scan_frame.h"

#include <cstdint>
#include <span>
#include <vector>

namespace hipattn::core {

// One query block as a probing search sees it.
struct ProbeBlock {
  int64_t lo = 0;  // searchable range of the block's last row
  int64_t hi = 0;
  int64_t last_pos = 0;   // position of the last row
  uint32_t num_rows = 1;  // rows sit at consecutive positions
};

// Keys to score. Rows are the sampled rows of the query block: those at block row indices rows[],
// all q heads of the group.
struct ProbeBatch {
  std::vector<uint32_t> tokens;   // positions of keys in the text
  std::vector<uint32_t> key_pos;  // where each key turns to (RoPE); the token itself unless
                                  // positions are extended
  std::vector<uint32_t> rows;     // row numbers inside the query block, ascending
  std::vector<uint32_t> row_pos;  // where each row's queries turn to

  // Names the sampled rows (D8) and their positions; drops all keys.
  void Reset(const ProbeBlock& block, uint32_t query_stride, const ScanFrame& frame);
  void AddKey(const ScanFrame& frame, int64_t token, int64_t candidate, Side side);
};

class ProbeWalk {
 public:
  ProbeWalk() = default;
  ProbeWalk(const ProbeWalk&) = delete;
  ProbeWalk& operator=(const ProbeWalk&) = delete;
  virtual ~ProbeWalk() = default;

  virtual bool done() const = 0;
  // REQUIRES: !done().
  virtual const ProbeBatch& pending() const = 0;
  // scores [pending().tokens.size()].
  virtual void Accept(std::span<const float> scores) = 0;
  // REQUIRES: done(). Selected leaves (token / leaf_tokens()), ascending.
  virtual std::span<const int32_t> leaves() const = 0;
  virtual uint32_t leaf_tokens() const = 0;
  virtual uint64_t keys_scored() const = 0;
};

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_SEARCH_PROBE_WALK_H_
