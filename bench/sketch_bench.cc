// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// score_sketches over 512 MB of sketches of 16 tokens: list:scattered is the rerank of one search,
// 128 blocks in random order, list:scan all blocks of a text in jobs of 4096. A product of bytes
// counts as half an int16 product: VNNI multiplies twice as many at once.
#include "bench/line.h"
#include "bench/shapes.h"
#include "device/registry.h"

#include <benchmark/benchmark.h>

#include <string>
#include <vector>

namespace hipattn::bench {
namespace {

using device::ScoreSketchJob;
using device::ScoreSketchParams;

constexpr size_t kSketchBytes = size_t{512} << 20;
constexpr size_t kSliceBlocks = 32768;
constexpr uint32_t kScanBlocks = 4096;
constexpr uint32_t kRerankBlocks = 128;

struct SketchShape {
  uint32_t head_dim;
  uint32_t group;
  bool scan;
  unsigned num_threads;
};

class SketchCase {
 public:
  explicit SketchCase(const SketchShape& shape)
      : shape_(shape),
        chunk_(BenchMemory(kSketchBytes)),
        num_slices_(kSketchBytes / device::SketchBytes(shape.head_dim) / kSliceBlocks),
        q_(Normals(size_t{shape.group} * shape.head_dim)),
        scores_(num_slices_ * kSliceBlocks) {
    for (const uint32_t block : Slots(num_slices_ * kSliceBlocks, !shape.scan)) {
      blocks_.push_back(static_cast<int32_t>(block));
    }
    const uint32_t job_blocks = JobBlocks();
    for (uint32_t first = 0; first < blocks_.size(); first += job_blocks) {
      jobs_.push_back({{&chunk_, 31},
                       shape.scan ? nullptr : blocks_.data() + first,
                       first,
                       job_blocks,
                       {q_.data(), 0, 1, shape.group},
                       scores_.data() + first,
                       0});
    }
  }

  ScoreSketchParams Params(size_t slice) const {
    const size_t jobs = kSliceBlocks / JobBlocks();
    return {jobs_.data() + slice * jobs,
            static_cast<uint32_t>(jobs),
            shape_.head_dim,
            device::kSketchTokens,
            0.1F};
  }
  BareRead Read() const {
    const uint64_t sketch_bytes = device::SketchBytes(shape_.head_dim);
    std::vector<const std::byte*> blocks;
    for (const int32_t block : blocks_) {
      blocks.push_back(chunk_ + static_cast<uint64_t>(block) * sketch_bytes);
    }
    return {std::move(blocks), sketch_bytes, num_slices_, shape_.num_threads};
  }
  Work OneSlice() const {
    const auto bytes = static_cast<double>(kSliceBlocks * device::SketchBytes(shape_.head_dim));
    const double products =
        static_cast<double>(kSliceBlocks) * device::kSketchTokens * shape_.head_dim * shape_.group;
    return {bytes, 2 * products / 2, true};
  }

 private:
  uint32_t JobBlocks() const { return shape_.scan ? kScanBlocks : kRerankBlocks; }

  SketchShape shape_;
  std::byte* chunk_;
  size_t num_slices_;
  std::vector<float> q_, scores_;
  std::vector<int32_t> blocks_;
  std::vector<ScoreSketchJob> jobs_;
};

void RunSketches(benchmark::State& state, const SketchShape& shape) {
  const SketchCase sketches(shape);
  BareRead read = sketches.Read();
  read.Tune();
  const device::OpContext context = {&ExecutorOf(shape.num_threads), nullptr};
  const device::OpTable& ops = *device::CpuOpTables().back();
  RunLine(state, sketches.OneSlice(), shape.num_threads, read, [&](size_t slice) {
    ops.score_sketches(context, sketches.Params(slice));
  });
}

void Register(const SketchShape& shape) {
  const std::string name = "sketch/d:" + std::to_string(shape.head_dim) +
                           "/group:" + std::to_string(shape.group) +
                           "/list:" + (shape.scan ? "scan" : "scattered") +
                           "/threads:" + std::to_string(shape.num_threads);
  benchmark::RegisterBenchmark(name.c_str(),
                               [shape](benchmark::State& state) { RunSketches(state, shape); })
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond)
      ->Iterations(kIterations);
}

}  // namespace

void RegisterSketches() {
  for (const unsigned num_threads : {1U, 2U}) {
    for (const uint32_t head_dim : {64U, 128U}) {
      for (const uint32_t group : {1U, 3U, 4U, 8U}) {
        Register({head_dim, group, false, num_threads});
        Register({head_dim, group, true, num_threads});
      }
    }
  }
}

}  // namespace hipattn::bench
