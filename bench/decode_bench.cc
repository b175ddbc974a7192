// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// sparse_decode over a working set of 512 MB: as many jobs as that takes, each over T tokens, in
// slices of 16 MB or one job. Dense
// lists name neighbouring blocks in order; scattered lists are a random permutation of the whole
// pool.
#include "bench/line.h"
#include "bench/shapes.h"
#include "device/registry.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

namespace hipattn::bench {
namespace {

using device::DecodeJob;
using device::DecodeParams;
using device::KvRange;

constexpr size_t kPoolBytes = size_t{512} << 20;
constexpr uint32_t kBlockTokens = 16;

struct DecodeShape {
  uint32_t num_tokens;
  uint32_t head_dim;
  uint32_t group;
  DType dtype;
  bool scattered;
  unsigned num_threads;
};

class DecodeCase {
 public:
  explicit DecodeCase(const DecodeShape& shape) : shape_(shape), memory_(BenchMemory(kPoolBytes)) {
    block_bytes_ = size_t{2} * kBlockTokens * shape.head_dim * DTypeBytes(shape.dtype);
    blocks_per_job_ = shape.num_tokens / kBlockTokens;
    num_jobs_ = std::max<size_t>(1, kPoolBytes / block_bytes_ / blocks_per_job_);
    slice_jobs_ = std::max<size_t>(1, kSliceBytes / block_bytes_ / blocks_per_job_);
    slots_ = Slots(num_jobs_ * blocks_per_job_, shape.scattered);
    for (const uint32_t slot : slots_) {
      ranges_.push_back({slot, 0, kBlockTokens});
    }
    const size_t floats = num_jobs_ * shape.group * shape.head_dim;
    q_ = Normals(floats);
    out_.resize(floats);
    lse_.resize(num_jobs_ * shape.group);
    const uint64_t job_floats = device::DecodeWorkspaceFloats(
        static_cast<uint32_t>(blocks_per_job_), shape.group, shape.head_dim);
    workspace_.resize(num_jobs_ * job_floats);
    for (size_t i = 0; i < num_jobs_; ++i) {
      jobs_.push_back(Job(i));
    }
  }

  DecodeParams Params(size_t slice) const {
    DecodeParams params = {};
    params.pool = {&memory_, 31, kBlockTokens, shape_.head_dim, shape_.dtype, block_bytes_};
    params.jobs = jobs_.data() + slice * slice_jobs_;
    params.num_jobs = static_cast<uint32_t>(slice_jobs_);
    params.group = shape_.group;
    params.scale = 1 / std::sqrt(static_cast<float>(shape_.head_dim));
    params.out_dtype = DType::kF32;
    params.workspace = const_cast<float*>(workspace_.data());
    return params;
  }
  BareRead Read() const {
    std::vector<const std::byte*> blocks;
    for (const uint32_t slot : slots_) {
      blocks.push_back(memory_ + slot * block_bytes_);
    }
    return {std::move(blocks), block_bytes_, num_jobs_ / slice_jobs_, shape_.num_threads};
  }
  Work OneSlice() const {
    const auto blocks = static_cast<double>(slice_jobs_ * blocks_per_job_);
    return {blocks * static_cast<double>(block_bytes_),
            4 * blocks * kBlockTokens * shape_.head_dim * shape_.group};
  }

 private:
  DecodeJob Job(size_t i) {
    DecodeJob job = {};
    if (shape_.scattered) {
      job.ranges = ranges_.data() + i * blocks_per_job_;
    } else {
      job.slots = slots_.data() + i * blocks_per_job_;
      job.num_tokens = shape_.num_tokens;
    }
    job.num_ranges = static_cast<uint32_t>(blocks_per_job_);
    job.q = q_.data() + i * shape_.group * shape_.head_dim;
    job.out = out_.data() + i * shape_.group * shape_.head_dim;
    job.lse = lse_.data() + i * shape_.group;
    return job;
  }

  DecodeShape shape_;
  std::byte* memory_;
  size_t block_bytes_ = 0;
  size_t blocks_per_job_ = 0;
  size_t num_jobs_ = 0;
  size_t slice_jobs_ = 0;
  std::vector<uint32_t> slots_;
  std::vector<KvRange> ranges_;
  std::vector<float> q_, out_, lse_, workspace_;
  std::vector<DecodeJob> jobs_;
};

void RunDecode(benchmark::State& state, const DecodeShape& shape) {
  const DecodeCase decode(shape);
  BareRead read = decode.Read();
  read.Tune();
  const device::OpContext context = {&ExecutorOf(shape.num_threads), nullptr};
  const device::OpTable& ops = *device::CpuOpTables().back();
  RunLine(state, decode.OneSlice(), shape.num_threads, read, [&](size_t slice) {
    ops.sparse_decode(context, decode.Params(slice));
  });
}

void Register(const DecodeShape& shape) {
  const std::string name = "decode/T:" + std::to_string(shape.num_tokens) +
                           ShapeName(shape.head_dim, shape.group, shape.dtype) +
                           "/list:" + (shape.scattered ? "scattered" : "dense") +
                           "/threads:" + std::to_string(shape.num_threads);
  benchmark::RegisterBenchmark(name.c_str(),
                               [shape](benchmark::State& state) { RunDecode(state, shape); })
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond)
      ->Iterations(kIterations);
}

}  // namespace

void RegisterDecode() {
  for (const unsigned num_threads : {1U, 2U}) {
    for (const bool scattered : {true, false}) {
      const uint32_t num_tokens = scattered ? 2048 : 131072;
      for (const uint32_t head_dim : {64U, 128U}) {
        for (const uint32_t group : {1U, 3U, 4U, 8U}) {
          Register({num_tokens, head_dim, group, DType::kBf16, scattered, num_threads});
        }
      }
      Register({num_tokens, 64, 3, DType::kF16, scattered, num_threads});
      Register({num_tokens, 64, 3, DType::kF32, scattered, num_threads});
    }
    for (const uint32_t num_tokens : {4096U, 32768U, 1U << 20}) {
      Register({num_tokens, 64, 3, DType::kBf16, false, num_threads});
    }
  }
}

}  // namespace hipattn::bench
