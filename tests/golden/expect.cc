// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "tests/golden/expect.h"

#include "tests/support/compare.h"

namespace hipattn::golden {

void ExpectLists(const GoldenCase& golden, const std::string& name, const Lists& got) {
  const Array& want = golden.Expected(name);
  const size_t rows = want.shape.back() == 0 ? got.size() : want.size() / want.shape.back();
  ASSERT_EQ(got.size(), rows) << name;
  for (size_t i = 0; i < rows; ++i) {
    std::vector<int32_t> row;
    for (const int32_t number : want.IntRow(i)) {
      if (number >= 0) {
        row.push_back(number);
      }
    }
    EXPECT_EQ(got[i], row) << name << " of list " << i;
  }
}

void ExpectInts(const GoldenCase& golden, const std::string& name, std::span<const int32_t> got) {
  EXPECT_EQ(std::vector<int32_t>(got.begin(), got.end()), golden.Expected(name).ints) << name;
}

void ExpectValues(const GoldenCase& golden,
                  const std::string& name,
                  const std::vector<int64_t>& got) {
  EXPECT_EQ(got, golden.Values(name)) << name;
}

void ExpectFloats(const GoldenCase& golden,
                  const std::string& name,
                  std::span<const float> got,
                  bool narrow) {
  const Tolerance& tolerance = golden.tolerance(narrow);
  EXPECT_TRUE(
      testing::Near(got, golden.Expected(name).floats, {tolerance.absolute, tolerance.relative}))
      << name;
}

void ExpectLse(const GoldenCase& golden,
               const std::string& name,
               std::span<const float> got,
               bool narrow) {
  EXPECT_TRUE(testing::Near(
      got, golden.Expected(name).floats, {golden.tolerance(narrow).lse_absolute, 0.0}))
      << name;
}

}  // namespace hipattn::golden
