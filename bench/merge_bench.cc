// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// merge_states of two partial results over 384 MB, against the sequential bandwidth: two thirds of
// the bytes are read, one written.
#include "bench/line.h"
#include "bench/shapes.h"
#include "device/registry.h"

#include <benchmark/benchmark.h>

#include <string>
#include <vector>

namespace hipattn::bench {
namespace {

constexpr uint64_t kPartFloats = uint64_t{32} << 20;

void RunMerge(benchmark::State& state, uint32_t head_dim, unsigned num_threads) {
  auto* memory = reinterpret_cast<float*>(BenchMemory(3 * kPartFloats * sizeof(float)));
  const uint64_t num_rows = kPartFloats / head_dim;
  const std::vector<float> lse_a = Normals(num_rows);
  const std::vector<float> lse_b(num_rows, 0.0F);
  std::vector<float> lse(num_rows);
  device::MergeParams params = {};
  params.num_rows = num_rows;
  params.head_dim = head_dim;
  params.o_a = memory;
  params.lse_a = lse_a.data();
  params.o_b = memory + kPartFloats;
  params.lse_b = lse_b.data();
  params.o = memory + 2 * kPartFloats;
  params.lse = lse.data();
  const Work work = {3.0 * kPartFloats * sizeof(float), 3.0 * kPartFloats};
  const device::OpContext context = {&ExecutorOf(num_threads), nullptr};
  const device::OpTable& ops = *device::CpuOpTables().back();
  RunLine(state, work, num_threads, [&] { ops.merge_states(context, params); });
}

}  // namespace

void RegisterMerge() {
  for (const unsigned num_threads : {1U, 2U}) {
    for (const uint32_t head_dim : {64U, 128U}) {
      const std::string name =
          "merge/d:" + std::to_string(head_dim) + "/threads:" + std::to_string(num_threads);
      benchmark::RegisterBenchmark(
          name.c_str(), [=](benchmark::State& state) { RunMerge(state, head_dim, num_threads); })
          ->UseManualTime()
          ->Unit(benchmark::kMillisecond)
          ->Iterations(kIterations / 10);
    }
  }
}

}  // namespace hipattn::bench
