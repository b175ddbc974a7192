// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// tier_step/...: what tiers add to a decode step. Two engines of one process hold the same text of
// random keys and values, one with everything on the device and one with `device_mb` of device
// memory and a host tier, and take a whole step of a small model's layers in turn. Between layers
// comes a read of as many bytes as the layer's weights would have, so that a step finds the caches
// as in a program; it is not counted. Queries turn slowly, so that selections resemble the last
// step's. Counters, of the steps after the first fifth:
//   resident_us, tiers_us   median time of a step's calls
//   step_ratio              median of the ratios of neighbours in time; attend_ratio and
//                           search_ratio the same of what the library's own clocks count
//   added_us                median of the differences; added_attend_us, added_search_us its parts
//   p99_us                  of the steps with tiers; p99_resident_us
//   hits_%                  of blocks that a step attended
#include "hipattn/hipattn.h"

#include "bench/line.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace hipattn::bench {
namespace {

// SmolLM2-135M.
constexpr uint32_t kLayers = 30;
constexpr uint32_t kKvHeads = 3;
constexpr uint32_t kGroup = 3;
constexpr uint32_t kHeadDim = 64;
constexpr size_t kWeightBytes = size_t{2} << 20;  // of a layer, at 5 bits each
constexpr uint32_t kFillTokens = 1024;
constexpr uint64_t kMiB = uint64_t{1} << 20;
// Of a query's next direction what is new: about one block in a hundred is then another.
constexpr float kTurn = .01F;

struct Shape {
  uint32_t num_tokens;
  uint64_t device_mb;
  unsigned num_threads;
};

struct EngineCloser {
  void operator()(hipattn_engine_t* engine) const { hipattn_engine_destroy(engine); }
};
struct SequenceCloser {
  void operator()(hipattn_sequence_t* sequence) const { hipattn_sequence_destroy(sequence); }
};

// What a step took, in microseconds.
struct StepTimes {
  double all = 0.0, attend = 0.0, search = 0.0;
};

class Text {
 public:
  Text(const Shape& shape, bool tiers) : threads_(shape.num_threads) {
    hipattn_engine_options_t options = HIPATTN_ENGINE_OPTIONS_INIT;
    options.num_layers = kLayers;
    options.num_q_heads = kKvHeads * kGroup;
    options.num_kv_heads = kKvHeads;
    options.head_dim = kHeadDim;
    options.num_threads = shape.num_threads;
    if (tiers) {
      options.device_kv_bytes = shape.device_mb * kMiB;
      options.host_kv_bytes = 1024 * kMiB;
    }
    hipattn_engine_t* engine = nullptr;
    Check(hipattn_engine_create(&options, &engine));
    engine_.reset(engine);
    hipattn_attention_options_t attention = HIPATTN_ATTENTION_OPTIONS_INIT;
    attention.decode_mode = HIPATTN_DECODE_SPARSE;
    attention.budget_tokens = 512;
    attention.window_tokens = 256;
    attention.sink_tokens = 64;
    hipattn_sequence_t* sequence = nullptr;
    if (ok_) {
      Check(hipattn_sequence_create(engine, &attention, &sequence));
    }
    sequence_.reset(sequence);
  }

  bool ok() const { return ok_; }

  // Tokens with these keys and values, [kFillTokens][kKvHeads][kHeadDim] each, in every layer.
  void Append(const std::vector<float>& keys, const std::vector<float>& values) {
    for (uint32_t layer = 0; ok_ && layer < kLayers; ++layer) {
      Call(layer, {kFillTokens, nullptr, keys.data(), values.data(), nullptr});
    }
  }

  StepTimes Step(const std::vector<float>& q,
                 const std::vector<float>& kv,
                 const std::vector<char>& weights,
                 std::vector<float>* out) {
    TakeStats();
    StepTimes times;
    for (uint32_t layer = 0; layer < kLayers; ++layer) {
      const char* begin = weights.data() + layer * kWeightBytes;
      long sum = 0;
      for (size_t i = 0; i < kWeightBytes; i += 64) {
        sum += begin[i];
      }
      benchmark::DoNotOptimize(sum);
      const double start = Now(threads_);
      Call(layer, {1, q.data(), kv.data(), kv.data() + kKvHeads * kHeadDim, out->data()});
      times.all += (Now(threads_) - start) * 1e6;
    }
    const hipattn_stats_t stats = TakeStats();
    times.attend = static_cast<double>(stats.attend_ns) * 1e-3;
    times.search = static_cast<double>(stats.search_ns) * 1e-3;
    hits_ += stats.blocks_hit;
    attended_ += stats.blocks_attended;
    return times;
  }

  void ForgetHits() { hits_ = attended_ = 0; }
  double hit_share() const { return static_cast<double>(hits_) / static_cast<double>(attended_); }

 private:
  struct Rows {
    uint32_t count;
    const float* q;
    const float* k;
    const float* v;
    float* out;
  };

  void Check(hipattn_status_t status) { ok_ = ok_ && status == HIPATTN_OK; }

  void Call(uint32_t layer, const Rows& rows) {
    hipattn_sequence_t* sequence = sequence_.get();
    hipattn_attend_args_t args = HIPATTN_ATTEND_ARGS_INIT;
    args.layer = layer;
    args.num_sequences = 1;
    args.sequences = &sequence;
    args.num_new_tokens = &rows.count;
    args.q = rows.q;
    args.k = rows.k;
    args.v = rows.v;
    args.out = rows.out;
    Check(hipattn_attend(engine_.get(), &args));
  }

  hipattn_stats_t TakeStats() {
    hipattn_stats_t stats = {};
    stats.struct_size = sizeof stats;
    Check(hipattn_engine_stats(engine_.get(), &stats, 1));
    return stats;
  }

  const unsigned threads_;
  std::unique_ptr<hipattn_engine_t, EngineCloser> engine_;
  std::unique_ptr<hipattn_sequence_t, SequenceCloser> sequence_;
  uint64_t hits_ = 0, attended_ = 0;
  bool ok_ = true;
};

double Quantile(std::vector<double> numbers, double share) {
  const auto place = static_cast<std::ptrdiff_t>(share * static_cast<double>(numbers.size() - 1));
  std::nth_element(numbers.begin(), numbers.begin() + place, numbers.end());
  return numbers[static_cast<size_t>(place)];
}

// One number of each step, or of both texts' steps together.
template <typename Of>
double MedianOf(const std::vector<StepTimes>& resident,
                const std::vector<StepTimes>& tiers,
                const Of& of) {
  std::vector<double> numbers;
  for (size_t i = 0; i < tiers.size(); ++i) {
    numbers.push_back(of(resident[i], tiers[i]));
  }
  return Quantile(std::move(numbers), .5);
}

void SetCounters(benchmark::State& state,
                 const std::vector<StepTimes>& resident,
                 const std::vector<StepTimes>& tiers) {
  const auto median = [&](const auto& of) { return MedianOf(resident, tiers, of); };
  using T = const StepTimes&;
  state.counters["resident_us"] = median([](T a, T) { return a.all; });
  state.counters["tiers_us"] = median([](T, T b) { return b.all; });
  state.counters["step_ratio"] = median([](T a, T b) { return b.all / a.all; });
  state.counters["attend_ratio"] = median([](T a, T b) { return b.attend / a.attend; });
  state.counters["search_ratio"] = median([](T a, T b) { return b.search / a.search; });
  state.counters["added_us"] = median([](T a, T b) { return b.all - a.all; });
  state.counters["added_attend_us"] = median([](T a, T b) { return b.attend - a.attend; });
  state.counters["added_search_us"] = median([](T a, T b) { return b.search - a.search; });
  for (const auto* times : {&resident, &tiers}) {
    std::vector<double> all;
    std::transform(
        times->begin(), times->end(), std::back_inserter(all), [](T t) { return t.all; });
    state.counters[times == &tiers ? "p99_us" : "p99_resident_us"] = Quantile(std::move(all), .99);
  }
}

void RunTierSteps(benchmark::State& state, const Shape& shape) {
  Text resident(shape, false);
  Text tiered(shape, true);
  std::mt19937 generator(1);
  std::normal_distribution<float> normal;
  const auto normals = [&](size_t count) {
    std::vector<float> numbers(count);
    std::generate(numbers.begin(), numbers.end(), [&] { return normal(generator); });
    return numbers;
  };
  constexpr size_t kRow = size_t{kKvHeads} * kHeadDim;
  for (uint32_t done = 0; done < shape.num_tokens; done += kFillTokens) {
    const std::vector<float> keys = normals(kFillTokens * kRow);
    const std::vector<float> values = normals(kFillTokens * kRow);
    resident.Append(keys, values);
    tiered.Append(keys, values);
  }
  const std::vector<char> weights(kLayers * kWeightBytes, 1);
  std::vector<float> q = normals(kRow * kGroup);
  std::vector<float> out(q.size());
  std::vector<StepTimes> times[2];
  const auto warmup = static_cast<size_t>(state.max_iterations) / 5;
  size_t step = 0;
  for (auto _ : state) {
    for (float& x : q) {
      x = std::sqrt(1 - kTurn) * x + std::sqrt(kTurn) * normal(generator);
    }
    const std::vector<float> kv = normals(2 * kRow);
    StepTimes both[2];
    for (const size_t i : {step % 2, 1 - step % 2}) {
      both[i] = (i == 0 ? resident : tiered).Step(q, kv, weights, &out);
    }
    if (++step <= warmup) {
      tiered.ForgetHits();
    } else {
      times[0].push_back(both[0]);
      times[1].push_back(both[1]);
    }
    state.SetIterationTime(both[1].all * 1e-6);
  }
  if (!resident.ok() || !tiered.ok()) {
    state.SkipWithError(hipattn_last_error_message());
    return;
  }
  SetCounters(state, times[0], times[1]);
  state.counters["hits_%"] = 100.0 * tiered.hit_share();
}

}  // namespace

void RegisterTierSteps() {
  constexpr uint32_t kTokens = 6144;
  for (const unsigned num_threads : {1U, 2U}) {
    for (const uint64_t device_mb : {256U, 48U}) {  // all of the text, and a third
      const Shape shape = {kTokens, device_mb, num_threads};
      const std::string name = "tier_step/T:" + std::to_string(kTokens) +
                               "/device_mb:" + std::to_string(device_mb) +
                               "/threads:" + std::to_string(num_threads);
      benchmark::RegisterBenchmark(name.c_str(),
                                   [=](benchmark::State& state) { RunTierSteps(state, shape); })
          ->UseManualTime()
          ->Unit(benchmark::kMicrosecond)
          ->Iterations(500);
    }
  }
}

}  // namespace hipattn::bench
