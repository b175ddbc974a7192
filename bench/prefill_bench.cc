// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// dense_prefill of a chunk of rows that ends a text of T tokens.
#include "bench/line.h"
#include "bench/shapes.h"
#include "device/registry.h"

#include <benchmark/benchmark.h>

#include <cmath>
#include <string>
#include <vector>

namespace hipattn::bench {
namespace {

constexpr uint32_t kBlockTokens = 16;
constexpr uint32_t kKvHeads = 2;

struct PrefillShape {
  uint32_t num_tokens;
  uint32_t num_rows;
  uint32_t head_dim;
  uint32_t group;
  DType dtype;
  unsigned num_threads;
};

void RunPrefill(benchmark::State& state, const PrefillShape& shape) {
  const size_t block_bytes = size_t{2} * kBlockTokens * shape.head_dim * DTypeBytes(shape.dtype);
  const size_t blocks = shape.num_tokens / kBlockTokens;
  std::byte* memory = BenchMemory(kKvHeads * blocks * block_bytes);
  const std::vector<uint32_t> slots = Slots(kKvHeads * blocks, false);
  const uint64_t row_floats = uint64_t{kKvHeads} * shape.group * shape.head_dim;
  const std::vector<float> q = Normals(row_floats * shape.num_rows);
  std::vector<float> out(q.size());
  std::vector<device::PrefillJob> jobs;
  for (uint32_t head = 0; head < kKvHeads; ++head) {
    const uint64_t offset = uint64_t{head} * shape.group * shape.head_dim;
    jobs.push_back({slots.data() + head * blocks,
                    q.data() + offset,
                    out.data() + offset,
                    nullptr,
                    shape.num_tokens - shape.num_rows,
                    shape.num_rows});
  }
  device::PrefillParams params = {};
  params.pool = {&memory, 31, kBlockTokens, shape.head_dim, shape.dtype, block_bytes};
  params.jobs = jobs.data();
  params.num_jobs = kKvHeads;
  params.group = shape.group;
  params.q_row_stride = row_floats;
  params.out_row_stride = row_floats;
  params.scale = 1 / std::sqrt(static_cast<float>(shape.head_dim));
  params.out_dtype = DType::kF32;
  const double rows = shape.num_rows;
  const double pairs = rows * (shape.num_tokens - rows) + rows * (rows + 1) / 2;
  const Work work = {static_cast<double>(kKvHeads * blocks * block_bytes),
                     4 * pairs * shape.head_dim * shape.group * kKvHeads};
  const device::OpContext context = {&ExecutorOf(shape.num_threads), nullptr};
  const device::OpTable& ops = *device::CpuOpTables().back();
  RunLine(state, work, shape.num_threads, [&] { ops.dense_prefill(context, params); });
}

void Register(const PrefillShape& shape) {
  const std::string name = "prefill/T:" + std::to_string(shape.num_tokens) +
                           "/rows:" + std::to_string(shape.num_rows) +
                           ShapeName(shape.head_dim, shape.group, shape.dtype) +
                           "/threads:" + std::to_string(shape.num_threads);
  benchmark::RegisterBenchmark(name.c_str(),
                               [shape](benchmark::State& state) { RunPrefill(state, shape); })
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond)
      ->Iterations(kIterations / 10);
}

}  // namespace

void RegisterPrefill() {
  for (const unsigned num_threads : {1U, 2U}) {
    for (const uint32_t num_tokens : {512U, 2048U, 8192U}) {
      Register({num_tokens, 512, 64, 3, DType::kBf16, num_threads});
    }
    Register({2048, 512, 128, 4, DType::kBf16, num_threads});
    Register({2048, 512, 128, 1, DType::kF32, num_threads});
    Register({4096, 4096, 64, 3, DType::kF32, num_threads});
    Register({4096, 4096, 128, 3, DType::kF32, num_threads});
  }
}

}  // namespace hipattn::bench
