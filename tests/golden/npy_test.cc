// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "tests/golden/npy.h"

#include <gtest/gtest.h>

#include <string>

namespace hipattn::golden {
namespace {

std::string File(const std::string& header, const std::string& data) {
  const auto length = static_cast<char>(header.size());
  return std::string("\x93NUMPY\x01\x00", 8) + length + '\0' + header + data;
}

std::string Header(const std::string& type, const std::string& shape) {
  return "{'descr': '" + type + "', 'fortran_order': False, 'shape': (" + shape + "), }\n";
}

TEST(Npy, ReadsTheFourTypesOfGoldenCases) {
  const Result<Array> floats =
      ParseNpy(File(Header("<f4", "2,"), std::string("\0\0\x80\x3f\0\0\0\xc0", 8)));
  ASSERT_TRUE(floats.ok()) << floats.status().message();
  EXPECT_EQ(floats.value().floats, (std::vector<float>{1, -2}));
  const Result<Array> small = ParseNpy(File(Header("|i1", "1, 2"), "\xff\x7f"));
  ASSERT_TRUE(small.ok());
  EXPECT_EQ(small.value().floats, (std::vector<float>{-1, 127}));
  EXPECT_EQ(small.value().shape, (std::vector<size_t>{1, 2}));
  const Result<Array> bytes = ParseNpy(File(Header("|u1", "2,"), "\x01\xff"));
  ASSERT_TRUE(bytes.ok());
  EXPECT_EQ(bytes.value().ints, (std::vector<int32_t>{1, 255}));
  const Result<Array> ints = ParseNpy(File(Header("<i4", "1,"), "\xff\xff\xff\xff"));
  ASSERT_TRUE(ints.ok());
  EXPECT_EQ(ints.value().ints, (std::vector<int32_t>{-1}));
  EXPECT_TRUE(ParseNpy(File(Header("<f4", "0, 3"), "")).ok());
}

TEST(Npy, RejectsWhatIsCutOffOrLies) {
  const std::string good = File(Header("<f4", "2,"), std::string(8, '\0'));
  for (size_t length = 0; length < good.size(); ++length) {
    EXPECT_FALSE(ParseNpy(std::string_view(good).substr(0, length)).ok()) << length;
  }
  EXPECT_FALSE(ParseNpy(good + "x").ok()) << "more data than the shape says";
  EXPECT_FALSE(ParseNpy(File(Header("<f8", "1,"), std::string(8, '\0'))).ok());
  EXPECT_FALSE(ParseNpy(File(Header("<f4", "-1,"), "")).ok());
  EXPECT_FALSE(ParseNpy(File(Header("<f4", "4294967296, 4294967296"), std::string(8, '\0'))).ok());
  EXPECT_FALSE(ReadNpy("/nowhere/at.npy").ok());
}

}  // namespace
}  // namespace hipattn::golden
