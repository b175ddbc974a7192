// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Engines through the C API beside naive models of the same texts.
#ifndef HIPATTN_TESTS_ENGINE_ENGINE_FIXTURE_H_
#define HIPATTN_TESTS_ENGINE_ENGINE_FIXTURE_H_

#include "hipattn/hipattn.hpp"

#include "tests/support/naive_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace hipattn::test {

constexpr uint32_t kByLength = 0;
constexpr uint32_t kDecode = 1;
constexpr uint32_t kPrefill = 2;

inline hipattn_engine_options_t EngineOptionsOf(const Geometry& geometry,
                                                uint32_t kv_dtype = HIPATTN_F32,
                                                uint32_t num_layers = 1,
                                                uint32_t num_threads = 1) {
  hipattn_engine_options_t options = HIPATTN_ENGINE_OPTIONS_INIT;
  options.num_threads = num_threads;
  options.num_layers = num_layers;
  options.num_q_heads = geometry.q_heads;
  options.num_kv_heads = geometry.kv_heads;
  options.head_dim = geometry.head_dim;
  options.kv_dtype = kv_dtype;
  options.device_kv_bytes = uint64_t{512} << 20;
  return options;
}

// The tree alone; sketch_test.cc has what sketches add.
inline hipattn_attention_options_t SparseOptions(uint32_t budget, uint32_t sinks, uint32_t window) {
  hipattn_attention_options_t options = HIPATTN_ATTENTION_OPTIONS_INIT;
  options.decode_mode = HIPATTN_DECODE_SPARSE;
  options.budget_tokens = budget;
  options.sink_tokens = sinks == 0 ? HIPATTN_NONE : sinks;
  options.window_tokens = window;
  options.rerank_tokens = HIPATTN_NONE;
  return options;
}

// One call for one sequence; fills rows.out and rows.lse.
inline hipattn_status_t TryAttend(
    Engine& engine, Sequence& sequence, uint32_t layer, Rows& rows, uint32_t phase) {
  hipattn_sequence_t* const handle = sequence.get();
  const auto count = static_cast<uint32_t>(rows.num_rows);
  hipattn_attend_args_t args = HIPATTN_ATTEND_ARGS_INIT;
  args.layer = layer;
  args.num_sequences = 1;
  args.sequences = &handle;
  args.num_new_tokens = &count;
  args.q = rows.q.data();
  args.k = rows.k.data();
  args.v = rows.v.data();
  args.out = rows.out.data();
  args.lse = rows.lse.data();
  args.phase = phase;
  return hipattn_attend(engine.get(), &args);
}

// How a text is read.
struct Reading {
  uint64_t chunk = UINT64_MAX;  // tokens of a call
  uint32_t layer = 0;
};

// Reads the tokens [begin, end) of text `seed`; returns the last chunk.
inline Rows Feed(Engine& engine,
                 Sequence& sequence,
                 const Geometry& geometry,
                 uint32_t seed,
                 uint64_t begin,
                 uint64_t end,
                 const Reading& reading = {}) {
  Rows rows(geometry, 0);
  for (uint64_t at = begin; at < end; at += rows.num_rows) {
    rows = MakeRows(geometry, seed, reading.layer, at, std::min(reading.chunk, end - at));
    EXPECT_EQ(TryAttend(engine, sequence, reading.layer, rows, kPrefill), HIPATTN_OK)
        << hipattn_last_error_message();
  }
  return rows;
}

// Appends the tokens [begin, end) of text `seed` without attending them.
inline void AppendOnly(Engine& engine,
                       Sequence& sequence,
                       const Geometry& geometry,
                       uint32_t seed,
                       uint64_t begin,
                       uint64_t end) {
  const Rows rows = MakeRows(geometry, seed, 0, begin, end - begin);
  engine.Attend<float>(0, sequence, {.q = {}, .k = rows.k.span(), .v = rows.v.span(), .out = {}});
}

// One decode step of the token at `position`.
inline Rows Decode(Engine& engine,
                   Sequence& sequence,
                   const Geometry& geometry,
                   uint32_t seed,
                   uint64_t position,
                   uint32_t layer = 0) {
  Rows rows = MakeRows(geometry, seed, layer, position, 1);
  EXPECT_EQ(TryAttend(engine, sequence, layer, rows, kDecode), HIPATTN_OK)
      << hipattn_last_error_message();
  return rows;
}

inline void ExpectSameBits(const Floats& got, const Floats& want, const char* what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  EXPECT_EQ(std::memcmp(got.data(), want.data(), got.size() * sizeof(float)), 0)
      << what << " differ in bits";
}

inline void ExpectSameRows(const Rows& got, const Rows& want) {
  ExpectSameBits(got.out, want.out, "out");
  ExpectSameBits(got.lse, want.lse, "lse");
}

// Row `row` of `rows` against `want`, both relative to the largest value of each head.
inline void ExpectNear(const Geometry& geometry,
                       const Rows& rows,
                       uint64_t row,
                       const NaiveResult& want,
                       double bound) {
  EXPECT_LE(RelativeError(rows.out.data() + row * geometry.q_row(), want.out, geometry.head_dim),
            bound);
  for (uint32_t h = 0; h < geometry.q_heads; ++h) {
    EXPECT_NEAR(rows.lse[row * geometry.q_heads + h],
                want.lse[h],
                bound * std::max(1.0, std::abs(want.lse[h])));
  }
}

}  // namespace hipattn::test

#endif  // HIPATTN_TESTS_ENGINE_ENGINE_FIXTURE_H_
