// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Reads the .npy files of golden cases: format 1.0, C order, <f4, |i1 (whole-numbered floats), <i4,
// |u1.
#ifndef HIPATTN_TESTS_GOLDEN_NPY_H_
#define HIPATTN_TESTS_GOLDEN_NPY_H_

#include "base/result.h"

#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

namespace hipattn::golden {

// Exactly one of floats (<f4, |i1) and ints (<i4, |u1) holds the elements.
struct Array {
  std::vector<size_t> shape;
  std::vector<float> floats;
  std::vector<int32_t> ints;

  size_t size() const;
  // Row i of a two-dimensional view [.., shape.back()].
  std::span<const int32_t> IntRow(size_t i) const;
};

// Every length is checked against the file's size before anything is allocated.
Result<Array> ParseNpy(std::string_view file);
Result<Array> ReadNpy(const std::filesystem::path& path);

}  // namespace hipattn::golden

#endif  // HIPATTN_TESTS_GOLDEN_NPY_H_
