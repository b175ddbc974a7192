// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "tests/skeleton/row_norms.h"

#include "tests/support/compare.h"
#include "tests/support/op_tables.h"

#include <gtest/gtest.h>

#include <random>
#include <string_view>
#include <vector>

#define HIPATTN_SKELETON_DECLARE(set)                                                    \
  namespace hipattn::host::set {                                                         \
  void RowNorms(const device::OpContext& context, const device::RowNormsParams& params); \
  }
HIPATTN_SKELETON_SETS(HIPATTN_SKELETON_DECLARE)

namespace hipattn::testing {
namespace {

struct NamedOp {
  std::string_view set;
  device::Op<device::RowNormsParams> op;
};
#define HIPATTN_SKELETON_ENTRY(set) {#set, host::set::RowNorms},
constexpr NamedOp kOps[] = {{"reference", host::ref::RowNorms},
                            HIPATTN_SKELETON_SETS(HIPATTN_SKELETON_ENTRY)};

class RowNorms : public OpTableTest {
 protected:
  // The op of the instruction set that the table is of.
  device::Op<device::RowNormsParams> op() const {
    for (const NamedOp& named : kOps) {
      if (named.set == table().name) {
        return named.op;
      }
    }
    return nullptr;
  }
};
HIPATTN_FOR_ALL_TABLES(RowNorms);

// A sum of n squares, added in any order, is off by at most n roundings of the sum: all terms are
// positive, so relative error <= n * 2^-24.
TEST_P(RowNorms, AgreesWithTheReference) {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(-1, 1);
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBf16}) {
    for (const uint32_t length : {8U, 24U, 64U, 136U}) {
      for (const uint32_t num_rows : {0U, 1U, 7U, 2000U}) {
        std::vector<float> numbers(size_t{num_rows} * length);
        for (float& number : numbers) {
          number = uniform(random);
        }
        const std::vector<std::byte> rows = Narrow(numbers, dtype);
        std::vector<float> got(num_rows);
        std::vector<float> want(num_rows);
        device::RowNormsParams params = {rows.data(), got.data(), num_rows, length, dtype};
        op()(context(2), params);
        params.norms = want.data();
        host::ref::RowNorms(context(), params);
        EXPECT_TRUE(Near(got, want, {.absolute = 0, .relative = length * Roundoff(DType::kF32)}))
            << DTypeName(dtype) << " " << num_rows << " rows of " << length;
      }
    }
  }
}

TEST_P(RowNorms, BitsDoNotDependOnThreads) {
  const std::vector<float> rows(size_t{2000} * 72, 0.1F);
  std::vector<float> one(2000);
  std::vector<float> three(2000);
  op()(context(1), {rows.data(), one.data(), 2000, 72, DType::kF32});
  op()(context(3), {rows.data(), three.data(), 2000, 72, DType::kF32});
  EXPECT_TRUE(SameBits(one, three));
}

}  // namespace
}  // namespace hipattn::testing
