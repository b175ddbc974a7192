// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "base/fixed_point.h"

#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>
#include <limits>

namespace hipattn {
namespace {

bool IsPowerOf2(float x) {
  int exponent = 0;
  return std::frexp(x, &exponent) == 0.5F;
}

TEST(FixedPoint, TheLeastStepThatHoldsTheLargest) {
  for (const float largest :
       {1.0F, 0.75F, 3.0F, 32767.0F, 32767.5F, 32768.0F, 1e-30F, 1e30F, FLT_MAX}) {
    const Int16Step step = StepOfInt16(largest);
    EXPECT_TRUE(IsPowerOf2(step.step)) << largest;
    EXPECT_EQ(step.step * step.inverse, 1.0F);
    EXPECT_LE(largest * step.inverse, kMaxInt16Steps);
    EXPECT_GT(largest * step.inverse * 2, kMaxInt16Steps) << largest << ": a smaller step does not";
  }
}

TEST(FixedPoint, TinyAndMeaninglessNumbersHaveAStep) {
  for (const float largest : {0.0F,
                              FLT_MIN,
                              std::numeric_limits<float>::denorm_min(),
                              std::numeric_limits<float>::infinity(),
                              std::numeric_limits<float>::quiet_NaN()}) {
    const Int16Step step = StepOfInt16(largest);
    EXPECT_TRUE(IsPowerOf2(step.step)) << largest;
    EXPECT_EQ(step.step * step.inverse, 1.0F) << largest;
  }
  EXPECT_EQ(StepOfInt16(0.0F).step, FLT_MIN);
}

}  // namespace
}  // namespace hipattn
