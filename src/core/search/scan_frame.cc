// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/search/scan_frame.h"

#include <algorithm>

namespace hipattn::core {

ScanMode FrameMode(const Extension& extension, int64_t last_pos) {
  const int64_t trained = extension.trained_tokens;
  return trained == 0 || last_pos < trained ? ScanMode::kTrue : extension.mode;
}

int64_t ScanFrame::Span() const {
  return std::min(num_candidates, trained_tokens - 1 - scan_window);
}

uint32_t ScanFrame::KeyPosition(int64_t token, int64_t candidate, Side side) const {
  switch (mode) {
    case ScanMode::kTrue:
      return static_cast<uint32_t>(token);
    case ScanMode::kRelative:
      return static_cast<uint32_t>(side);
    case ScanMode::kStreaming:
      return static_cast<uint32_t>(candidate * Span() / num_candidates);
  }
  return 0;
}

uint32_t ScanFrame::QueryPosition(int64_t pos) const {
  switch (mode) {
    case ScanMode::kTrue:
      return static_cast<uint32_t>(pos);
    case ScanMode::kRelative:
      return static_cast<uint32_t>(scan_window + 1);
    case ScanMode::kStreaming:
      return static_cast<uint32_t>(std::min(pos, Span() + scan_window));
  }
  return 0;
}

}  // namespace hipattn::core
