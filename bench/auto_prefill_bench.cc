// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Where prefill mode AUTO's constants come from: chunks of `rows` rows that end a text of T random
// tokens, by the columns and the window that AUTO would attend there, and densely in turn, through
// the C API. lines:all asks for every column instead, which the density guard refuses: what is left
// is dense attention and an estimate for nothing. Random keys will do, because what columns and a
// window cost does not depend on which columns they are. Counters:
//   dense_ms       least time of dense attention
//   of_dense_%     the mode's least time
//   median_%       the ratio of the medians
//   density_%      tiles computed, of dense attention's
#include "bench/last_chunk.h"
#include "bench/line.h"
#include "bench/shapes.h"
#include "engine/prefill_options.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <string>
#include <vector>

namespace hipattn::bench {
namespace {

struct Shape {
  uint32_t num_tokens, num_rows;
  bool all_columns;
};

constexpr uint32_t kGroup = 3;
constexpr uint32_t kHeadDim = 64;

double Median(std::vector<double> values) {
  std::nth_element(
      values.begin(), values.begin() + static_cast<ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

void RunAuto(benchmark::State& state, const Shape& shape) {
  const std::vector<float> q = Normals(uint64_t{shape.num_rows} * kGroup * kHeadDim);
  const std::vector<float> kv = Normals(uint64_t{shape.num_tokens} * kHeadDim);
  LastChunk text({shape.num_tokens, shape.num_rows, kGroup, kHeadDim, 0}, q, kv, kv);
  hipattn_attention_options_t dense = HIPATTN_ATTENTION_OPTIONS_INIT;
  dense.decode_mode = HIPATTN_DECODE_DENSE;
  dense.prefill_mode = HIPATTN_PREFILL_DENSE;
  hipattn_attention_options_t lines = dense;
  lines.prefill_mode = HIPATTN_PREFILL_VERTICAL_SLASH;
  const core::LineBudget budget = engine::AutoLines(shape.num_tokens);
  lines.prefill_sizes[0] = shape.all_columns ? shape.num_tokens : budget.verticals;
  lines.prefill_sizes[1] = budget.slashes;
  std::vector<double> dense_times, times;
  double density = text.Read(lines).Density();  // work memory is touched
  for (auto _ : state) {
    const Reading reading = text.Read(lines);
    density = reading.Density();
    times.push_back(reading.seconds);
    dense_times.push_back(text.Read(dense).seconds);
    state.SetIterationTime(times.back());
  }
  if (!text.ok()) {
    state.SkipWithError(hipattn_last_error_message());
    return;
  }
  const double least = *std::min_element(dense_times.begin(), dense_times.end());
  state.counters["dense_ms"] = least * 1e3;
  state.counters["of_dense_%"] = *std::min_element(times.begin(), times.end()) / least * 100;
  state.counters["median_%"] = Median(times) / Median(dense_times) * 100;
  state.counters["density_%"] = density * 100;
}

void Register(const Shape& shape) {
  const std::string name = "auto_prefill/T:" + std::to_string(shape.num_tokens) +
                           "/rows:" + std::to_string(shape.num_rows) +
                           (shape.all_columns ? "/lines:all" : "/lines:auto");
  benchmark::RegisterBenchmark(name.c_str(),
                               [shape](benchmark::State& state) { RunAuto(state, shape); })
      ->UseManualTime()
      ->Iterations(5);
}

}  // namespace

void RegisterAutoPrefill() {
  for (const uint32_t tokens : {1024U, 2048U, 3072U, 4096U, 6144U, 8192U, 16384U}) {
    Register({tokens, tokens, false});
  }
  for (const uint32_t rows : {256U, 512U, 1024U, 2048U, 4096U}) {
    Register({16384, rows, false});
    Register({16384, rows, true});
  }
}

}  // namespace hipattn::bench
