// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "base/result.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>

namespace hipattn {
namespace {

TEST(Result, HoldsAValue) {
  Result<std::string> result = std::string("text");
  ASSERT_TRUE(result.ok());
  EXPECT_TRUE(result.status().ok());
  EXPECT_EQ(*result, "text");
  EXPECT_EQ(result->size(), 4U);
}

TEST(Result, HoldsAnError) {
  const Result<int> result = InvalidArgument("no");
  EXPECT_FALSE(result.ok());
  EXPECT_EQ(result.status().code(), StatusCode::kInvalidArgument);
}

Result<std::unique_ptr<int>> Make(bool works) {
  if (!works) {
    return OutOfMemory("none left");
  }
  return std::make_unique<int>(7);
}

Result<int> Read(bool works) {
  HIPATTN_ASSIGN_OR_RETURN(const std::unique_ptr<int> number, Make(works));
  HIPATTN_ASSIGN_OR_RETURN(const std::unique_ptr<int> again, Make(true));
  return *number + *again;
}

TEST(Result, AssignOrReturnMovesValuesAndPassesErrorsOn) {
  EXPECT_EQ(Read(true).value(), 14);
  EXPECT_EQ(Read(false).status().message(), "none left");
}

}  // namespace
}  // namespace hipattn
