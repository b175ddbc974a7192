// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// ScanFrame: the positions that keys and queries turn to while a search looks at them (SPEC
// D21-D23).
#ifndef HIPATTN_CORE_SEARCH_SCAN_FRAME_H_
#define HIPATTN_CORE_SEARCH_SCAN_FRAME_H_

#include "core/search/config.h"

#include <cstdint>

namespace hipattn::core {

// The mode of a query block whose last row is at last_pos: true positions until the trained length
// is reached (D21).
ScanMode FrameMode(const Extension& extension, int64_t last_pos);

// Which of the two probes or parts of a candidate a key belongs to.
enum class Side : uint32_t { kLeft = 0, kRight = 1 };

// The frame of one stage or level.
struct ScanFrame {
  ScanMode mode = ScanMode::kTrue;
  int64_t num_candidates = 0;
  int64_t scan_window = 0;     // SWs: ScanWindow(config)
  int64_t trained_tokens = 0;  // not read in mode kTrue

  // Of the key at `token`, in candidate number `candidate` of [0, num_candidates).
  uint32_t KeyPosition(int64_t token, int64_t candidate, Side side) const;
  // Of the query of the row at `pos`.
  uint32_t QueryPosition(int64_t pos) const;

 private:
  // Positions the candidates spread over in streaming mode (D23).
  int64_t Span() const;
};

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_SEARCH_SCAN_FRAME_H_
