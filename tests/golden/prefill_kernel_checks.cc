// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
// Golden cases of the sparse prefill's ops: attention over lines, estimates of lines and blocks.
#include "core/mask/line_tiles.h"
#include "tests/golden/checks.h"
#include "tests/golden/prefill_head.h"
#include "tests/support/mask_paint.h"

#include <gtest/gtest.h>

#include <span>
#include <string>
#include <vector>

namespace hipattn::golden {
namespace {

// Item `head` of a list of lists, X and X_ptr.
std::span<const int32_t> ListOf(const GoldenCase& golden,
                                const std::string& name,
                                const std::string& ptr_name,
                                uint32_t head) {
  const std::vector<int32_t>& ptr = golden.Input(ptr_name).ints;
  const std::span<const int32_t> all(golden.Input(name).ints);
  const auto begin = static_cast<size_t>(ptr[head]);
  return all.subspan(begin, static_cast<size_t>(ptr[head + 1]) - begin);
}

}  // namespace

void CheckAttendLines(const GoldenCase& golden, const Machine& machine) {
  const PrefillText text(golden, machine);
  HeadRows got(text);
  nlohmann::json tiles = nlohmann::json::array();
  for (uint32_t head = 0; head < text.num_heads(); ++head) {
    const testing::BuiltMask built(
        core::LineTiles(text.shape(),
                        ListOf(golden, "verticals", "vertical_ptr", head),
                        ListOf(golden, "slashes", "slash_ptr", head)));
    tiles.push_back(built.size.computed_tiles);
    AttendMask(text, built.mask, head, got.Out(head), got.Lse(head));
  }
  EXPECT_EQ(tiles, golden.inline_expected().at("computed_tiles"));
  ExpectRows(golden, text, got);
}

void CheckEstimateLines(const GoldenCase& golden, const Machine& machine) {
  const PrefillText text(golden, machine);
  std::vector<float> vertical;
  std::vector<float> slash;
  for (uint32_t head = 0; head < text.num_heads(); ++head) {
    const LineSums sums = EstimateLines(text, head, golden.Count("last_q"));
    vertical.insert(vertical.end(), sums.vertical.begin(), sums.vertical.end());
    slash.insert(slash.end(), sums.slash.begin(), sums.slash.end());
  }
  ExpectNear(golden, machine, "vertical", vertical);
  ExpectNear(golden, machine, "slash", slash);
}

void CheckEstimateBlocks(const GoldenCase& golden, const Machine& machine) {
  const PrefillText text(golden, machine);
  std::vector<float> scores;
  for (uint32_t head = 0; head < text.num_heads(); ++head) {
    const std::vector<float> of_head = EstimateBlocks(text, head);
    scores.insert(scores.end(), of_head.begin(), of_head.end());
  }
  ExpectNear(golden, machine, "score", scores);
}

}  // namespace hipattn::golden
