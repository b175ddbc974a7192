// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Whole decode steps through the C API: one token over T tokens of random keys and values, sparse
// and dense in turn on equal texts, everything counted that hipattn_attend does. mode:tree attends
// what the tree chooses (budget 2048), mode:sketches the default (512 of the 2048 tokens that the
// tree keeps). Counters:
//   sparse_us, dense_us   least time of one layer's step
//   dense/sparse          the ratio of the least times; median_ratio of the medians
//   search_us, attend_us  of the sparse step, by the library's own clock
//   share_%               blocks attended of all blocks
//   even_ratio            dense/sparse if dense decoding read KV no faster than the sparse step's
//                         attention does (of the least times)
// step/.../mode:auto compares AUTO at a text short enough to be dense with DENSE, three equal texts
// in turn: AUTO, DENSE and, to show what the comparison can tell apart, DENSE once more.
//   auto_cost_%           what AUTO adds to the mean step, its share of finished blocks included;
//                         the slowest 2 % of the steps of each text, which something disturbed, are
//                         left out
//   control_%             the same of the second DENSE text
// step/.../mode:audit compares default texts with and without audits and, to show what the
// comparison can tell apart, one more without, in turn, over whole audit intervals. An audited step
// is known by the keys it reads.
//   audit_us              what an audited step takes longer, median
//   audit_%               of all time: audit_us, as often as it falls due, per median step
//   control_%             the same of the second text without audits, in the same steps
#include "hipattn/hipattn.h"

#include "bench/line.h"
#include "bench/shapes.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

namespace hipattn::bench {
namespace {

constexpr uint32_t kModelLayers = 30;  // one of them estimates its recall in every step
constexpr uint32_t kLayers = 2;  // that are filled: what one left in the caches the other evicts
constexpr uint32_t kKvHeads = 3;
constexpr uint32_t kFillTokens = 4096;

// How the text that is compared with dense decoding is attended.
enum class Mode { kAuto, kTree, kSketches, kAudit };

struct Shape {
  uint32_t num_tokens, head_dim, group;
  unsigned num_threads;
  Mode mode;
};

struct EngineCloser {
  void operator()(hipattn_engine_t* engine) const { hipattn_engine_destroy(engine); }
};
struct SequenceCloser {
  void operator()(hipattn_sequence_t* sequence) const { hipattn_sequence_destroy(sequence); }
};
using EnginePtr = std::unique_ptr<hipattn_engine_t, EngineCloser>;
using SequencePtr = std::unique_ptr<hipattn_sequence_t, SequenceCloser>;

// Texts of the same random keys: one of the shape's mode, and those it is compared with.
class Texts {
 public:
  explicit Texts(const Shape& shape)
      : shape_(shape), numbers_(Normals(kFillTokens * kKvHeads * shape.head_dim * 2)) {
    hipattn_engine_options_t options = HIPATTN_ENGINE_OPTIONS_INIT;
    options.num_layers = kModelLayers;
    options.num_q_heads = kKvHeads * shape.group;
    options.num_kv_heads = kKvHeads;
    options.head_dim = shape.head_dim;
    options.num_threads = shape.num_threads;
    hipattn_engine_t* engine = nullptr;
    Check(hipattn_engine_create(&options, &engine));
    engine_.reset(engine);
    hipattn_attention_options_t attention = HIPATTN_ATTENTION_OPTIONS_INIT;
    if (shape.mode != Mode::kAudit) {
      attention.decode_mode = HIPATTN_DECODE_DENSE;
      base_ = NewText(attention);
    }
    attention.decode_mode = shape.mode == Mode::kAuto ? HIPATTN_DECODE_AUTO : HIPATTN_DECODE_SPARSE;
    attention.rerank_tokens = shape.mode == Mode::kTree ? HIPATTN_NONE : 0;
    text_ = NewText(attention);
    if (shape.mode == Mode::kAudit) {
      attention.audit_interval = HIPATTN_NONE;
      base_ = NewText(attention);
      control_ = NewText(attention);
    }
    if (shape.mode == Mode::kAuto) {
      attention = HIPATTN_ATTENTION_OPTIONS_INIT;
      attention.decode_mode = HIPATTN_DECODE_DENSE;
      control_ = NewText(attention);
    }
    out_.resize(kKvHeads * shape.group * shape.head_dim);
  }

  bool ok() const { return ok_; }
  hipattn_sequence_t* text() const { return text_.get(); }
  // What text() is compared with; mode:audit: the text without audits.
  hipattn_sequence_t* base() const { return base_.get(); }
  hipattn_sequence_t* control() const { return control_.get(); }

  // Seconds of one token in one layer.
  double Step(hipattn_sequence_t* sequence, uint32_t layer, uint64_t step) {
    hipattn_attend_args_t args = Args(sequence, layer, &kOne);
    args.q = numbers_.data() + step % 64 * shape_.head_dim;  // another query every step
    args.out = out_.data();
    const double start = Now(shape_.num_threads);
    Check(hipattn_attend(engine_.get(), &args));
    return Now(shape_.num_threads) - start;
  }

  hipattn_stats_t TakeStats() {
    hipattn_stats_t stats = {};
    stats.struct_size = sizeof stats;
    Check(hipattn_engine_stats(engine_.get(), &stats, 1));
    return stats;
  }

 private:
  static constexpr uint32_t kOne = 1;

  void Check(hipattn_status_t status) { ok_ = ok_ && status == HIPATTN_OK; }

  hipattn_attend_args_t Args(hipattn_sequence_t* const& sequence,
                             uint32_t layer,
                             const uint32_t* count) {
    sequence_ = sequence;
    hipattn_attend_args_t args = HIPATTN_ATTEND_ARGS_INIT;
    args.layer = layer;
    args.num_sequences = 1;
    args.sequences = &sequence_;
    args.num_new_tokens = count;
    args.k = numbers_.data();
    args.v = numbers_.data() + numbers_.size() / 2;
    return args;
  }

  SequencePtr NewText(const hipattn_attention_options_t& options) {
    hipattn_sequence_t* text = nullptr;
    Check(hipattn_sequence_create(engine_.get(), &options, &text));
    Fill(text);
    return SequencePtr(text);
  }

  void Fill(hipattn_sequence_t* text) {
    for (uint32_t done = 0; ok_ && done < shape_.num_tokens;) {
      const uint32_t count = std::min(kFillTokens, shape_.num_tokens - done);
      for (uint32_t layer = 0; layer < kLayers; ++layer) {
        const hipattn_attend_args_t args = Args(text, layer, &count);
        Check(hipattn_attend(engine_.get(), &args));
      }
      done += count;
    }
  }

  const Shape shape_;
  const std::vector<float> numbers_;
  std::vector<float> out_;
  EnginePtr engine_;
  SequencePtr text_, base_, control_;
  hipattn_sequence_t* sequence_ = nullptr;
  bool ok_ = true;
};

double Median(std::vector<double> times) {
  std::nth_element(
      times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2), times.end());
  return times[times.size() / 2];
}

// Without the slowest 2 %.
double QuietMean(std::vector<double> times) {
  std::sort(times.begin(), times.end());
  times.resize(times.size() - times.size() / 50);
  return std::accumulate(times.begin(), times.end(), 0.0) / static_cast<double>(times.size());
}

void RunAuto(benchmark::State& state, const Shape& shape) {
  Texts texts(shape);
  hipattn_sequence_t* const sequences[] = {texts.base(), texts.text(), texts.control()};
  std::vector<double> times[3];
  std::vector<size_t> order = {0, 1, 2};
  uint64_t step = 0;
  for (auto _ : state) {
    double sum = 0.0;
    for (const size_t i : order) {
      times[i].push_back(
          texts.Step(sequences[i], static_cast<uint32_t>(step % kLayers), step / kLayers));
      sum += times[i].back();
    }
    state.SetIterationTime(sum);
    if (++step % kLayers == 0) {
      std::next_permutation(order.begin(), order.end());
    }
  }
  if (!texts.ok()) {
    state.SkipWithError(hipattn_last_error_message());
    return;
  }
  const double dense = QuietMean(times[0]);
  state.counters["auto_us"] = QuietMean(times[1]) * 1e6;
  state.counters["dense_us"] = dense * 1e6;
  state.counters["auto_cost_%"] = 100.0 * (QuietMean(times[1]) / dense - 1.0);
  state.counters["control_%"] = 100.0 * (QuietMean(times[2]) / dense - 1.0);
}

// The interval that audits have by default at this length.
uint32_t AuditInterval(uint32_t num_tokens) {
  return std::max(64U, (num_tokens / 400 + 63) / 64 * 64);
}

void RunAudits(benchmark::State& state, const Shape& shape) {
  Texts texts(shape);
  hipattn_sequence_t* const sequences[] = {texts.base(), texts.text(), texts.control()};
  std::vector<size_t> order = {0, 1, 2};
  std::vector<double> silent;
  std::vector<double> audits;
  std::vector<double> control;
  uint64_t step = 0;
  for (auto _ : state) {
    double times[3];
    uint64_t keys[3];
    texts.TakeStats();
    for (const size_t i : order) {
      times[i] = texts.Step(sequences[i], static_cast<uint32_t>(step % kLayers), step / kLayers);
      keys[i] = texts.TakeStats().search_keys_read;
    }
    silent.push_back(times[0]);
    if (keys[1] > keys[0]) {
      audits.push_back(times[1] - times[0]);
      control.push_back(times[2] - times[0]);
    }
    state.SetIterationTime(times[1]);
    if (++step % kLayers == 0) {
      std::next_permutation(order.begin(), order.end());
    }
  }
  if (!texts.ok() || audits.empty()) {
    state.SkipWithError(texts.ok() ? "no step was audited" : hipattn_last_error_message());
    return;
  }
  const double due = static_cast<double>(audits.size()) / static_cast<double>(step);
  const double least = Median(silent);
  state.counters["silent_us"] = least * 1e6;
  state.counters["audit_us"] = Median(audits) * 1e6;
  state.counters["audits"] = static_cast<double>(audits.size());
  state.counters["audit_%"] = 100.0 * due * Median(audits) / least;
  state.counters["control_%"] = 100.0 * due * Median(control) / least;
}

void RunStep(benchmark::State& state, const Shape& shape) {
  Texts texts(shape);
  std::vector<double> sparse;
  std::vector<double> dense;
  double least_attend = 1e9;
  hipattn_stats_t sums = {};
  uint64_t step = 0;
  for (auto _ : state) {
    const auto layer = static_cast<uint32_t>(step % kLayers);
    // Who goes first finds the inputs cold: they take turns.
    const bool dense_first = step / kLayers % 2 == 1;
    if (dense_first) {
      dense.push_back(texts.Step(texts.base(), layer, step));
    }
    texts.TakeStats();
    sparse.push_back(texts.Step(texts.text(), layer, step));
    const hipattn_stats_t stats = texts.TakeStats();
    sums.search_ns += stats.search_ns;
    sums.attend_ns += stats.attend_ns;
    least_attend = std::min(least_attend, static_cast<double>(stats.attend_ns) * 1e-9);
    sums.blocks_attended += stats.blocks_attended;
    if (!dense_first) {
      dense.push_back(texts.Step(texts.base(), layer, step));
    }
    state.SetIterationTime(sparse.back());
    ++step;
  }
  if (!texts.ok()) {
    state.SkipWithError(hipattn_last_error_message());
    return;
  }
  const auto steps = static_cast<double>(step);
  const double least_sparse = *std::min_element(sparse.begin(), sparse.end());
  const double least_dense = *std::min_element(dense.begin(), dense.end());
  state.counters["sparse_us"] = least_sparse * 1e6;
  state.counters["dense_us"] = least_dense * 1e6;
  state.counters["dense/sparse"] = least_dense / least_sparse;
  state.counters["median_ratio"] = Median(dense) / Median(sparse);
  state.counters["search_us"] = static_cast<double>(sums.search_ns) / steps * 1e-3;
  state.counters["attend_us"] = static_cast<double>(sums.attend_ns) / steps * 1e-3;
  const double share = static_cast<double>(sums.blocks_attended) / steps / kKvHeads /
                       static_cast<double>(shape.num_tokens / 16);
  state.counters["share_%"] = 100.0 * share;
  state.counters["even_ratio"] = least_attend / share / least_sparse;
}

const char* NameOf(Mode mode) {
  switch (mode) {
    case Mode::kAuto:
      return "auto";
    case Mode::kTree:
      return "tree";
    case Mode::kSketches:
      return "sketches";
    case Mode::kAudit:
      return "audit";
  }
  return "";
}

benchmark::IterationCount IterationsOf(const Shape& shape) {
  constexpr uint32_t kIntervals = 3;  // so few samples make no head a scanned one
  return shape.mode == Mode::kAuto    ? 2000
         : shape.mode == Mode::kAudit ? kIntervals * kLayers * AuditInterval(shape.num_tokens)
                                      : kIterations / 2;
}

void RegisterStep(const Shape& shape) {
  const std::string name =
      "step/T:" + std::to_string(shape.num_tokens) + "/d:" + std::to_string(shape.head_dim) +
      "/group:" + std::to_string(shape.group) + "/dtype:bf16/mode:" + NameOf(shape.mode) +
      "/threads:" + std::to_string(shape.num_threads);
  const auto run = [=](benchmark::State& state) {
    switch (shape.mode) {
      case Mode::kAuto:
        return RunAuto(state, shape);
      case Mode::kAudit:
        return RunAudits(state, shape);
      case Mode::kTree:
      case Mode::kSketches:
        return RunStep(state, shape);
    }
  };
  benchmark::RegisterBenchmark(name.c_str(), run)
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond)
      ->Iterations(IterationsOf(shape));
}

}  // namespace

void RegisterSteps() {
  for (const unsigned num_threads : {1U, 2U}) {
    for (const Mode mode : {Mode::kTree, Mode::kSketches}) {
      for (const uint32_t num_tokens : {65536U, 131072U, 262144U, 1048576U}) {
        RegisterStep({num_tokens, 64, 3, num_threads, mode});
      }
      RegisterStep({131072, 128, 4, num_threads, mode});
    }
    for (const uint32_t num_tokens : {32768U, 131072U}) {
      RegisterStep({num_tokens, 64, 3, num_threads, Mode::kAudit});
      RegisterStep({num_tokens, 128, 4, num_threads, Mode::kAudit});
    }
    RegisterStep({2048, 64, 3, num_threads, Mode::kAuto});
    RegisterStep({1024, 128, 4, num_threads, Mode::kAuto});
  }
}

}  // namespace hipattn::bench
