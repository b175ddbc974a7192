// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/search/scan_frame.h"

#include <gtest/gtest.h>

namespace hipattn::core {
namespace {

TEST(ScanFrame, PositionsAreTrueUntilTheTrainedLengthIsReached) {
  const Extension extension{1000, ScanMode::kStreaming};
  EXPECT_EQ(FrameMode(extension, 999), ScanMode::kTrue);
  EXPECT_EQ(FrameMode(extension, 1000), ScanMode::kStreaming);
  EXPECT_EQ(FrameMode({}, 1 << 30), ScanMode::kTrue);
}

TEST(ScanFrame, RelativeKeepsTheWindowBetween) {
  const ScanFrame frame{ScanMode::kRelative, 9, 768, 4096};
  EXPECT_EQ(frame.KeyPosition(5000, 3, Side::kLeft), 0U);
  EXPECT_EQ(frame.KeyPosition(5000, 3, Side::kRight), 1U);
  EXPECT_EQ(frame.QueryPosition(100000), 769U);
}

TEST(ScanFrame, StreamingNumbersCandidatesAndSqueezesThemBelowTheTrainedLength) {
  const ScanFrame roomy{ScanMode::kStreaming, 300, 768, 4096};
  EXPECT_EQ(roomy.KeyPosition(5000, 299, Side::kLeft), 299U);
  EXPECT_EQ(roomy.QueryPosition(100000), 300U + 768U);
  EXPECT_EQ(roomy.QueryPosition(500), 500U);
  const ScanFrame tight{ScanMode::kStreaming, 1 << 20, 768, 4096};
  EXPECT_EQ(tight.KeyPosition(0, (1 << 20) - 1, Side::kRight), 3326U);
  EXPECT_EQ(tight.QueryPosition(1 << 20), 4095U);
}

}  // namespace
}  // namespace hipattn::core
