// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Comparisons of golden tests: integers exactly, floats within the case's tolerance.
#ifndef HIPATTN_TESTS_GOLDEN_EXPECT_H_
#define HIPATTN_TESTS_GOLDEN_EXPECT_H_

#include "tests/golden/golden_case.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <span>
#include <vector>

namespace hipattn::golden {

using Lists = std::vector<std::vector<int32_t>>;

// Lists against the rows of a -1-padded array [.., m], in order.
void ExpectLists(const GoldenCase& golden, const std::string& name, const Lists& got);
void ExpectInts(const GoldenCase& golden, const std::string& name, std::span<const int32_t> got);
void ExpectValues(const GoldenCase& golden,
                  const std::string& name,
                  const std::vector<int64_t>& got);
void ExpectFloats(const GoldenCase& golden,
                  const std::string& name,
                  std::span<const float> got,
                  bool narrow = false);
// As ExpectFloats with the tolerance of lse.
void ExpectLse(const GoldenCase& golden,
               const std::string& name,
               std::span<const float> got,
               bool narrow = false);

}  // namespace hipattn::golden

#endif  // HIPATTN_TESTS_GOLDEN_EXPECT_H_
