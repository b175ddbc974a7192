// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Parameters of golden cases as the library's settings.
#ifndef HIPATTN_TESTS_GOLDEN_SETTINGS_H_
#define HIPATTN_TESTS_GOLDEN_SETTINGS_H_

#include "core/partition.h"
#include "core/rope.h"
#include "core/search/config.h"
#include "tests/golden/golden_case.h"

#include <vector>

namespace hipattn::golden {

struct RopeSettings {
  core::RopeLayout layout = core::RopeLayout::kNone;
  std::vector<double> inv_freq;
};

// An unknown name gives the enumerator 0, which the library rejects.
RopeSettings RopeOf(const GoldenCase& golden);
core::Extension ExtensionOf(const GoldenCase& golden);
core::PartitionSizes SizesOf(const GoldenCase& golden);
core::SearchRows RowsOf(const GoldenCase& golden);
core::TreeConfig TreeOf(const GoldenCase& golden);
core::BeamConfig BeamOf(const GoldenCase& golden);
core::StagedConfig StagedOf(const GoldenCase& golden);
Scorer ScorerOf(const GoldenCase& golden);
core::SummaryForm FormOf(const GoldenCase& golden);

}  // namespace hipattn::golden

#endif  // HIPATTN_TESTS_GOLDEN_SETTINGS_H_
