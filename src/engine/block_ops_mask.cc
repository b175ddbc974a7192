// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Ops of a prefill by masks.
#include "base/int_math.h"
#include "device/range_panels.h"
#include "engine/block_ops.h"
#include "engine/block_waves.h"

namespace hipattn::engine {
namespace {

constexpr uint32_t kPoolPanelTokens = device::kPoolTokens * device::kPanelTokens;
constexpr uint32_t kGroupColumns = device::kPanelTokens;

// Runs jobs that read the keys of their tables, in parts of part_keys keys each, from part
// first_part(job) to the last. set_part(job, cut) tells a job its parts.
template <typename Params, typename Job, typename FirstPart, typename SetPart>
Status RunKeyParts(EngineState& engine,
                   device::Op<Params> op,
                   const Params& params,
                   const Job* all_jobs,
                   uint32_t part_keys,
                   const FirstPart& first_part,
                   const SetPart& set_part) {
  const auto num_keys = [&](const Cut& cut) {
    return all_jobs[cut.job].first_pos + all_jobs[cut.job].num_rows;
  };
  const uint32_t part_blocks = part_keys / engine.options.block_tokens;
  const auto end_block = [&](const Cut& cut) {
    return std::min(cut.end * part_blocks, CeilDiv(num_keys(cut), engine.options.block_tokens));
  };
  // Waves count from the first part on.
  const auto parts_of = [&](const Cut& cut) {
    const uint32_t first = first_part(all_jobs[cut.job]);
    return Cut{cut.job, first + cut.begin, first + cut.end};
  };
  Waves waves(engine);
  for (uint32_t i = 0; i < params.num_jobs; ++i) {
    const uint32_t parts = CeilDiv(num_keys({i, 0, 0}), part_keys) - first_part(all_jobs[i]);
    if (parts > 0) {
      waves.Add(i, parts, 1);
    }
  }
  const auto pin = [&](const Cut& counted, offload::BlockLease* lease) {
    const Cut cut = parts_of(counted);
    const uint32_t first = cut.begin * part_blocks;
    return PinAll({all_jobs[cut.job].slots + first, end_block(cut) - first}, Use::kRead, lease);
  };
  return waves.Run(pin, [&](std::span<const Cut> cuts) -> Status {
    HIPATTN_ASSIGN_OR_RETURN(Job * jobs, LaunchJobs<Job>(engine, cuts.size()));
    SlotTables tables(engine);
    uint64_t entries = 0;
    for (const Cut& cut : cuts) {
      entries += end_block(parts_of(cut));
    }
    HIPATTN_RETURN_IF_ERROR(tables.Reserve(entries));
    for (size_t i = 0; i < cuts.size(); ++i) {
      const Cut cut = parts_of(cuts[i]);
      jobs[i] = all_jobs[cut.job];
      uint32_t* table = tables.Begin(end_block(cut));
      tables.Set(table, jobs[i].slots, cut.begin * part_blocks, end_block(cut));
      jobs[i].slots = table;
      set_part(&jobs[i], cut);
    }
    return LaunchWave(engine, op, params, jobs, cuts.size());
  });
}

// The parts of a job's row tiles, numbered through: each of kMaskPartPanels panels of its ranges,
// one at least.
class TileParts {
 public:
  explicit TileParts(const PrefillMask& mask) : mask_(mask), first_(1) {
    for (uint32_t tile = 0; tile < mask.num_tiles; ++tile) {
      const uint64_t panels = device::NumRangePanels(mask, tile);
      const uint64_t parts = CeilDiv<uint64_t>(panels, device::kMaskPartPanels);
      first_.push_back(first_.back() + static_cast<uint32_t>(std::max<uint64_t>(parts, 1)));
    }
  }

  uint32_t size() const { return first_.back(); }
  // The first part of a tile.
  uint32_t first(uint32_t tile) const { return first_[tile]; }
  uint32_t TileOf(uint32_t part) const {
    return static_cast<uint32_t>(std::upper_bound(first_.begin(), first_.end(), part) -
                                 first_.begin() - 1);
  }

  // Calls fn(first, last) with runs of panels of a part until fn returns false.
  template <typename Fn>
  void ForEachRun(uint32_t part, const Fn& fn) const {
    const uint32_t tile = TileOf(part);
    const uint64_t begin = uint64_t{part - first_[tile]} * device::kMaskPartPanels;
    const uint64_t end = begin + device::kMaskPartPanels;
    uint64_t number = 0;  // of the run's first panel
    device::ForEachPanelRun(mask_, tile, [&](uint32_t first, uint32_t last) {
      const uint64_t behind = number + (last - first + 1);
      bool more = true;
      if (behind > begin && number < end) {
        const uint64_t from = first + (std::max(begin, number) - number);
        const uint64_t to = first + (std::min(end, behind) - number) - 1;
        more = fn(static_cast<uint32_t>(from), static_cast<uint32_t>(to));
      }
      number = behind;
      return more && number < end;
    });
  }

 private:
  PrefillMask mask_;
  std::vector<uint32_t> first_;
};

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

struct TileCut {
  const device::SparsePrefillParams& params;
  const TileParts& parts;
  Cut cut;  // of parts
  uint32_t* table;
  uint32_t head_dim;
};

// Adds the jobs of a cut: whole tiles as one, and a tile that is in it in part by itself.
Status AddTileJobs(const TileCut& from,
                   PartStates* states,
                   std::vector<device::SparsePrefillJob>* jobs) {
  const TileParts& parts = from.parts;
  const uint32_t num_tiles = from.params.jobs[from.cut.job].mask.num_tiles;
  for (uint32_t part = from.cut.begin; part < from.cut.end;) {
    const uint32_t tile = parts.TileOf(part);
    uint32_t end = tile;
    if (part == parts.first(tile)) {
      while (end < num_tiles && parts.first(end + 1) <= from.cut.end) {
        ++end;
      }
    }
    if (end > tile) {
      jobs->push_back(TilesOf(from.params, {from.cut.job, tile, end}));
      part = parts.first(end);
    } else {
      jobs->push_back(TilesOf(from.params, {from.cut.job, tile, tile + 1}));
      device::SparsePrefillJob& job = jobs->back();
      const uint64_t floats = device::PrefillStateFloats(kRowTile, job.num_heads, from.head_dim);
      HIPATTN_ASSIGN_OR_RETURN(job.state, states->Of(part == parts.first(tile), floats));
      const uint32_t behind = std::min(from.cut.end, parts.first(tile + 1));
      job.panel_begin = (part - parts.first(tile)) * device::kMaskPartPanels;
      job.panel_end = (behind - parts.first(tile)) * device::kMaskPartPanels;
      part = behind;
    }
    jobs->back().slots = from.table;
  }
  return Status::Ok();
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
  std::vector<TileParts> parts;
  for (uint32_t i = 0; i < params.num_jobs; ++i) {
    parts.emplace_back(params.jobs[i].mask);
    waves.Add(i, parts[i].size(), 1);
  }
  const auto for_each_range = [&](const Cut& cut, const auto& fn) {
    for (uint32_t part = cut.begin; part < cut.end; ++part) {
      parts[cut.job].ForEachRun(part, [&](uint32_t first, uint32_t last) {
        return fn(first * device::kPanelTokens / block_tokens,
                  last * device::kPanelTokens / block_tokens);
      });
    }
  };
  const auto pin = [&](const Cut& cut, offload::BlockLease* lease) -> Result<bool> {
    Result<bool> fits = true;
    for_each_range(cut, [&](uint32_t first, uint32_t last) {
      fits = PinAll({params.jobs[cut.job].slots + first, last - first + 1}, Use::kRead, lease);
      return fits.ok() && *fits;
    });
    return fits;
  };
  PartStates states(engine);
  return waves.Run(pin, [&](std::span<const Cut> cuts) -> Status {
    SlotTables tables(engine);
    uint64_t entries = 0;
    for (const Cut& cut : cuts) {
      entries += blocks_of(cut);
    }
    HIPATTN_RETURN_IF_ERROR(tables.Reserve(entries));
    std::vector<device::SparsePrefillJob> cut_jobs;
    for (const Cut& cut : cuts) {
      uint32_t* table = tables.Begin(blocks_of(cut));
      for_each_range(cut, [&](uint32_t first, uint32_t last) {
        tables.Set(table, params.jobs[cut.job].slots, first, last + 1);
        return true;
      });
      HIPATTN_RETURN_IF_ERROR(AddTileJobs(
          {params, parts[cut.job], cut, table, engine.options.head_dim}, &states, &cut_jobs));
    }
    HIPATTN_ASSIGN_OR_RETURN(device::SparsePrefillJob * jobs,
                             LaunchJobs<device::SparsePrefillJob>(engine, cut_jobs.size()));
    std::copy(cut_jobs.begin(), cut_jobs.end(), jobs);
    return LaunchWave(engine, engine.device->ops().sparse_prefill, params, jobs, cut_jobs.size());
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
  const device::Op<device::LinesParams> op = engine.device->ops().estimate_lines;
  if (engine.cache == nullptr) {
    params.pool = engine.pool.view();
    return LaunchAndSync(engine, op, params);
  }
  const auto in_parts = [&](device::LinesStep step, const auto& first_part) {
    params.step = step;
    return RunKeyParts(engine,
                       op,
                       params,
                       params.jobs,
                       device::kLinesSegment,
                       first_part,
                       [](device::LinesJob* job, const Cut& cut) {
                         job->segment_begin = cut.begin;
                         job->segment_end = cut.end;
                       });
  };
  const auto at_once = [&](device::LinesStep step) {  // reads no keys
    params.step = step;
    return LaunchWave(engine, op, params, params.jobs, params.num_jobs);
  };
  const auto kept = [](const device::LinesJob& job) {
    return static_cast<uint32_t>(
        device::LinesKeptSegments(job.first_pos + job.num_rows, job.num_rows));
  };
  HIPATTN_RETURN_IF_ERROR(
      in_parts(device::LinesStep::kSums, [](const device::LinesJob&) { return 0U; }));
  HIPATTN_RETURN_IF_ERROR(at_once(device::LinesStep::kLse));
  HIPATTN_RETURN_IF_ERROR(in_parts(device::LinesStep::kLines, kept));
  HIPATTN_ASSIGN_OR_RETURN(device::LinesJob * jobs,
                           LaunchJobs<device::LinesJob>(engine, params.num_jobs));
  for (uint32_t i = 0; i < params.num_jobs; ++i) {
    jobs[i] = params.jobs[i];
    jobs[i].segment_end = kept(jobs[i]);
  }
  HIPATTN_RETURN_IF_ERROR(LaunchWave(engine, op, params, jobs, params.num_jobs));
  return at_once(device::LinesStep::kSlash);
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
  const device::Op<device::AntidiagonalParams> op = engine.device->ops().score_antidiagonals;
  if (engine.cache == nullptr) {
    params.pool = engine.pool.view();
    return LaunchAndSync(engine, op, params);
  }
  return RunKeyParts(
      engine,
      op,
      params,
      params.jobs,
      device::kAntidiagonalPartKeys,
      [](const device::AntidiagonalJob&) { return 0U; },
      [](device::AntidiagonalJob* job, const Cut& cut) {
        job->key_begin = cut.begin * device::kAntidiagonalPartKeys;
        job->key_end = cut.end * device::kAntidiagonalPartKeys;
      });
}

}  // namespace hipattn::engine
