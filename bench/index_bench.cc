// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What a search of one kv head reads of the part of the index that lies on the host: scored there,
// or fetched over the emulated link. head_dim 128, groups of 4 q heads, a tree that keeps 128
// blocks, one thread. A line's time is that of the op; its counters are of the fetch instead:
//   bytes     of the summaries or sketches
//   pieces    that they are in, neighbours as one
//   link_us   of one copy of them by kPcie4, before the device scores them
// Lists are of nodes at random, so that hardly two are neighbours; the lowest level that is
// searched whole, and a scan, are in one piece. As many heads take turns as fill 512 MB, so
// that no list is in a cache.
#include "bench/line.h"
#include "bench/shapes.h"
#include "device/registry.h"
#include "tests/emulated/link_model.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <iterator>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace hipattn::bench {
namespace {

constexpr uint32_t kDim = 128;
constexpr uint32_t kGroup = 4;
constexpr uint32_t kBeam = 128;
constexpr uint64_t kMemoryBytes = uint64_t{512} << 20;
constexpr uint32_t kBlockTokens = 16;

enum class Part { kLevel0, kLevel1, kKeptSketches, kAllSketches };

struct IndexShape {
  Part part;
  uint64_t tokens;

  bool summaries() const { return part == Part::kLevel0 || part == Part::kLevel1; }
  uint64_t unit_bytes() const {
    return summaries() ? device::SummaryGroupBytes(kDim, true) : device::SketchBytes(kDim);
  }
  // Groups or sketches of a head.
  uint64_t units() const {
    const uint64_t blocks = tokens / kBlockTokens;
    return !summaries() ? blocks : part == Part::kLevel0 ? blocks / 8 : blocks / 64;
  }
};

class IndexCase {
 public:
  explicit IndexCase(const IndexShape& shape) : shape_(shape), memory_(BenchMemory(kMemoryBytes)) {
    const uint64_t head_bytes = shape.units() * shape.unit_bytes();
    for (uint64_t head = 0; head < kMemoryBytes / head_bytes; ++head) {
      chunks_.push_back(memory_ + head * head_bytes);
    }
    groups_.resize(chunks_.size());
    blocks_.resize(chunks_.size());
    std::mt19937 random(3);
    for (size_t head = 0; head < chunks_.size(); ++head) {
      std::vector<uint32_t> units = Slots(shape.units(), false);
      if (shape.part != Part::kAllSketches && units.size() > kBeam) {
        std::vector<uint32_t> some;
        std::sample(units.begin(), units.end(), std::back_inserter(some), kBeam, random);
        units.swap(some);
      }
      for (const uint32_t unit : units) {
        groups_[head].push_back({unit, 0xff});
        blocks_[head].push_back(static_cast<int32_t>(unit));
      }
    }
    q_ = Normals(size_t{kGroup} * kDim);
    scores_.resize(groups_[0].size() * kFanOut);
  }

  size_t num_heads() const { return chunks_.size(); }

  void Score(size_t head) {
    const device::OpContext context = {&ExecutorOf(1), nullptr};
    const device::OpTable& ops = *device::CpuOpTables().back();
    const device::QueryRows rows = {q_.data(), 0, 1, kGroup};
    const auto count = static_cast<uint32_t>(groups_[head].size());
    if (shape_.summaries()) {
      const device::ScoreJob job = {
          {&chunks_[head], 31}, groups_[head].data(), count, rows, scores_.data()};
      ops.score_nodes(context, {&job, 1, kDim, 1});
    } else {
      const device::ScoreSketchJob job = {
          {&chunks_[head], 31}, blocks_[head].data(), 0, count, rows, scores_.data(), 0};
      ops.score_sketches(context, {&job, 1, kDim, kBlockTokens, 0.088F});
    }
  }

  // Counters of a fetch of head 0's list.
  void Count(benchmark::State& state) const {
    uint64_t pieces = 0;
    int64_t link_ns = test::kPcie4.latency_ns;
    for (size_t begin = 0, end = 0; begin < groups_[0].size(); begin = end) {
      for (end = begin + 1;
           end < groups_[0].size() && groups_[0][end].index == groups_[0][end - 1].index + 1;) {
        ++end;
      }
      ++pieces;
      link_ns += test::kPcie4.PieceNs((end - begin) * shape_.unit_bytes());
    }
    state.counters["bytes"] = static_cast<double>(groups_[0].size() * shape_.unit_bytes());
    state.counters["pieces"] = static_cast<double>(pieces);
    state.counters["link_us"] = static_cast<double>(link_ns) * 1e-3;
  }

 private:
  IndexShape shape_;
  std::byte* memory_;
  std::vector<std::byte*> chunks_;              // by head
  std::vector<std::vector<NodeGroup>> groups_;  // by head
  std::vector<std::vector<int32_t>> blocks_;
  std::vector<float> q_, scores_;
};

void RunIndex(benchmark::State& state, const IndexShape& shape) {
  IndexCase index(shape);
  size_t head = 0;
  for ([[maybe_unused]] auto _ : state) {
    index.Score(head);
    head = (head + 1) % index.num_heads();
  }
  index.Count(state);
}

}  // namespace

void RegisterIndex() {
  const std::pair<const char*, Part> parts[] = {{"level:1", Part::kLevel1},
                                                {"level:0", Part::kLevel0},
                                                {"sketches:kept", Part::kKeptSketches},
                                                {"sketches:all", Part::kAllSketches}};
  for (const uint64_t tokens : {uint64_t{1} << 17, uint64_t{1} << 20}) {
    for (const auto& [name, part] : parts) {
      const std::string line = "index/T:" + std::to_string(tokens) + "/" + name;
      benchmark::RegisterBenchmark(
          line.c_str(),
          [shape = IndexShape{part, tokens}](benchmark::State& state) { RunIndex(state, shape); })
          ->Unit(benchmark::kMicrosecond);
    }
  }
}

}  // namespace hipattn::bench
