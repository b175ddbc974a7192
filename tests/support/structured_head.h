// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Heads whose structure is known: random queries and keys of 128 dimensions in which sinks,
// columns, diagonals, topics and a needle are planted. Each part has dimensions of its own, so the
// score of a pair is the sum of what the parts say (the softmax scale is 1):
//   dims  0 .. 79   positions: 40 frequencies below pi / slash_width, so that the product is
//                   `slash` where i - j is one of `offsets`, falls off within slash_width, and is
//                   noise elsewhere, of deviation slash / 9 per offset
//   dims 80 .. 82   sinks, columns (of .8 to 1 times `column`), the needle
//   dims 83 .. 98   topics: blocks of 64 rows and keys each have one; a pair of one topic scores
//                   `topic`, others noise of deviation topic / 4
//   dims 99 .. 127  noise of deviation `noise`
// Values are normal. Nothing but the plan and its seed decides the numbers.
#ifndef HIPATTN_TESTS_SUPPORT_STRUCTURED_HEAD_H_
#define HIPATTN_TESTS_SUPPORT_STRUCTURED_HEAD_H_

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace hipattn::testing {

struct HeadPlan {
  uint32_t num_tokens = 0;
  uint64_t seed = 1;
  double noise = 0.5;
  double sink = 0;  // score of the first 4 keys
  uint32_t num_columns = 0;
  double column = 0;
  std::vector<uint32_t> offsets;
  double slash = 0;
  double slash_width = 48;
  uint32_t num_topics = 16;
  double topic = 0;
  std::optional<uint32_t> needle;  // a key that the last 64 rows look for
  double needle_score = 0;
};

class StructuredHead {
 public:
  static constexpr uint32_t kDim = 128;
  static constexpr uint32_t kNumSinks = 4;
  static constexpr uint32_t kNeedleRows = 64;
  // The needle's value in every dimension; others are normal.
  static constexpr float kNeedleValue = 3;

  explicit StructuredHead(const HeadPlan& plan);

  uint32_t num_tokens() const { return num_tokens_; }
  // [num_tokens][kDim] each.
  std::span<const float> q() const { return q_; }
  std::span<const float> k() const { return k_; }
  std::span<const float> v() const { return v_; }
  // Where columns were planted, ascending.
  const std::vector<int32_t>& columns() const { return columns_; }

  // Softmax shares of the keys that a row sees, in f64, and the log of the sum of exponentials.
  struct RowMass {
    std::vector<double> shares;
    double lse;
  };
  RowMass Mass(uint32_t row) const;
  // Sums of the shares of `rows` by column and by diagonal, [num_tokens] each: of the last rows it
  // is the estimate of a vertical-slash head, of all rows what an oracle would look at.
  struct Sums {
    std::vector<float> vertical, slash;
  };
  Sums SumsOf(std::span<const uint32_t> rows) const;
  std::vector<uint32_t> LastRows(uint32_t count) const;
  // What the row attends by its shares.
  std::vector<double> Out(std::span<const double> mass) const;

 private:
  uint32_t num_tokens_;
  std::vector<float> q_, k_, v_;
  std::vector<int32_t> columns_;
};

}  // namespace hipattn::testing

#endif  // HIPATTN_TESTS_SUPPORT_STRUCTURED_HEAD_H_
