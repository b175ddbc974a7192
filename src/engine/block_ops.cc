// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Ops that write blocks, or read them to index and search them.
#include "engine/block_ops.h"

#include "base/int_math.h"
#include "engine/block_waves.h"
#include "engine/prefill_options.h"

#include <algorithm>

namespace hipattn::engine {
namespace {

// Of an AppendJob, counted from the block of its first position.
struct AppendBlocks {
  uint64_t first;  // of the text
  uint32_t count;
};

AppendBlocks BlocksOf(const device::AppendJob& job, uint32_t block_tokens) {
  const uint64_t first = job.first_pos / block_tokens;
  const uint64_t end = CeilDiv<uint64_t>(uint64_t{job.first_pos} + job.num_tokens, block_tokens);
  return {first, static_cast<uint32_t>(end - first)};
}

// The tokens of a job that fall into the blocks of a cut.
device::AppendJob PartOf(const device::AppendParams& params,
                         const Cut& cut,
                         uint32_t block_tokens) {
  const device::AppendJob& job = params.jobs[cut.job];
  const uint64_t first_block = BlocksOf(job, block_tokens).first;
  const uint64_t end = uint64_t{job.first_pos} + job.num_tokens;
  const uint64_t from = std::max<uint64_t>(job.first_pos, (first_block + cut.begin) * block_tokens);
  const uint64_t to = std::min(end, (first_block + cut.end) * block_tokens);
  const uint64_t bytes =
      (from - job.first_pos) * params.kv_row_stride * DTypeBytes(params.io_dtype);
  device::AppendJob part = job;
  part.k = static_cast<const std::byte*>(job.k) + bytes;
  part.v = static_cast<const std::byte*>(job.v) + bytes;
  part.first_pos = static_cast<uint32_t>(from);
  part.num_tokens = static_cast<uint32_t>(to - from);
  return part;
}

// Brings home the blocks of a wave that got full.
Status WriteBackFull(EngineState& engine,
                     const device::AppendParams& params,
                     std::span<const Cut> cuts) {
  const uint32_t block_tokens = engine.options.block_tokens;
  std::vector<uint32_t> full;
  for (const Cut& cut : cuts) {
    const device::AppendJob& job = params.jobs[cut.job];
    const uint64_t first = BlocksOf(job, block_tokens).first;
    const uint64_t num_full = (uint64_t{job.first_pos} + job.num_tokens) / block_tokens;
    for (uint32_t i = cut.begin; i < cut.end && first + i < num_full; ++i) {
      full.push_back(job.slots[i]);
    }
  }
  return full.empty() ? Status::Ok() : engine.cache->WriteBack(full);
}

// The blocks whose keys stand for the inner nodes that the blocks [begin, end) complete.
template <typename Fn>
void ForEachStandIn(Scorer scorer, uint64_t begin, uint64_t end, const Fn& fn) {
  if (scorer != Scorer::kRepresentative && scorer != Scorer::kFirst) {
    return;  // the others have none, or the node's last block, which is one of these
  }
  for (uint32_t level = 1; level < kMaxLevels; ++level) {
    const uint32_t shift = 3 * level;
    const uint64_t offset =
        scorer == Scorer::kRepresentative ? uint64_t{1} << (shift - 1) : uint64_t{0};
    for (uint64_t node = begin >> shift; node < end >> shift; ++node) {
      fn((node << shift) + offset);
    }
  }
}

bool HasStandIns(const device::SummarizeParams& params, const device::SummarizeJob& job) {
  return job.rebuild == 0 &&
         (params.scorer == Scorer::kRepresentative || params.scorer == Scorer::kFirst);
}

}  // namespace

uint32_t FloorSlots(const EngineOptions& engine,
                    const AttentionOptions& attention,
                    uint64_t num_tokens) {
  const uint64_t blocks = CeilDiv<uint64_t>(num_tokens, engine.block_tokens);
  const bool dense = attention.prefill() == PrefillMode::kDense ||
                     (attention.prefill() == PrefillMode::kAuto && num_tokens <= kAutoDenseUpTo);
  return static_cast<uint32_t>(std::min<uint64_t>(blocks, dense ? kCutBlocks : kMaskCutBlocks));
}

Status RaiseFloor(EngineState& engine, const SequenceState& sequence, uint64_t num_tokens) {
  if (engine.cache == nullptr) {
    return Status::Ok();
  }
  const uint32_t slots = FloorSlots(engine.options, sequence.options, num_tokens);
  Status raised = engine.cache->RaiseFloor(slots);
  if (raised.code() == StatusCode::kOutOfBudget && engine.copies.DropAll()) {
    raised = engine.cache->RaiseFloor(slots);
  }
  return raised;
}

void KeepEnds(EngineState& engine,
              const SequenceState& sequence,
              const HeadStore& store,
              uint64_t before,
              uint64_t after) {
  if (engine.cache == nullptr || sequence.options.decode() == DecodeMode::kDense) {
    return;
  }
  const uint64_t block_tokens = engine.options.block_tokens;
  const auto window_block = [&](uint64_t tokens) {
    const uint64_t window = sequence.options.window_tokens;
    return tokens > window ? (tokens - window) / block_tokens : 0;
  };
  const uint64_t sinks = CeilDiv<uint64_t>(sequence.options.sink_tokens, block_tokens);
  const auto keep = [&](uint64_t first, uint64_t end, bool kept) {
    for (uint64_t block = first; block < end; ++block) {
      engine.cache->Keep(store.slots()[block], kept);
    }
  };
  keep(std::max(window_block(before), sinks), window_block(after), false);
  keep(before / block_tokens, std::min(sinks, after / block_tokens), true);
  keep(std::max({before / block_tokens, window_block(after), sinks}), after / block_tokens, true);
}

Status RunOverBlocks(EngineState& engine, device::AppendParams params) {
  if (engine.cache == nullptr) {
    params.pool = engine.pool.view();
    return LaunchAndSync(engine, engine.device->ops().append_kv, params);
  }
  const uint32_t block_tokens = engine.options.block_tokens;
  Waves waves(engine);
  for (uint32_t i = 0; i < params.num_jobs; ++i) {
    waves.Add(i, BlocksOf(params.jobs[i], block_tokens).count, kCutBlocks);
  }
  const auto pin = [&](const Cut& cut, offload::BlockLease* lease) {
    return PinAll(
        {params.jobs[cut.job].slots + cut.begin, cut.end - cut.begin}, Use::kWrite, lease);
  };
  return waves.Run(pin, [&](std::span<const Cut> cuts) -> Status {
    HIPATTN_ASSIGN_OR_RETURN(device::AppendJob * jobs,
                             LaunchJobs<device::AppendJob>(engine, cuts.size()));
    SlotTables tables(engine);
    uint64_t entries = 0;
    for (const Cut& cut : cuts) {
      entries += cut.end - cut.begin;
    }
    HIPATTN_RETURN_IF_ERROR(tables.Reserve(entries));
    for (size_t i = 0; i < cuts.size(); ++i) {
      const uint32_t count = cuts[i].end - cuts[i].begin;
      uint32_t* table = tables.Begin(count);
      tables.Set(table, params.jobs[cuts[i].job].slots + cuts[i].begin, 0, count);
      jobs[i] = PartOf(params, cuts[i], block_tokens);
      jobs[i].slots = table;
    }
    HIPATTN_RETURN_IF_ERROR(
        LaunchWave(engine, engine.device->ops().append_kv, params, jobs, cuts.size()));
    return WriteBackFull(engine, params, cuts);
  });
}

Status RunOverBlocks(EngineState& engine, device::SummarizeParams params) {
  if (engine.cache == nullptr) {
    params.pool = engine.pool.view();
    return LaunchAndSync(engine, engine.device->ops().summarize_blocks, params);
  }
  Waves waves(engine);
  for (uint32_t i = 0; i < params.num_jobs; ++i) {
    // Half a floor of blocks, which leaves room for their nodes' stand-ins.
    waves.Add(i, params.jobs[i].num_blocks, kCutBlocks / 2);
  }
  const auto pin = [&](const Cut& cut, offload::BlockLease* lease) -> Result<bool> {
    const device::SummarizeJob& job = params.jobs[cut.job];
    const uint32_t begin = job.first_block + cut.begin;
    const uint32_t end = job.first_block + cut.end;
    HIPATTN_ASSIGN_OR_RETURN(bool fits,
                             PinAll({job.slots + begin, end - begin}, Use::kRead, lease));
    Status status;
    if (HasStandIns(params, job)) {
      ForEachStandIn(params.scorer, begin, end, [&](uint64_t block) {
        if (fits && status.ok()) {
          Result<bool> added = lease->Add(job.slots[block], Use::kRead);
          status = added.status();
          fits = added.ok() && *added;
        }
      });
    }
    HIPATTN_RETURN_IF_ERROR(status);
    return fits;
  };
  return waves.Run(pin, [&](std::span<const Cut> cuts) -> Status {
    HIPATTN_ASSIGN_OR_RETURN(device::SummarizeJob * jobs,
                             LaunchJobs<device::SummarizeJob>(engine, cuts.size()));
    SlotTables tables(engine);
    uint64_t entries = 0;
    for (const Cut& cut : cuts) {
      entries += params.jobs[cut.job].first_block + cut.end;
    }
    HIPATTN_RETURN_IF_ERROR(tables.Reserve(entries));
    for (size_t i = 0; i < cuts.size(); ++i) {
      const device::SummarizeJob& job = params.jobs[cuts[i].job];
      const uint32_t begin = job.first_block + cuts[i].begin;
      const uint32_t end = job.first_block + cuts[i].end;
      uint32_t* table = tables.Begin(end);
      tables.Set(table, job.slots, begin, end);
      if (HasStandIns(params, job)) {
        ForEachStandIn(params.scorer, begin, end, [&](uint64_t block) {
          tables.Set(table, job.slots, block, block + 1);
        });
      }
      jobs[i] = job;
      jobs[i].slots = table;
      jobs[i].first_block = begin;
      jobs[i].num_blocks = end - begin;
    }
    return LaunchWave(engine, engine.device->ops().summarize_blocks, params, jobs, cuts.size());
  });
}

Status RunOverBlocks(EngineState& engine, device::WriteSketchParams params) {
  if (engine.cache == nullptr) {
    params.pool = engine.pool.view();
    return LaunchAndSync(engine, engine.device->ops().write_sketches, params);
  }
  Waves waves(engine);
  for (uint32_t i = 0; i < params.num_jobs; ++i) {
    waves.Add(i, params.jobs[i].num_blocks, kCutBlocks);
  }
  const auto pin = [&](const Cut& cut, offload::BlockLease* lease) {
    const device::WriteSketchJob& job = params.jobs[cut.job];
    return PinAll(
        {job.slots + job.first_block + cut.begin, cut.end - cut.begin}, Use::kRead, lease);
  };
  return waves.Run(pin, [&](std::span<const Cut> cuts) -> Status {
    HIPATTN_ASSIGN_OR_RETURN(device::WriteSketchJob * jobs,
                             LaunchJobs<device::WriteSketchJob>(engine, cuts.size()));
    SlotTables tables(engine);
    uint64_t entries = 0;
    for (const Cut& cut : cuts) {
      entries += params.jobs[cut.job].first_block + cut.end;
    }
    HIPATTN_RETURN_IF_ERROR(tables.Reserve(entries));
    for (size_t i = 0; i < cuts.size(); ++i) {
      jobs[i] = params.jobs[cuts[i].job];
      const uint32_t end = jobs[i].first_block + cuts[i].end;
      uint32_t* table = tables.Begin(end);
      tables.Set(table, jobs[i].slots, jobs[i].first_block + cuts[i].begin, end);
      jobs[i].slots = table;
      jobs[i].first_block += cuts[i].begin;
      jobs[i].num_blocks = cuts[i].end - cuts[i].begin;
    }
    return LaunchWave(engine, engine.device->ops().write_sketches, params, jobs, cuts.size());
  });
}

Status RunOverBlocks(EngineState& engine,
                     const device::ScoreKeysJob& job,
                     device::ScoreKeysParams params) {
  if (engine.cache == nullptr) {
    params.pool = engine.pool.view();
    return LaunchOneAndSync(engine, engine.device->ops().score_keys, job, params);
  }
  params.jobs = &job;
  params.num_jobs = 1;
  return RunOverBlocks(engine, params);
}

Status RunOverBlocks(EngineState& engine, device::ScoreKeysParams params) {
  if (engine.cache == nullptr) {
    params.pool = engine.pool.view();
    return LaunchAndSync(engine, engine.device->ops().score_keys, params);
  }
  const uint32_t block_tokens = engine.options.block_tokens;
  Waves waves(engine);
  for (uint32_t i = 0; i < params.num_jobs; ++i) {
    waves.Add(i, params.jobs[i].num_tokens, kCutBlocks);
  }
  const auto pin = [&](const Cut& cut, offload::BlockLease* lease) -> Result<bool> {
    const device::ScoreKeysJob& job = params.jobs[cut.job];
    uint32_t last = UINT32_MAX;
    for (uint32_t i = cut.begin; i < cut.end; ++i) {
      const uint32_t block = job.tokens[i] / block_tokens;
      if (block == last) {
        continue;
      }
      last = block;
      HIPATTN_ASSIGN_OR_RETURN(const bool fits, lease->Add(job.slots[block], Use::kRead));
      if (!fits) {
        return false;
      }
    }
    return true;
  };
  return waves.Run(pin, [&](std::span<const Cut> cuts) -> Status {
    HIPATTN_ASSIGN_OR_RETURN(device::ScoreKeysJob * jobs,
                             LaunchJobs<device::ScoreKeysJob>(engine, cuts.size()));
    SlotTables tables(engine);
    const auto entries_of = [&](const Cut& cut) {
      const uint32_t* tokens = params.jobs[cut.job].tokens;
      const uint32_t* most = std::max_element(tokens + cut.begin, tokens + cut.end);
      return cut.begin == cut.end ? 0 : *most / block_tokens + 1;
    };
    uint64_t entries = 0;
    for (const Cut& cut : cuts) {
      entries += entries_of(cut);
    }
    HIPATTN_RETURN_IF_ERROR(tables.Reserve(entries));
    for (size_t i = 0; i < cuts.size(); ++i) {
      const Cut& cut = cuts[i];
      device::ScoreKeysJob& job = jobs[i];
      job = params.jobs[cut.job];
      uint32_t* table = tables.Begin(entries_of(cut));
      for (uint32_t t = cut.begin; t < cut.end; ++t) {
        const uint32_t block = job.tokens[t] / block_tokens;
        tables.Set(table, job.slots, block, block + 1);
      }
      job.slots = table;
      job.tokens += cut.begin;
      job.key_pos = job.key_pos == nullptr ? nullptr : job.key_pos + cut.begin;
      job.num_tokens = cut.end - cut.begin;
      job.scores += cut.begin;
    }
    return LaunchWave(engine, engine.device->ops().score_keys, params, jobs, cuts.size());
  });
}

}  // namespace hipattn::engine
