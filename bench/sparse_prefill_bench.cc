// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// sparse_prefill of a whole text against dense_prefill of the same text, in turns.
//   density_%     pairs of query and key that the mask's tiles hold / those of the causal triangle
//   efficiency_%  density * time of dense_prefill / time, from the fastest of both
// and what comes before it, by head: estimate_lines of the last 64 rows, pool_blocks and
// score_blocks, whose share_% is of the time of sparse_prefill at a density of 10 %.
#include "base/prefill_mask.h"
#include "bench/line.h"
#include "bench/shapes.h"
#include "device/registry.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
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

// sparse_prefill of one head at a density of 10 %, on the calling thread.
double AttentionSeconds(const device::BlockPool& pool,
                        const uint32_t* slots,
                        const float* q,
                        uint32_t num_tokens) {
  const SparseShape shape = {num_tokens, pool.head_dim, 10, 2, 1};
  const BenchMask mask = MakeSlashes(shape);
  std::vector<float> out(size_t{num_tokens} * pool.head_dim);
  device::SparsePrefillJob job = {};
  job.slots = slots;
  job.q = q;
  job.out = out.data();
  job.num_rows = num_tokens;
  job.num_heads = 1;
  job.mask = mask.mask();
  device::SparsePrefillParams params = {};
  params.pool = pool;
  params.jobs = &job;
  params.num_jobs = 1;
  params.q_row_stride = pool.head_dim;
  params.out_row_stride = pool.head_dim;
  params.scale = 0.1F;
  const device::OpContext context = {&ExecutorOf(1), nullptr};
  double fastest = 1e30;
  for (int i = 0; i < 3; ++i) {
    const double start = Now(1);
    device::CpuOpTables().back()->sparse_prefill(context, params);
    fastest = std::min(fastest, Now(1) - start);
  }
  return fastest;
}

enum class Estimate { kLines, kPool, kPooledScores, kMassScores };

// One head of a whole text on the calling thread.
void RunEstimate(benchmark::State& state, uint32_t num_tokens, uint32_t head_dim, Estimate what) {
  constexpr uint32_t kRows = 64;
  const DType dtype = DType::kBf16;
  const size_t block_bytes = size_t{2} * kBlockTokens * head_dim * DTypeBytes(dtype);
  std::byte* memory = BenchMemory(num_tokens / kBlockTokens * block_bytes);
  const std::vector<uint32_t> slots = Slots(num_tokens / kBlockTokens, false);
  const std::vector<float> q = Normals(size_t{num_tokens} * head_dim);
  const device::BlockPool pool = {&memory, 31, kBlockTokens, head_dim, dtype, block_bytes};
  const uint32_t num_blocks = num_tokens / device::kPoolTokens;
  std::vector<float> vertical(num_tokens);
  std::vector<float> slash(num_tokens);
  std::vector<float> lse(kRows);
  std::vector<float> workspace(device::LinesWorkspaceFloats(num_tokens, kRows));
  std::vector<float> panel(device::ColumnPanelElements(num_blocks, head_dim));
  std::vector<float> scores(size_t{num_tokens / kRowTile} * num_blocks);
  const device::LinesJob lines = {slots.data(),
                                  q.data(),
                                  num_tokens - kRows,
                                  kRows,
                                  vertical.data(),
                                  slash.data(),
                                  lse.data(),
                                  workspace.data()};
  const device::PoolJob pools = {slots.data(), num_tokens, 0, panel.data()};
  const device::BlockScoreJob blocks = {
      q.data(), 0, num_tokens, panel.data(), num_blocks, scores.data()};
  const device::OpTable& ops = *device::CpuOpTables().back();
  const device::OpContext context = {&ExecutorOf(1), nullptr};
  const double tokens = num_tokens;
  const double bytes = tokens * head_dim * DTypeBytes(dtype);
  // Scores: of the blocks that a row tile sees.
  Work work = {2 * bytes, 2 * 2.0 * kRows * tokens * head_dim};  // two passes over the keys
  if (what == Estimate::kPool) {
    work.flops = 2 * tokens * head_dim;
  } else if (what == Estimate::kPooledScores) {
    work = {tokens * head_dim * sizeof(float),
            tokens * head_dim + tokens / kRowTile * (num_blocks + 1) * head_dim};
  } else if (what == Estimate::kMassScores) {
    work = {tokens * head_dim * sizeof(float), tokens * (num_blocks + 1) * head_dim};
  }
  ops.pool_blocks(context, {pool, &pools, 1});
  double fastest = 1e30;
  RunLine(state, work, 1, [&] {
    const double start = Now(1);
    if (what == Estimate::kLines) {
      ops.estimate_lines(context, {pool, &lines, 1, head_dim, 0.1F, 0});
    } else if (what == Estimate::kPool) {
      ops.pool_blocks(context, {pool, &pools, 1});
    } else {
      const auto score =
          what == Estimate::kPooledScores ? device::BlockScore::kPooled : device::BlockScore::kMass;
      ops.score_blocks(context, {&blocks, 1, head_dim, head_dim, 0.1F, score});
    }
    fastest = std::min(fastest, Now(1) - start);
  });
  state.counters["share_%"] =
      100 * fastest / AttentionSeconds(pool, slots.data(), q.data(), num_tokens);
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
    RegisterEstimate(head_dim, Estimate::kLines, "estimate_lines");
    RegisterEstimate(head_dim, Estimate::kPool, "pool_blocks");
    RegisterEstimate(head_dim, Estimate::kPooledScores, "score_blocks/pooled");
    RegisterEstimate(head_dim, Estimate::kMassScores, "score_blocks/mass");
  }
}

}  // namespace hipattn::bench
