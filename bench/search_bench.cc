// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// score_nodes over 512 MB of summaries: groups of 8 nodes in random order, 1024 a job, in slices of
// 16 jobs. rows:1 is a
// decode step, rows:32 a prefill block with every second row.
#include "bench/line.h"
#include "bench/shapes.h"
#include "device/registry.h"

#include <benchmark/benchmark.h>

#include <string>
#include <vector>

namespace hipattn::bench {
namespace {

using device::ScoreJob;
using device::ScoreParams;

constexpr size_t kSummaryBytes = size_t{512} << 20;
constexpr uint32_t kJobGroups = 1024;
constexpr size_t kSliceJobs = 16;

struct SearchShape {
  uint32_t head_dim;
  uint32_t group;
  uint32_t num_rows;
  bool has_spread;
  unsigned num_threads;
};

class SearchCase {
 public:
  explicit SearchCase(const SearchShape& shape)
      : shape_(shape), chunk_(BenchMemory(kSummaryBytes)) {
    group_bytes_ = device::SummaryGroupBytes(shape.head_dim, shape.has_spread);
    // Many rows are bound by multiply-adds: fewer groups do.
    slice_jobs_ = shape.num_rows > 1 ? 1 : kSliceJobs;
    num_slices_ = kSummaryBytes / group_bytes_ / kJobGroups / kSliceJobs;
    const size_t num_jobs = num_slices_ * slice_jobs_;
    for (const uint32_t index : Slots(num_jobs * kJobGroups, true)) {
      groups_.push_back({index, 0xff});
    }
    q_ = Normals(size_t{shape.num_rows} * shape.group * shape.head_dim);
    scores_.resize(groups_.size() * kFanOut);
    for (size_t i = 0; i < num_jobs; ++i) {
      ScoreJob job = {};
      job.level = {&chunk_, 31};
      job.groups = groups_.data() + i * kJobGroups;
      job.num_groups = kJobGroups;
      job.rows = {q_.data(), uint64_t{shape.group} * shape.head_dim, shape.num_rows, shape.group};
      job.scores = scores_.data() + i * kJobGroups * kFanOut;
      jobs_.push_back(job);
    }
  }

  ScoreParams Params(size_t slice) const {
    return {jobs_.data() + slice * slice_jobs_,
            static_cast<uint32_t>(slice_jobs_),
            shape_.head_dim,
            shape_.has_spread ? 1U : 0U};
  }
  BareRead Read() const {
    std::vector<const std::byte*> blocks;
    for (const NodeGroup& group : groups_) {
      blocks.push_back(chunk_ + group.index * group_bytes_);
    }
    return {std::move(blocks), group_bytes_, num_slices_, shape_.num_threads};
  }
  Work OneSlice() const {
    const auto bytes = static_cast<double>(slice_jobs_ * kJobGroups * group_bytes_);
    const double products = static_cast<double>(slice_jobs_ * kJobGroups * kFanOut) *
                            shape_.head_dim * (shape_.has_spread ? 2 : 1);
    return {bytes, 2 * products * shape_.num_rows * shape_.group, true};
  }

 private:
  SearchShape shape_;
  std::byte* chunk_;
  size_t group_bytes_ = 0;
  size_t slice_jobs_ = 0;
  size_t num_slices_ = 0;
  std::vector<NodeGroup> groups_;
  std::vector<float> q_, scores_;
  std::vector<ScoreJob> jobs_;
};

void RunSearch(benchmark::State& state, const SearchShape& shape) {
  const SearchCase search(shape);
  BareRead read = search.Read();
  read.Tune();
  const device::OpContext context = {&ExecutorOf(shape.num_threads), nullptr};
  const device::OpTable& ops = *device::CpuOpTables().back();
  RunLine(state, search.OneSlice(), shape.num_threads, read, [&](size_t slice) {
    ops.score_nodes(context, search.Params(slice));
  });
}

void Register(const SearchShape& shape) {
  const std::string name =
      "score/rows:" + std::to_string(shape.num_rows) + "/d:" + std::to_string(shape.head_dim) +
      "/group:" + std::to_string(shape.group) + "/vectors:" + (shape.has_spread ? "2" : "1") +
      "/threads:" + std::to_string(shape.num_threads);
  benchmark::RegisterBenchmark(name.c_str(),
                               [shape](benchmark::State& state) { RunSearch(state, shape); })
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond)
      ->Iterations(kIterations);
}

}  // namespace

void RegisterSearch() {
  for (const unsigned num_threads : {1U, 2U}) {
    for (const uint32_t head_dim : {64U, 128U}) {
      for (const uint32_t group : {1U, 3U, 4U, 8U}) {
        Register({head_dim, group, 1, true, num_threads});
      }
      Register({head_dim, 3, 1, false, num_threads});
      Register({head_dim, 3, 32, true, num_threads});
    }
  }
}

}  // namespace hipattn::bench
