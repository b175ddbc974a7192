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
#include "hipattn/hipattn.h"

#include "bench/line.h"
#include "bench/shapes.h"
#include "engine/prefill_options.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <memory>
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

struct EngineCloser {
  void operator()(hipattn_engine_t* engine) const { hipattn_engine_destroy(engine); }
};
struct SequenceCloser {
  void operator()(hipattn_sequence_t* sequence) const { hipattn_sequence_destroy(sequence); }
};

// One text, whose last chunk is read again and again.
class Text {
 public:
  explicit Text(const Shape& shape)
      : shape_(shape),
        q_(Normals(uint64_t{shape.num_rows} * kGroup * kHeadDim)),
        kv_(Normals(uint64_t{shape.num_tokens} * kHeadDim)),
        out_(q_.size()) {
    hipattn_engine_options_t options = HIPATTN_ENGINE_OPTIONS_INIT;
    options.num_layers = 1;
    options.num_q_heads = kGroup;
    options.num_kv_heads = 1;
    options.head_dim = kHeadDim;
    options.num_threads = 1;
    hipattn_engine_t* engine = nullptr;
    Check(hipattn_engine_create(&options, &engine));
    engine_.reset(engine);
    hipattn_sequence_t* sequence = nullptr;
    Check(hipattn_sequence_create(engine, nullptr, &sequence));
    sequence_.reset(sequence);
    Attend(shape.num_tokens - shape.num_rows, nullptr, nullptr);
  }

  bool ok() const { return ok_; }

  // Seconds of the last chunk, in the given mode; *density is set.
  double Read(const hipattn_attention_options_t& options, double* density) {
    Check(hipattn_sequence_set_options(sequence_.get(), &options));
    Check(hipattn_sequence_truncate(sequence_.get(), shape_.num_tokens - shape_.num_rows));
    hipattn_stats_t stats = HIPATTN_STATS_INIT;
    Check(hipattn_engine_stats(engine_.get(), &stats, 1));
    const double start = Now(1);
    Attend(shape_.num_rows, q_.data(), out_.data());
    const double seconds = Now(1) - start;
    Check(hipattn_engine_stats(engine_.get(), &stats, 1));
    *density = stats.prefill_dense_tiles == 0 ? 1.0
                                              : static_cast<double>(stats.prefill_tiles) /
                                                    static_cast<double>(stats.prefill_dense_tiles);
    return seconds;
  }

 private:
  void Check(hipattn_status_t status) { ok_ = ok_ && status == HIPATTN_OK; }

  void Attend(uint32_t rows, const float* q, float* out) {
    if (rows == 0) {
      return;
    }
    hipattn_sequence_t* const sequence = sequence_.get();
    hipattn_attend_args_t args = HIPATTN_ATTEND_ARGS_INIT;
    args.num_sequences = 1;
    args.sequences = &sequence;
    args.num_new_tokens = &rows;
    args.q = q;
    args.k = kv_.data();
    args.v = kv_.data();
    args.out = out;
    args.phase = 2;
    Check(hipattn_attend(engine_.get(), &args));
  }

  const Shape shape_;
  const std::vector<float> q_, kv_;
  std::vector<float> out_;
  bool ok_ = true;
  std::unique_ptr<hipattn_engine_t, EngineCloser> engine_;
  std::unique_ptr<hipattn_sequence_t, SequenceCloser> sequence_;
};

double Median(std::vector<double> values) {
  std::nth_element(
      values.begin(), values.begin() + static_cast<ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

void RunAuto(benchmark::State& state, const Shape& shape) {
  Text text(shape);
  hipattn_attention_options_t dense = HIPATTN_ATTENTION_OPTIONS_INIT;
  dense.decode_mode = HIPATTN_DECODE_DENSE;
  dense.prefill_mode = HIPATTN_PREFILL_DENSE;
  hipattn_attention_options_t lines = dense;
  lines.prefill_mode = HIPATTN_PREFILL_VERTICAL_SLASH;
  const core::LineBudget budget = engine::AutoLines(shape.num_tokens);
  lines.prefill_sizes[0] = shape.all_columns ? shape.num_tokens : budget.verticals;
  lines.prefill_sizes[1] = budget.slashes;
  std::vector<double> dense_times, times;
  double density = 0;
  double unused = 0;
  text.Read(lines, &density);  // work memory is touched
  for (auto _ : state) {
    times.push_back(text.Read(lines, &density));
    dense_times.push_back(text.Read(dense, &unused));
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
