// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "base/status.h"

#include <gtest/gtest.h>

namespace hipattn {
namespace {

TEST(Status, DefaultIsOkWithoutAMessage) {
  const Status status;
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(status.code(), StatusCode::kOk);
  EXPECT_EQ(status.message(), "");
  EXPECT_TRUE(Status::Ok().ok());
}

TEST(Status, FactoriesSetTheirCodeAndJoinTheMessage) {
  const struct {
    Status status;
    StatusCode code;
  } cases[] = {{InvalidArgument("x is ", 3, ", need ", 1.5), StatusCode::kInvalidArgument},
               {OutOfBudget("x is ", 3, ", need ", 1.5), StatusCode::kOutOfBudget},
               {OutOfMemory("x is ", 3, ", need ", 1.5), StatusCode::kOutOfMemory},
               {Unsupported("x is ", 3, ", need ", 1.5), StatusCode::kUnsupported},
               {Internal("x is ", 3, ", need ", 1.5), StatusCode::kInternal}};
  for (const auto& test : cases) {
    EXPECT_FALSE(test.status.ok());
    EXPECT_EQ(test.status.code(), test.code);
    EXPECT_EQ(test.status.message(), "x is 3, need 1.5");
  }
}

Status Outer(const Status& inner, bool* reached) {
  HIPATTN_RETURN_IF_ERROR(inner);
  *reached = true;
  return Status::Ok();
}

TEST(Status, ReturnIfErrorPassesErrorsOnAndGoesOnAfterOk) {
  bool reached = false;
  EXPECT_EQ(Outer(Unsupported("later"), &reached).message(), "later");
  EXPECT_FALSE(reached);
  EXPECT_TRUE(Outer(Status::Ok(), &reached).ok());
  EXPECT_TRUE(reached);
}

}  // namespace
}  // namespace hipattn
