// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// A task is one K panel's worth of positions of one text, for all its heads: they lie next to each
// other among the jobs, and share the cosines and sines.
#include "host/kernels/dispatch.h"
#include "host/kernels/kernels.h"
#include "host/kernels/rotate.h"
#include "host/kernels/token_rows.h"
#include "host/vec/vec.h"

namespace hipattn::host::HIPATTN_ISA {
namespace {

constexpr uint32_t kPanel = device::kPanelTokens;

// Jobs [first, last) that append the same positions.
struct JobRun {
  uint32_t first, last;
};

JobRun RunFrom(const device::AppendParams& params, uint32_t first) {
  const device::AppendJob* jobs = params.jobs;
  uint32_t last = first + 1;
  while (last < params.num_jobs && jobs[last].first_pos == jobs[first].first_pos &&
         jobs[last].num_tokens == jobs[first].num_tokens) {
    ++last;
  }
  return {first, last};
}

// Panels that the new tokens of a job touch.
uint32_t NumPanels(const device::AppendJob& job) {
  if (job.num_tokens == 0) {
    return 0;
  }
  return (job.first_pos + job.num_tokens - 1) / kPanel - job.first_pos / kPanel + 1;
}

// New tokens [begin, begin + count) of a job, all in one panel.
struct Piece {
  uint32_t begin, count, position;
};

Piece PanelPiece(const device::AppendJob& job, uint32_t panel) {
  const uint64_t panel_begin = uint64_t{job.first_pos / kPanel + panel} * kPanel;
  const uint64_t panel_end = panel_begin + kPanel;
  const uint64_t job_end = uint64_t{job.first_pos} + job.num_tokens;
  const uint64_t begin = panel_begin > job.first_pos ? panel_begin : job.first_pos;
  const uint64_t end = panel_end < job_end ? panel_end : job_end;
  return {static_cast<uint32_t>(begin - job.first_pos),
          static_cast<uint32_t>(end - begin),
          static_cast<uint32_t>(begin)};
}

// keys[count][head_dim] -> lanes [lane, lane + count) of a panel.
template <typename Elem>
void StoreLanes(const Elem* keys, uint32_t count, uint32_t head_dim, Elem* lane) {
  if (count == 1) {
    for (uint32_t dim = 0; dim < head_dim; ++dim) {
      lane[size_t{dim} * kPanel] = keys[dim];
    }
    return;
  }
  for (uint32_t dim = 0; dim < head_dim; ++dim) {
    for (uint32_t i = 0; i < count; ++i) {
      lane[size_t{dim} * kPanel + i] = keys[size_t{i} * head_dim + dim];
    }
  }
}

template <typename Io, typename Kv>
void AppendPiece(const device::AppendParams& params,
                 const device::AppendJob& job,
                 const Piece& piece,
                 const RotaryAngles* angles) {
  using IoElem = typename Io::Elem;
  using KvElem = typename Kv::Elem;
  const device::BlockPool& pool = params.pool;
  const int head_dim = static_cast<int>(pool.head_dim);
  const uint32_t block_idx = piece.position / pool.block_tokens - job.first_pos / pool.block_tokens;
  const uint32_t token = piece.position % pool.block_tokens;
  std::byte* block = device::BlockAddress(pool, job.slots[block_idx]);
  alignas(64) KvElem keys[kPanel * device::kMaxHeadDim];
  for (uint32_t i = 0; i < piece.count; ++i) {
    const size_t row = size_t{piece.begin + i} * params.kv_row_stride;
    const IoElem* k = static_cast<const IoElem*>(job.k) + row;
    KvElem* key = keys + size_t{i} * pool.head_dim;
    alignas(64) float wide[device::kMaxHeadDim];
    ConvertRow(F32{}, wide, Io{}, k, head_dim);
    if (params.rope.mode != 0) {
      Rotate(params.rope, angles[i], wide);
    }
    ConvertRow(Kv{}, key, F32{}, wide, head_dim);
    const IoElem* v = static_cast<const IoElem*>(job.v) + row;
    ConvertRow(Kv{}, ValueRow<Kv>(block, pool, token + i), Io{}, v, head_dim);
  }
  StoreLanes(keys, piece.count, pool.head_dim, KeyLane<Kv>(block, pool.head_dim, token));
}

template <typename Io, typename Kv>
void AppendPanel(const device::AppendParams& params, const JobRun& run, uint32_t panel) {
  const Piece piece = PanelPiece(params.jobs[run.first], panel);
  RotaryAngles angles[kPanel];
  for (uint32_t i = 0; i < piece.count && params.rope.mode != 0; ++i) {
    ComputeAngles(params.rope, piece.position + i, angles + i);
  }
  for (uint32_t job_idx = run.first; job_idx < run.last; ++job_idx) {
    AppendPiece<Io, Kv>(params, params.jobs[job_idx], piece, angles);
  }
}

// Panels number [begin, end) of the call, counted run by run.
template <typename Io, typename Kv>
void AppendPanels(const device::AppendParams& params, uint64_t begin, uint64_t end) {
  uint64_t run_begin = 0;
  for (uint32_t first = 0; first < params.num_jobs && run_begin < end;) {
    const JobRun run = RunFrom(params, first);
    const uint32_t num_panels = NumPanels(params.jobs[first]);
    for (uint32_t panel = 0; panel < num_panels; ++panel) {
      if (run_begin + panel >= begin && run_begin + panel < end) {
        AppendPanel<Io, Kv>(params, run, panel);
      }
    }
    run_begin += num_panels;
    first = run.last;
  }
}

}  // namespace

void AppendKv(const device::OpContext& context, const device::AppendParams& params) {
  uint64_t num_panels = 0;
  uint64_t num_tokens = 0;
  for (uint32_t first = 0; first < params.num_jobs;) {
    const JobRun run = RunFrom(params, first);
    num_panels += NumPanels(params.jobs[first]);
    num_tokens += uint64_t{run.last - run.first} * params.jobs[first].num_tokens;
    first = run.last;
  }
  const uint64_t most_tasks = uint64_t{8} * context.executor->concurrency();
  const uint64_t num_tasks = num_panels < most_tasks ? num_panels : most_tasks;
  WithTag(params.io_dtype, [&](auto io) {
    WithTag(params.pool.kv_dtype, [&](auto kv) {
      RunTasks(context, num_tasks, num_tokens * params.pool.head_dim, [&](size_t task) {
        AppendPanels<decltype(io), decltype(kv)>(
            params, num_panels * task / num_tasks, num_panels * (task + 1) / num_tasks);
      });
    });
  });
}

}  // namespace hipattn::host::HIPATTN_ISA
