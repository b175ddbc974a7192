// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// A model of one layer of one text that is too simple to be wrong: keys and values in f64,
// attention by the formula. And the random text that models and engines are fed with.
#ifndef HIPATTN_TESTS_SUPPORT_NAIVE_MODEL_H_
#define HIPATTN_TESTS_SUPPORT_NAIVE_MODEL_H_

#include "base/dtype.h"
#include "tests/support/aligned_floats.h"

#include <cstdint>
#include <functional>
#include <vector>

namespace hipattn::test {

struct Geometry {
  uint32_t q_heads = 4;
  uint32_t kv_heads = 2;
  uint32_t head_dim = 64;

  size_t q_row() const { return size_t{q_heads} * head_dim; }
  size_t kv_row() const { return size_t{kv_heads} * head_dim; }
  uint32_t group() const { return q_heads / kv_heads; }
};

struct NaiveOptions {
  Geometry geometry;
  DType kv_dtype = DType::kF32;  // keys and values are rounded to it when they are stored
  double scale = 0.0;            // 0 = 1 / sqrt(head_dim)
  double softcap = 0.0;
  uint32_t rope_mode = 0;  // as hipattn_engine_options
  double rope_theta = 0.0;
};

// out [q_heads][head_dim], lse [q_heads].
struct NaiveResult {
  std::vector<double> out;
  std::vector<double> lse;
};

class NaiveLayer {
 public:
  explicit NaiveLayer(const NaiveOptions& options) : options_(options) {}

  uint64_t length() const { return length_; }

  // k, v: [count, kv_heads, head_dim].
  void Append(const float* k, const float* v, uint64_t count);
  void Truncate(uint64_t length);

  // Attends the query at `position` over the keys t <= position for which attended(kv_head, t).
  // `q`: [q_heads, head_dim]. No key: 0 and -inf.
  using Attended = std::function<bool(uint32_t kv_head, uint64_t t)>;
  NaiveResult Attend(const float* q, uint64_t position, const Attended& attended) const;
  NaiveResult AttendAll(const float* q, uint64_t position) const {
    return Attend(q, position, [](uint32_t, uint64_t) { return true; });
  }

 private:
  // The head at position `position`, rotated where there is RoPE.
  std::vector<double> Rotated(const float* head, uint64_t position) const;

  NaiveOptions options_;
  uint64_t length_ = 0;
  std::vector<double> keys_, values_;  // [length][kv_heads][head_dim]
};

// Rows of one call.
struct Rows {
  Rows(const Geometry& g, uint64_t count)
      : num_rows(count),
        q(count * g.q_row()),
        k(count * g.kv_row()),
        v(count * g.kv_row()),
        out(count * g.q_row(), kUnset),
        lse(count * g.q_heads, kUnset) {}

  static constexpr float kUnset = -54321.0F;
  uint64_t num_rows;
  Floats q, k, v, out, lse;
};

// The text: every value depends on (seed, layer, position) alone, so that any cut into chunks gives
// the same. Values have mean 0 and variance 1.
Rows MakeRows(
    const Geometry& geometry, uint32_t seed, uint32_t layer, uint64_t begin, uint64_t count);

// Largest |got - want| of a row over the largest |want| of it, over all rows.
double RelativeError(const float* got, const std::vector<double>& want, size_t row_size);

}  // namespace hipattn::test

#endif  // HIPATTN_TESTS_SUPPORT_NAIVE_MODEL_H_
