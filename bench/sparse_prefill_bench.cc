// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// sparse_prefill of a whole text against dense_prefill of the same text, in turns.
//   density_%     pairs of query and key that the mask's tiles hold / those of the causal triangle
//   efficiency_%  density * time of dense_prefill / time, from the fastest of both
// and what comes before it, by head: estimate_lines of the last 64 rows, pool_blocks and
// score_blocks, whose share_% is of the time of sparse_prefill at a density of 10 %. The lines of
// sparse_prefill/linear say how well the time is a line over the keys that row tiles attend:
//   r2_%          share of the times' variance that the fitted line explains
//   key_ns         the line's slope: of one key of a row tile
//   worst_%       the farthest time from the line, of the line's
#include "base/prefill_mask.h"
#include "bench/line.h"
#include "bench/shapes.h"
#include "device/registry.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

namespace hipattn::bench {
namespace {

constexpr uint32_t kBlockTokens = 16;
constexpr uint32_t kHeads = 2;

struct SparseShape {
  uint32_t num_tokens;
  uint32_t head_dim;
  uint32_t percent;   // wanted density
  uint32_t clusters;  // of neighbouring slashes; 0: columns instead
  unsigned num_threads;
};

// A mask of every row tile's own clusters, and what it costs.
struct BenchMask {
  std::vector<uint32_t> range_ptr = {0};
  std::vector<MaskRange> ranges;
  std::vector<ColumnInterval> intervals;
  std::vector<uint32_t> columns;
  double keys = 0;  // of whole row tiles, in all

  PrefillMask mask() const {
    return {range_ptr.data(),
            ranges.data(),
            intervals.data(),
            columns.data(),
            static_cast<uint32_t>(range_ptr.size() - 1),
            static_cast<uint32_t>(columns.size()),
            0};
  }
};

// Ranges behind each row tile's end: one at the diagonal, the others evenly behind it, each as long
// as the density wants. Lengths are no multiples of a panel.
BenchMask MakeSlashes(const SparseShape& shape) {
  BenchMask mask;
  for (uint32_t limit = kRowTile; limit <= shape.num_tokens; limit += kRowTile) {
    const uint64_t wanted = uint64_t{limit} * shape.percent / 100;
    const uint32_t clusters = shape.percent == 100 ? 1 : shape.clusters;
    const auto length = static_cast<uint32_t>(std::max<uint64_t>(kRowTile, wanted / clusters));
    std::vector<MaskRange> behind;
    uint32_t covered = limit;
    for (uint32_t i = 0; i < clusters; ++i) {
      const uint32_t end = std::min(covered, limit - limit / clusters * i);
      if (end == 0) {
        break;
      }
      const uint32_t begin = end > length ? end - length : 0;
      if (!behind.empty() && end == covered) {
        behind.back().begin = begin;
      } else {
        behind.push_back({begin, end, 0});
      }
      mask.keys += end - begin;
      covered = begin;
    }
    mask.ranges.insert(mask.ranges.end(), behind.rbegin(), behind.rend());
    mask.range_ptr.push_back(static_cast<uint32_t>(mask.ranges.size()));
    mask.intervals.resize(mask.ranges.size() + mask.range_ptr.size() - 1);
  }
  return mask;
}

// A diagonal of 64 keys, the other keys as columns.
BenchMask MakeColumns(const SparseShape& shape) {
  BenchMask mask;
  for (uint32_t key = 0; key < shape.num_tokens; key += 100 / shape.percent) {
    mask.columns.push_back(key);
  }
  for (uint32_t limit = kRowTile; limit <= shape.num_tokens; limit += kRowTile) {
    const auto first = std::lower_bound(mask.columns.begin(), mask.columns.end(), limit - kRowTile);
    const auto place = static_cast<uint32_t>(first - mask.columns.begin());
    mask.ranges.push_back({limit - kRowTile, limit, 0});
    mask.range_ptr.push_back(static_cast<uint32_t>(mask.ranges.size()));
    mask.intervals.push_back({0, place});
    mask.intervals.push_back({place, place});
    mask.keys += place + kRowTile;
  }
  return mask;
}

// Row tiles of num_blocks blocks of 64 keys, the last their own, and num_columns columns evenly
// over the text.
BenchMask MakeBlocksAndColumns(uint32_t num_tokens, uint32_t num_blocks, uint32_t num_columns) {
  BenchMask mask;
  for (uint32_t i = 0; i < num_columns; ++i) {
    mask.columns.push_back(static_cast<uint32_t>(uint64_t{num_tokens} * i / num_columns));
  }
  const auto place = [&](uint32_t key) {
    return static_cast<uint32_t>(std::lower_bound(mask.columns.begin(), mask.columns.end(), key) -
                                 mask.columns.begin());
  };
  for (uint32_t limit = kRowTile; limit <= num_tokens; limit += kRowTile) {
    const uint32_t seen = limit / kRowTile;
    const uint32_t blocks = std::min(num_blocks, seen);
    uint32_t covered = 0;
    for (uint32_t i = 1; i <= blocks; ++i) {
      const uint32_t end = seen * i / blocks * kRowTile;
      mask.ranges.push_back({end - kRowTile, end, 0});
      mask.intervals.push_back({place(covered), place(end - kRowTile)});
      covered = end;
      mask.keys += kRowTile + mask.intervals.back().end - mask.intervals.back().begin;
    }
    mask.intervals.push_back({place(limit), place(limit)});
    mask.range_ptr.push_back(static_cast<uint32_t>(mask.ranges.size()));
  }
  return mask;
}

void RunSparse(benchmark::State& state, const SparseShape& shape) {
  const DType dtype = DType::kBf16;
  const size_t block_bytes = size_t{2} * kBlockTokens * shape.head_dim * DTypeBytes(dtype);
  const size_t blocks = shape.num_tokens / kBlockTokens;
  std::byte* memory = BenchMemory(blocks * block_bytes);
  const std::vector<uint32_t> slots = Slots(blocks, false);
  const uint64_t row_floats = uint64_t{kHeads} * shape.head_dim;
  const std::vector<float> q = Normals(row_floats * shape.num_tokens);
  std::vector<float> out(q.size());
  const device::BlockPool pool = {&memory, 31, kBlockTokens, shape.head_dim, dtype, block_bytes};
  const float scale = 1 / std::sqrt(static_cast<float>(shape.head_dim));
  const device::PrefillJob dense_job = {
      slots.data(), q.data(), out.data(), nullptr, 0, shape.num_tokens};
  const device::PrefillParams dense = {
      pool, &dense_job, 1, kHeads, row_floats, row_floats, 0, scale, 0, DType::kF32};

  const BenchMask mask = shape.clusters > 0 ? MakeSlashes(shape) : MakeColumns(shape);
  const auto num_columns = static_cast<uint32_t>(mask.columns.size());
  std::vector<uint16_t> panel(device::ColumnPanelElements(num_columns, shape.head_dim));
  const device::PackJob pack_job = {slots.data(), mask.columns.data(), num_columns, panel.data()};
  // One job per head: heads with masks of their own.
  std::vector<device::SparsePrefillJob> jobs;
  for (uint32_t head = 0; head < kHeads; ++head) {
    const size_t offset = size_t{head} * shape.head_dim;
    jobs.push_back({slots.data(),
                    q.data() + offset,
                    out.data() + offset,
                    nullptr,
                    0,
                    shape.num_tokens,
                    1,
                    mask.mask(),
                    panel.data(),
                    {}});
  }
  const device::SparsePrefillParams sparse = {
      pool, jobs.data(), kHeads, row_floats, row_floats, 0, scale, 0, 0, DType::kF32};
  const device::OpContext context = {&ExecutorOf(shape.num_threads), nullptr};
  const device::OpTable& ops = *device::CpuOpTables().back();

  const double tokens = shape.num_tokens;
  const double density = mask.keys / (tokens * (tokens + kRowTile) / 2 / kRowTile);
  const Work work = {static_cast<double>(blocks * block_bytes),
                     4.0 * mask.keys * kRowTile * shape.head_dim * kHeads};
  double fastest = 1e30;
  double fastest_dense = 1e30;
  RunLine(state, work, shape.num_threads, [&] {
    const double start = Now(shape.num_threads);
    ops.pack_columns(context, {pool, &pack_job, 1});
    ops.sparse_prefill(context, sparse);
    fastest = std::min(fastest, Now(shape.num_threads) - start);
  });
  for (int64_t i = 0; i < state.iterations(); ++i) {
    const double start = Now(shape.num_threads);
    ops.dense_prefill(context, dense);
    fastest_dense = std::min(fastest_dense, Now(shape.num_threads) - start);
  }
  state.counters["density_%"] = 100 * density;
  state.counters["dense_ms"] = 1e3 * fastest_dense;
  state.counters["efficiency_%"] = 100 * density * fastest_dense / fastest;
}

// Least time of sparse_prefill of one head on the calling thread, whose columns are packed before.
double AttentionSeconds(const device::BlockPool& pool,
                        const uint32_t* slots,
                        const float* q,
                        const BenchMask& mask) {
  const auto num_tokens = static_cast<uint32_t>(mask.range_ptr.size() - 1) * kRowTile;
  const auto num_columns = static_cast<uint32_t>(mask.columns.size());
  const device::OpTable& ops = *device::CpuOpTables().back();
  const device::OpContext context = {&ExecutorOf(1), nullptr};
  std::vector<uint16_t> panel(device::ColumnPanelElements(num_columns, pool.head_dim));
  const device::PackJob pack_job = {slots, mask.columns.data(), num_columns, panel.data()};
  ops.pack_columns(context, {pool, &pack_job, 1});
  std::vector<float> out(size_t{num_tokens} * pool.head_dim);
  device::SparsePrefillJob job = {};
  job.slots = slots;
  job.q = q;
  job.out = out.data();
  job.num_rows = num_tokens;
  job.num_heads = 1;
  job.mask = mask.mask();
  job.columns = panel.data();
  device::SparsePrefillParams params = {};
  params.pool = pool;
  params.jobs = &job;
  params.num_jobs = 1;
  params.q_row_stride = pool.head_dim;
  params.out_row_stride = pool.head_dim;
  params.scale = 0.1F;
  double fastest = 1e30;
  for (int i = 0; i < 3; ++i) {
    const double start = Now(1);
    ops.sparse_prefill(context, params);
    fastest = std::min(fastest, Now(1) - start);
  }
  return fastest;
}

// Keys and queries of one head of a whole text.
struct HeadText {
  HeadText(uint32_t num_tokens, uint32_t head_dim)
      : block_bytes(size_t{2} * kBlockTokens * head_dim * DTypeBytes(DType::kBf16)),
        memory(BenchMemory(num_tokens / kBlockTokens * block_bytes)),
        slots(Slots(num_tokens / kBlockTokens, false)),
        q(Normals(size_t{num_tokens} * head_dim)),
        pool({&memory, 31, kBlockTokens, head_dim, DType::kBf16, block_bytes}) {}
  HeadText(const HeadText&) = delete;
  HeadText& operator=(const HeadText&) = delete;

  double Attention(const BenchMask& mask) const {
    return AttentionSeconds(pool, slots.data(), q.data(), mask);
  }
  // A head's at a density of 10 %.
  double SparseSeconds() const {
    const auto num_tokens = static_cast<uint32_t>(slots.size()) * kBlockTokens;
    return Attention(MakeSlashes({num_tokens, pool.head_dim, 10, 2, 1}));
  }

  size_t block_bytes;
  std::byte* memory;
  std::vector<uint32_t> slots;
  std::vector<float> q;
  device::BlockPool pool;
};

// Times over keys of a grid of masks (P2 of the acceptance list), and the line of least squares.
void RunLinear(benchmark::State& state, uint32_t num_tokens, uint32_t head_dim) {
  const HeadText text(num_tokens, head_dim);
  std::vector<double> keys, times;
  for (auto _ : state) {
    double all = 0;
    for (const uint32_t blocks : {2U, 8U, 32U, 64U, 128U}) {
      for (const uint32_t columns : {0U, 64U, 500U, 1000U, 4000U}) {
        const BenchMask mask = MakeBlocksAndColumns(num_tokens, blocks, columns);
        keys.push_back(mask.keys);
        times.push_back(text.Attention(mask));
        all += times.back();
      }
    }
    state.SetIterationTime(all);
  }
  const auto count = static_cast<double>(keys.size());
  const double mean_keys = std::accumulate(keys.begin(), keys.end(), 0.0) / count;
  const double mean_time = std::accumulate(times.begin(), times.end(), 0.0) / count;
  double xx = 0, xy = 0, yy = 0;
  for (size_t i = 0; i < keys.size(); ++i) {
    const double x = keys[i] - mean_keys;
    const double y = times[i] - mean_time;
    xx += x * x;
    xy += x * y;
    yy += y * y;
  }
  double worst = 0;
  for (size_t i = 0; i < keys.size(); ++i) {
    const double line = mean_time + (keys[i] - mean_keys) * xy / xx;
    worst = std::max(worst, std::abs(times[i] / line - 1));
  }
  state.counters["r2_%"] = 100 * xy * xy / (xx * yy);
  state.counters["key_ns"] = 1e9 * xy / xx;
  state.counters["worst_%"] = 100 * worst;
}

// estimate_lines of the last 64 rows, of q heads that share their keys, on the calling thread.
// share_% is that of one of them.
void RunLines(benchmark::State& state, uint32_t num_tokens, uint32_t head_dim, uint32_t group) {
  constexpr uint32_t kRows = 64;
  const HeadText text(num_tokens, head_dim);
  std::vector<float> lines(uint64_t{group} * (2 * num_tokens + kRows));
  const uint64_t workspace_floats = device::LinesWorkspaceFloats(num_tokens, kRows);
  std::vector<float> workspace(group * workspace_floats);
  std::vector<device::LinesJob> jobs;
  for (uint32_t head = 0; head < group; ++head) {
    float* vertical = lines.data() + uint64_t{head} * (2 * num_tokens + kRows);
    jobs.push_back({text.slots.data(),
                    text.q.data() + uint64_t{head} * kRows * head_dim,
                    num_tokens - kRows,
                    kRows,
                    vertical,
                    vertical + num_tokens,
                    vertical + 2 * num_tokens,
                    workspace.data() + head * workspace_floats});
  }
  const device::OpTable& ops = *device::CpuOpTables().back();
  const device::OpContext context = {&ExecutorOf(1), nullptr};
  const double elements = static_cast<double>(num_tokens) * head_dim;
  const Work work = {elements * DTypeBytes(DType::kBf16), 2.0 * kRows * elements * group};
  double fastest = 1e30;
  RunLine(state, work, 1, [&] {
    const double start = Now(1);
    ops.estimate_lines(context, {text.pool, jobs.data(), group, head_dim, 0.1F, 0});
    fastest = std::min(fastest, Now(1) - start);
  });
  state.counters["share_%"] = 100 * fastest / group / text.SparseSeconds();
}

enum class Estimate { kPool, kPooledScores, kMassScores };

// One head of a whole text on the calling thread.
void RunEstimate(benchmark::State& state, uint32_t num_tokens, uint32_t head_dim, Estimate what) {
  const HeadText text(num_tokens, head_dim);
  const uint32_t num_blocks = num_tokens / device::kPoolTokens;
  std::vector<float> panel(device::ColumnPanelElements(num_blocks, head_dim));
  std::vector<float> scores(size_t{num_tokens / kRowTile} * num_blocks);
  const device::PoolJob pools = {text.slots.data(), num_tokens, 0, panel.data()};
  const device::BlockScoreJob blocks = {
      text.q.data(), 0, num_tokens, panel.data(), num_blocks, scores.data()};
  const device::OpTable& ops = *device::CpuOpTables().back();
  const device::OpContext context = {&ExecutorOf(1), nullptr};
  const double tokens = num_tokens;
  Work work = {tokens * head_dim * DTypeBytes(DType::kBf16), 2 * tokens * head_dim};
  // Scores: of the blocks that a row tile sees.
  if (what == Estimate::kPooledScores) {
    work = {tokens * head_dim * sizeof(float),
            tokens * head_dim + tokens / kRowTile * (num_blocks + 1) * head_dim};
  } else if (what == Estimate::kMassScores) {
    work = {tokens * head_dim * sizeof(float), tokens * (num_blocks + 1) * head_dim};
  }
  ops.pool_blocks(context, {text.pool, &pools, 1});
  double fastest = 1e30;
  RunLine(state, work, 1, [&] {
    const double start = Now(1);
    if (what == Estimate::kPool) {
      ops.pool_blocks(context, {text.pool, &pools, 1});
    } else {
      const auto score =
          what == Estimate::kPooledScores ? device::BlockScore::kPooled : device::BlockScore::kMass;
      ops.score_blocks(context, {&blocks, 1, head_dim, head_dim, 0.1F, score});
    }
    fastest = std::min(fastest, Now(1) - start);
  });
  state.counters["share_%"] = 100 * fastest / text.SparseSeconds();
}

void RegisterEstimate(uint32_t head_dim, Estimate what, const std::string& op) {
  constexpr uint32_t kTokens = 32768;
  const std::string name =
      op + "/T:" + std::to_string(kTokens) + ShapeName(head_dim, 1, DType::kBf16) + "/threads:1";
  benchmark::RegisterBenchmark(
      name.c_str(), [=](benchmark::State& state) { RunEstimate(state, kTokens, head_dim, what); })
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond)
      ->Iterations(kIterations / 10);
}

void RegisterLines(uint32_t head_dim, uint32_t group) {
  constexpr uint32_t kTokens = 32768;
  const std::string name = "estimate_lines/T:" + std::to_string(kTokens) +
                           ShapeName(head_dim, group, DType::kBf16) + "/threads:1";
  benchmark::RegisterBenchmark(
      name.c_str(), [=](benchmark::State& state) { RunLines(state, kTokens, head_dim, group); })
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond)
      ->Iterations(kIterations / 10);
}

void RegisterLinear(uint32_t head_dim) {
  constexpr uint32_t kTokens = 16384;
  const std::string name = "sparse_prefill/linear/T:" + std::to_string(kTokens) +
                           ShapeName(head_dim, 1, DType::kBf16) + "/threads:1";
  benchmark::RegisterBenchmark(
      name.c_str(), [=](benchmark::State& state) { RunLinear(state, kTokens, head_dim); })
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond)
      ->Iterations(1);
}

void Register(const SparseShape& shape) {
  const std::string kind =
      shape.clusters > 0 ? "/clusters:" + std::to_string(shape.clusters) : "/columns";
  const std::string name = "sparse_prefill/T:" + std::to_string(shape.num_tokens) +
                           ShapeName(shape.head_dim, 1, DType::kBf16) + kind +
                           "/density:" + std::to_string(shape.percent) +
                           "/threads:" + std::to_string(shape.num_threads);
  benchmark::RegisterBenchmark(name.c_str(),
                               [shape](benchmark::State& state) { RunSparse(state, shape); })
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond)
      ->Iterations(3);
}

}  // namespace

void RegisterSparsePrefill() {
  for (const uint32_t head_dim : {64U, 128U}) {
    for (const uint32_t percent : {5U, 10U, 25U, 50U, 100U}) {
      Register({16384, head_dim, percent, 2, 1});
    }
    Register({16384, head_dim, 10, 16, 1});
    Register({16384, head_dim, 10, 0, 1});
    Register({16384, head_dim, 10, 2, 2});
    RegisterLinear(head_dim);
    RegisterLines(head_dim, 1);
    RegisterLines(head_dim, 4);
    RegisterEstimate(head_dim, Estimate::kPool, "pool_blocks");
    RegisterEstimate(head_dim, Estimate::kPooledScores, "score_blocks/pooled");
    RegisterEstimate(head_dim, Estimate::kMassScores, "score_blocks/mass");
  }
}

}  // namespace hipattn::bench
