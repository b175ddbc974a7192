// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// snapshot: a text of 0.5 GB of keys and values is saved to the working directory and loaded from
// it, in alternation with dd writing and reading as many bytes past the page cache.
//   GB/s, dd_GB/s, dd_%   from the medians; dd_% is snapshot / dd
// snapshot/index: what a load saves by reading summaries and sketches instead of making them from
// the keys: index_s is the time of making them, read_s what their bytes take at the speed of dd.
#include "hipattn/hipattn.hpp"

#include "bench/line.h"
#include "bench/roof.h"
#include "bench/shapes.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace hipattn::bench {
namespace {

constexpr uint32_t kLayers = 8;
constexpr uint32_t kKvHeads = 8;
constexpr uint32_t kHeadDim = 128;
constexpr uint64_t kTokens = 16384;
constexpr uint32_t kChunk = 2048;
constexpr unsigned kThreads = 2;
constexpr int kRounds = 7;

constexpr const char* kFile = "hipattn-bench.snapshot";
constexpr const char* kDdFile = "hipattn-bench.dd";

hipattn_engine_options_t EngineOptions() {
  hipattn_engine_options_t options = HIPATTN_ENGINE_OPTIONS_INIT;
  options.num_threads = kThreads;
  options.num_layers = kLayers;
  options.num_q_heads = kKvHeads;
  options.num_kv_heads = kKvHeads;
  options.head_dim = kHeadDim;
  return options;
}

hipattn_attention_options_t AttentionOptions(uint32_t decode_mode) {
  hipattn_attention_options_t options = HIPATTN_ATTENTION_OPTIONS_INIT;
  options.decode_mode = decode_mode;
  return options;
}

void Append(Engine& engine, Sequence& text, uint64_t tokens) {
  static const std::vector<float> rows = Normals(size_t{kChunk} * kKvHeads * kHeadDim);
  for (uint64_t done = 0; done < tokens; done += kChunk) {
    for (uint32_t layer = 0; layer < kLayers; ++layer) {
      engine.Attend<float>(layer, text, {.q = {}, .k = rows, .v = rows, .out = {}});
    }
  }
}

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + kRounds / 2, values.end());
  return values[kRounds / 2];
}

template <typename Run>
double SecondsOf(const Run& run) {
  const double begin = Now(kThreads);
  run();
  return Now(kThreads) - begin;
}

// Seconds of dd for so many bytes of 8 MiB each; negative when it failed.
double DdSeconds(bool writes, uint64_t bytes) {
  const std::string count = " bs=8M status=none count=" + std::to_string(bytes >> 23);
  const std::string command =
      writes ? std::string("dd if=/dev/zero oflag=direct conv=fsync of=") + kDdFile + count
             : std::string("dd of=/dev/null iflag=direct if=") + kDdFile + count;
  int status = 0;
  const double seconds = SecondsOf([&] { status = std::system(command.c_str()); });
  return status == 0 ? seconds : -1.0;
}

void Finish(benchmark::State& state,
            uint64_t bytes,
            const std::vector<double>& seconds,
            const std::vector<double>& dd) {
  if (*std::min_element(dd.begin(), dd.end()) < 0) {
    state.SkipWithError("dd has failed: is the working directory on a disk with direct I/O?");
    return;
  }
  const auto dd_bytes = static_cast<double>(bytes >> 23 << 23);
  const double rate = static_cast<double>(bytes) / Median(seconds);
  const double dd_rate = dd_bytes / Median(dd);
  state.counters["GB/s"] = rate * 1e-9;
  state.counters["dd_GB/s"] = dd_rate * 1e-9;
  state.counters["dd_%"] = 100 * rate / dd_rate;
}

void RunSnapshot(benchmark::State& state, bool saves) {
  Engine engine(EngineOptions());
  Sequence text(engine, AttentionOptions(HIPATTN_DECODE_SPARSE));
  Append(engine, text, kTokens);
  text.Save(kFile, {});
  const uint64_t bytes = std::filesystem::file_size(kFile);
  (void)DdSeconds(true, bytes);
  std::vector<double> seconds;
  std::vector<double> dd;
  for (auto _ : state) {
    if (saves) {
      seconds.push_back(SecondsOf([&] { text.Save(kFile, {}); }));
    } else {
      seconds.push_back(
          SecondsOf([&] { benchmark::DoNotOptimize(Sequence::Load(engine, kFile, {}).get()); }));
    }
    state.SetIterationTime(seconds.back());
    dd.push_back(DdSeconds(saves, bytes));
  }
  Finish(state, bytes, seconds, dd);
  std::filesystem::remove(kFile);
  std::filesystem::remove(kDdFile);
}

void RunIndex(benchmark::State& state) {
  Engine engine(EngineOptions());
  (void)DdSeconds(true, uint64_t{512} << 20);
  std::vector<double> with;
  std::vector<double> without;
  std::vector<double> dd;
  uint64_t index_bytes = 0;
  for (auto _ : state) {
    for (const uint32_t mode : {HIPATTN_DECODE_SPARSE, HIPATTN_DECODE_DENSE}) {
      Sequence text(engine, AttentionOptions(mode));
      const double seconds = SecondsOf([&] { Append(engine, text, kTokens); });
      const bool indexed = mode == HIPATTN_DECODE_SPARSE;
      (indexed ? with : without).push_back(seconds);
      index_bytes = indexed ? engine.Stats().device_index_bytes : index_bytes;
    }
    state.SetIterationTime(with.back());
    dd.push_back(DdSeconds(false, uint64_t{512} << 20));
  }
  state.counters["index_MB"] = static_cast<double>(index_bytes) * 1e-6;
  state.counters["index_s"] = Median(with) - Median(without);
  state.counters["read_s"] =
      static_cast<double>(index_bytes) / (static_cast<double>(uint64_t{512} << 20) / Median(dd));
  std::filesystem::remove(kDdFile);
}

}  // namespace

void RegisterSnapshots() {
  const auto add = [](const char* name, auto run) {
    benchmark::RegisterBenchmark(name, run)
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond)
        ->Iterations(kRounds);
  };
  add("snapshot/save", [](benchmark::State& state) { RunSnapshot(state, true); });
  add("snapshot/load", [](benchmark::State& state) { RunSnapshot(state, false); });
  add("snapshot/index", [](benchmark::State& state) { RunIndex(state); });
}

}  // namespace hipattn::bench
