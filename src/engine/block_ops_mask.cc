// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Ops of a prefill by masks. The estimates look at all of a head's keys at once.
#include "base/int_math.h"
#include "engine/block_ops.h"
#include "engine/block_waves.h"

namespace hipattn::engine {
namespace {

constexpr uint32_t kPoolPanelTokens = device::kPoolTokens * device::kPanelTokens;
constexpr uint32_t kGroupColumns = device::kPanelTokens;

// Runs jobs that read the blocks [0, keys_of(job)) of their tables, each job at once.
template <typename Params, typename Job, typename KeysOf>
Status RunWhole(EngineState& engine,
                device::Op<Params> op,
                const Params& params,
                const Job* all_jobs,
                const KeysOf& keys_of) {
  const auto blocks_of = [&](const Cut& cut) {
    return CeilDiv<uint64_t>(keys_of(all_jobs[cut.job]), engine.options.block_tokens);
  };
  Waves waves(engine);
  for (uint32_t i = 0; i < params.num_jobs; ++i) {
    waves.Add(i, 1, 1);
  }
  const auto pin = [&](const Cut& cut, offload::BlockLease* lease) {
    return PinAll({all_jobs[cut.job].slots, blocks_of(cut)}, Use::kRead, lease);
  };
  return waves.Run(pin, [&](std::span<const Cut> cuts) -> Status {
    HIPATTN_ASSIGN_OR_RETURN(Job * jobs, LaunchJobs<Job>(engine, cuts.size()));
    SlotTables tables(engine);
    uint64_t entries = 0;
    for (const Cut& cut : cuts) {
      entries += blocks_of(cut);
    }
    HIPATTN_RETURN_IF_ERROR(tables.Reserve(entries));
    for (size_t i = 0; i < cuts.size(); ++i) {
      jobs[i] = all_jobs[cuts[i].job];
      uint32_t* table = tables.Begin(blocks_of(cuts[i]));
      tables.Set(table, jobs[i].slots, 0, blocks_of(cuts[i]));
      jobs[i].slots = table;
    }
    return LaunchWave(engine, op, params, jobs, cuts.size());
  });
}

// Calls fn(first, last) with the blocks of each range of the row tiles of a cut; fn returns whether
// to go on.
template <typename Fn>
void ForEachMaskRange(const PrefillMask& mask,
                      const Cut& cut,
                      uint32_t block_tokens,
                      const Fn& fn) {
  for (uint32_t i = mask.range_ptr[cut.begin]; i < mask.range_ptr[cut.end]; ++i) {
    const MaskRange& range = mask.ranges[i];
    if (range.begin < range.end &&
        !fn(range.begin / block_tokens, (range.end - 1) / block_tokens)) {
      return;
    }
  }
}

// The row tiles of a cut as a job of their own; slots are still the job's.
device::SparsePrefillJob TilesOf(const device::SparsePrefillParams& params, const Cut& cut) {
  device::SparsePrefillJob job = params.jobs[cut.job];
  const uint32_t row = cut.begin * kRowTile;
  job.q += row * params.q_row_stride;
  job.out =
      static_cast<std::byte*>(job.out) + row * params.out_row_stride * DTypeBytes(params.out_dtype);
  job.lse = job.lse == nullptr ? nullptr : job.lse + row * params.lse_row_stride;
  job.first_pos += row;
  job.num_rows = std::min(job.num_rows - row, (cut.end - cut.begin) * kRowTile);
  job.mask.num_tiles = cut.end - cut.begin;
  job.mask.range_ptr += cut.begin;
  job.mask.intervals += cut.begin;  // tile m's begin at range_ptr[m] + m
  if (job.means.panel != nullptr) {
    job.means.interval_ptr += cut.begin;
  }
  return job;
}

}  // namespace

Status RunOverBlocks(EngineState& engine, device::SparsePrefillParams params) {
  if (engine.cache == nullptr) {
    params.pool = engine.pool.view();
    return LaunchAndSync(engine, engine.device->ops().sparse_prefill, params);
  }
  const uint32_t block_tokens = engine.options.block_tokens;
  const auto blocks_of = [&](const Cut& cut) {
    const device::SparsePrefillJob& job = params.jobs[cut.job];
    return CeilDiv<uint64_t>(uint64_t{job.first_pos} + job.num_rows, block_tokens);
  };
  Waves waves(engine);
  for (uint32_t i = 0; i < params.num_jobs; ++i) {
    waves.Add(i, CeilDiv(params.jobs[i].num_rows, kRowTile), 1);
  }
  const auto pin = [&](const Cut& cut, offload::BlockLease* lease) -> Result<bool> {
    const device::SparsePrefillJob& job = params.jobs[cut.job];
    Result<bool> fits = true;
    ForEachMaskRange(job.mask, cut, block_tokens, [&](uint32_t first, uint32_t last) {
      fits = PinAll({job.slots + first, last - first + 1}, Use::kRead, lease);
      return fits.ok() && *fits;
    });
    return fits;
  };
  return waves.Run(pin, [&](std::span<const Cut> cuts) -> Status {
    HIPATTN_ASSIGN_OR_RETURN(device::SparsePrefillJob * jobs,
                             LaunchJobs<device::SparsePrefillJob>(engine, cuts.size()));
    SlotTables tables(engine);
    uint64_t entries = 0;
    for (const Cut& cut : cuts) {
      entries += blocks_of(cut);
    }
    HIPATTN_RETURN_IF_ERROR(tables.Reserve(entries));
    for (size_t i = 0; i < cuts.size(); ++i) {
      uint32_t* table = tables.Begin(blocks_of(cuts[i]));
      const device::SparsePrefillJob& job = params.jobs[cuts[i].job];
      ForEachMaskRange(job.mask, cuts[i], block_tokens, [&](uint32_t first, uint32_t last) {
        tables.Set(table, job.slots, first, last + 1);
        return true;
      });
      jobs[i] = TilesOf(params, cuts[i]);
      jobs[i].slots = table;
    }
    return LaunchWave(engine, engine.device->ops().sparse_prefill, params, jobs, cuts.size());
  });
}

Status RunOverBlocks(EngineState& engine, device::PackParams params) {
  if (engine.cache == nullptr) {
    params.pool = engine.pool.view();
    return LaunchAndSync(engine, engine.device->ops().pack_columns, params);
  }
  const uint32_t block_tokens = engine.options.block_tokens;
  Waves waves(engine);
  for (uint32_t i = 0; i < params.num_jobs; ++i) {
    waves.Add(i, CeilDiv(params.jobs[i].num_columns, kGroupColumns), kCutBlocks / kGroupColumns);
  }
  // Positions are ascending.
  const auto columns_of = [&](const Cut& cut) {
    const device::PackJob& job = params.jobs[cut.job];
    const uint32_t begin = cut.begin * kGroupColumns;
    return std::span(job.positions + begin,
                     std::min(job.num_columns, cut.end * kGroupColumns) - begin);
  };
  const auto pin = [&](const Cut& cut, offload::BlockLease* lease) -> Result<bool> {
    uint32_t last = UINT32_MAX;
    for (const uint32_t position : columns_of(cut)) {
      const uint32_t block = position / block_tokens;
      if (block != last) {
        last = block;
        HIPATTN_ASSIGN_OR_RETURN(const bool fits,
                                 lease->Add(params.jobs[cut.job].slots[block], Use::kRead));
        if (!fits) {
          return false;
        }
      }
    }
    return true;
  };
  return waves.Run(pin, [&](std::span<const Cut> cuts) -> Status {
    HIPATTN_ASSIGN_OR_RETURN(device::PackJob * jobs,
                             LaunchJobs<device::PackJob>(engine, cuts.size()));
    SlotTables tables(engine);
    const auto entries_of = [&](const Cut& cut) -> uint64_t {
      return cut.begin == cut.end ? 0 : columns_of(cut).back() / block_tokens + 1;
    };
    uint64_t entries = 0;
    for (const Cut& cut : cuts) {
      entries += entries_of(cut);
    }
    HIPATTN_RETURN_IF_ERROR(tables.Reserve(entries));
    for (size_t i = 0; i < cuts.size(); ++i) {
      const device::PackJob& job = params.jobs[cuts[i].job];
      const std::span<const uint32_t> columns = columns_of(cuts[i]);
      uint32_t* table = tables.Begin(entries_of(cuts[i]));
      for (const uint32_t position : columns) {
        tables.Set(table, job.slots, position / block_tokens, position / block_tokens + 1);
      }
      const uint64_t elements =
          device::ColumnPanelElements(cuts[i].begin * kGroupColumns, engine.options.head_dim);
      jobs[i] = {table,
                 columns.data(),
                 static_cast<uint32_t>(columns.size()),
                 static_cast<std::byte*>(job.panel) + elements * DTypeBytes(engine.options.kv())};
    }
    return LaunchWave(engine, engine.device->ops().pack_columns, params, jobs, cuts.size());
  });
}

Status RunOverBlocks(EngineState& engine, device::LinesParams params) {
  if (engine.cache == nullptr) {
    params.pool = engine.pool.view();
    return LaunchAndSync(engine, engine.device->ops().estimate_lines, params);
  }
  return RunWhole(engine,
                  engine.device->ops().estimate_lines,
                  params,
                  params.jobs,
                  [](const device::LinesJob& job) { return job.first_pos + job.num_rows; });
}

Status RunOverBlocks(EngineState& engine, device::PoolParams params) {
  if (engine.cache == nullptr) {
    params.pool = engine.pool.view();
    return LaunchAndSync(engine, engine.device->ops().pool_blocks, params);
  }
  const uint32_t block_tokens = engine.options.block_tokens;
  Waves waves(engine);
  for (uint32_t i = 0; i < params.num_jobs; ++i) {
    waves.Add(i, CeilDiv(params.jobs[i].num_tokens, kPoolPanelTokens), 1);
  }
  const auto end_block = [&](const Cut& cut) {
    const uint64_t tokens =
        std::min<uint64_t>(params.jobs[cut.job].num_tokens, uint64_t{cut.end} * kPoolPanelTokens);
    return CeilDiv<uint64_t>(tokens, block_tokens);
  };
  // Panels of blocks that have been pooled already are not read.
  const auto first_block = [&](const Cut& cut) {
    const uint64_t pooled = uint64_t{params.jobs[cut.job].first_block} * device::kPoolTokens;
    return std::min(std::max(pooled, uint64_t{cut.begin} * kPoolPanelTokens) / block_tokens,
                    end_block(cut));
  };
  const auto pin = [&](const Cut& cut, offload::BlockLease* lease) {
    return PinAll(
        {params.jobs[cut.job].slots + first_block(cut), end_block(cut) - first_block(cut)},
        Use::kRead,
        lease);
  };
  return waves.Run(pin, [&](std::span<const Cut> cuts) -> Status {
    HIPATTN_ASSIGN_OR_RETURN(device::PoolJob * jobs,
                             LaunchJobs<device::PoolJob>(engine, cuts.size()));
    SlotTables tables(engine);
    uint64_t entries = 0;
    for (const Cut& cut : cuts) {
      entries += end_block(cut);
    }
    HIPATTN_RETURN_IF_ERROR(tables.Reserve(entries));
    for (size_t i = 0; i < cuts.size(); ++i) {
      jobs[i] = params.jobs[cuts[i].job];
      uint32_t* table = tables.Begin(end_block(cuts[i]));
      tables.Set(table, jobs[i].slots, first_block(cuts[i]), end_block(cuts[i]));
      jobs[i].slots = table;
      jobs[i].num_tokens = std::min(jobs[i].num_tokens, cuts[i].end * kPoolPanelTokens);
      jobs[i].first_block = std::max(jobs[i].first_block, cuts[i].begin * device::kPanelTokens);
    }
    return LaunchWave(engine, engine.device->ops().pool_blocks, params, jobs, cuts.size());
  });
}

Status RunOverBlocks(EngineState& engine, device::AntidiagonalParams params) {
  if (engine.cache == nullptr) {
    params.pool = engine.pool.view();
    return LaunchAndSync(engine, engine.device->ops().score_antidiagonals, params);
  }
  return RunWhole(engine,
                  engine.device->ops().score_antidiagonals,
                  params,
                  params.jobs,
                  [](const device::AntidiagonalJob& job) { return job.first_pos + job.num_rows; });
}

}  // namespace hipattn::engine
