// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Ops that attend lists, or all of a text.
#include "base/int_math.h"
#include "engine/block_ops.h"
#include "engine/block_waves.h"

namespace hipattn::engine {
namespace {

// Rows of a chunk whose states are kept while the text goes by: 2.5 MB for each q head of 128.
constexpr uint32_t kPartRows = 2048;
// Tokens of a cut of a text that is prefilled.
constexpr uint32_t kPrefillCutTokens = 1024;
static_assert(kPrefillCutTokens % device::kPrefillPartKeys == 0 &&
              kPrefillCutTokens <= kCutBlocks * device::kPanelTokens);

// Pins the blocks of ranges, of which neighbours are often the same.
Result<bool> PinRanges(std::span<const device::KvRange> ranges, offload::BlockLease* lease) {
  return lease->AddAll(
      ranges.size(), [&](size_t i) { return ranges[i].slot; }, Use::kRead);
}

void SetRanges(const offload::BlockCache& cache,
               std::span<const device::KvRange> ranges,
               device::KvRange* out) {
  for (const device::KvRange& range : ranges) {
    *out++ = {cache.slot(range.slot), range.begin, range.end};
  }
}

uint32_t NumRanges(const EngineState& engine, const device::DecodeJob& job) {
  return job.ranges != nullptr ? job.num_ranges
                               : CeilDiv(job.num_tokens, engine.options.block_tokens);
}

// A wave of decode jobs.
class DecodeWave {
 public:
  DecodeWave(EngineState& engine, const device::DecodeParams& params)
      : engine_(engine), params_(params), states_(engine) {}

  Status Launch(std::span<const Cut> cuts) {
    HIPATTN_ASSIGN_OR_RETURN(device::DecodeJob * jobs,
                             LaunchJobs<device::DecodeJob>(engine_, cuts.size()));
    SlotTables tables(engine_);
    uint64_t ranges = 0;
    uint64_t entries = 0;
    for (const Cut& cut : cuts) {
      const bool listed = params_.jobs[cut.job].ranges != nullptr;
      (listed ? ranges : entries) += cut.end - cut.begin;
    }
    HIPATTN_RETURN_IF_ERROR(tables.Reserve(entries));
    HIPATTN_RETURN_IF_ERROR(engine_.scratch.block_ranges.Grow(*engine_.device, ranges));
    device::KvRange* range = engine_.scratch.block_ranges.data();
    for (size_t i = 0; i < cuts.size(); ++i) {
      HIPATTN_ASSIGN_OR_RETURN(jobs[i], PartOf(cuts[i]));
      const uint32_t count = cuts[i].end - cuts[i].begin;
      if (jobs[i].ranges != nullptr) {
        SetRanges(*engine_.cache, {jobs[i].ranges, count}, range);
        jobs[i].ranges = range;
        range += count;
      } else {
        uint32_t* table = tables.Begin(count);
        tables.Set(table, jobs[i].slots, 0, count);
        jobs[i].slots = table;
      }
    }
    device::DecodeParams wave = params_;
    wave.pool = engine_.cache->view();
    wave.jobs = jobs;
    wave.num_jobs = static_cast<uint32_t>(cuts.size());
    return LaunchAndSync(engine_, engine_.device->ops().sparse_decode, wave);
  }

 private:
  // Still with ids.
  Result<device::DecodeJob> PartOf(const Cut& cut) {
    device::DecodeJob job = params_.jobs[cut.job];
    const uint32_t all = NumRanges(engine_, job);
    job.num_ranges = cut.end - cut.begin;
    if (job.ranges != nullptr) {
      job.ranges += cut.begin;
    } else {
      const uint32_t block_tokens = engine_.options.block_tokens;
      job.slots += cut.begin;
      job.num_tokens = std::min(job.num_tokens, cut.end * block_tokens) - cut.begin * block_tokens;
    }
    if (cut.end - cut.begin < all) {
      const uint64_t floats =
          device::DecodeWorkspaceFloats(all, params_.group, engine_.options.head_dim);
      HIPATTN_ASSIGN_OR_RETURN(job.states, states_.Of(cut.begin == 0, floats));
      job.splits_before = cut.begin / kCutBlocks;
      job.more = cut.end < all ? 1 : 0;
    }
    return job;
  }

  EngineState& engine_;
  const device::DecodeParams& params_;
  PartStates states_;
};

// The rows of a job that would need more states than one likes to keep, in slices.
void AddSlices(const EngineState& engine,
               const device::PrefillParams& params,
               const device::PrefillJob& job,
               std::vector<device::PrefillJob>* slices) {
  const uint64_t blocks =
      CeilDiv<uint64_t>(uint64_t{job.first_pos} + job.num_rows, engine.options.block_tokens);
  if (blocks <= engine.cache->Room() || job.num_rows <= kPartRows) {
    slices->push_back(job);
    return;
  }
  for (uint32_t row = 0; row < job.num_rows; row += kPartRows) {
    device::PrefillJob slice = job;
    slice.q += row * params.q_row_stride;
    slice.out = static_cast<std::byte*>(job.out) +
                row * params.out_row_stride * DTypeBytes(params.out_dtype);
    slice.lse = job.lse == nullptr ? nullptr : job.lse + row * params.lse_row_stride;
    slice.first_pos += row;
    slice.num_rows = std::min(kPartRows, job.num_rows - row);
    slices->push_back(slice);
  }
}

uint32_t KeysOf(const device::PrefillJob& job) {
  return job.first_pos + job.num_rows;
}

}  // namespace

Status RunOverBlocks(EngineState& engine, device::DecodeParams params) {
  if (engine.cache == nullptr) {
    params.pool = engine.pool.view();
    return LaunchAndSync(engine, engine.device->ops().sparse_decode, params);
  }
  Waves waves(engine);
  for (uint32_t i = 0; i < params.num_jobs; ++i) {
    waves.Add(i, NumRanges(engine, params.jobs[i]), kCutBlocks);
  }
  const auto pin = [&](const Cut& cut, offload::BlockLease* lease) -> Result<bool> {
    const device::DecodeJob& job = params.jobs[cut.job];
    const uint32_t count = cut.end - cut.begin;
    return job.ranges != nullptr ? PinRanges({job.ranges + cut.begin, count}, lease)
                                 : PinAll({job.slots + cut.begin, count}, Use::kRead, lease);
  };
  DecodeWave wave(engine, params);
  return waves.Run(pin, [&](std::span<const Cut> cuts) { return wave.Launch(cuts); });
}

Status RunOverBlocks(EngineState& engine, device::RotatedParams params) {
  if (engine.cache == nullptr) {
    params.pool = engine.pool.view();
    return LaunchAndSync(engine, engine.device->ops().attend_rotated, params);
  }
  Waves waves(engine);
  for (uint32_t i = 0; i < params.num_jobs; ++i) {
    waves.Add(i, params.jobs[i].num_ranges, kCutBlocks);
  }
  const auto pin = [&](const Cut& cut, offload::BlockLease* lease) {
    return PinRanges({params.jobs[cut.job].ranges + cut.begin, cut.end - cut.begin}, lease);
  };
  PartStates states(engine);
  return waves.Run(pin, [&](std::span<const Cut> cuts) -> Status {
    HIPATTN_ASSIGN_OR_RETURN(device::RotatedJob * jobs,
                             LaunchJobs<device::RotatedJob>(engine, cuts.size()));
    uint64_t ranges = 0;
    for (const Cut& cut : cuts) {
      ranges += cut.end - cut.begin;
    }
    HIPATTN_RETURN_IF_ERROR(engine.scratch.block_ranges.Grow(*engine.device, ranges));
    device::KvRange* range = engine.scratch.block_ranges.data();
    for (size_t i = 0; i < cuts.size(); ++i) {
      const Cut& cut = cuts[i];
      device::RotatedJob& job = jobs[i];
      job = params.jobs[cut.job];
      const uint32_t all = job.num_ranges;
      job.num_ranges = cut.end - cut.begin;
      if (job.num_ranges < all) {
        const uint64_t floats = device::RotatedStateFloats(params.group, engine.options.head_dim);
        HIPATTN_ASSIGN_OR_RETURN(job.state, states.Of(cut.begin == 0, floats));
        job.later = cut.begin > 0 ? 1 : 0;
        job.more = cut.end < all ? 1 : 0;
      }
      SetRanges(*engine.cache, {job.ranges + cut.begin, job.num_ranges}, range);
      job.ranges = range;
      job.positions += cut.begin;
      range += job.num_ranges;
    }
    return LaunchWave(engine, engine.device->ops().attend_rotated, params, jobs, cuts.size());
  });
}

Status RunOverBlocks(EngineState& engine, device::PrefillParams params) {
  if (engine.cache == nullptr) {
    params.pool = engine.pool.view();
    return LaunchAndSync(engine, engine.device->ops().dense_prefill, params);
  }
  const uint32_t block_tokens = engine.options.block_tokens;
  std::vector<device::PrefillJob> slices;
  for (uint32_t i = 0; i < params.num_jobs; ++i) {
    AddSlices(engine, params, params.jobs[i], &slices);
  }
  Waves waves(engine);
  for (uint32_t i = 0; i < slices.size(); ++i) {
    waves.Add(i, CeilDiv(KeysOf(slices[i]), block_tokens), kPrefillCutTokens / block_tokens);
  }
  const auto pin = [&](const Cut& cut, offload::BlockLease* lease) {
    return PinAll({slices[cut.job].slots + cut.begin, cut.end - cut.begin}, Use::kRead, lease);
  };
  PartStates states(engine);
  return waves.Run(pin, [&](std::span<const Cut> cuts) -> Status {
    HIPATTN_ASSIGN_OR_RETURN(device::PrefillJob * jobs,
                             LaunchJobs<device::PrefillJob>(engine, cuts.size()));
    SlotTables tables(engine);
    uint64_t entries = 0;
    for (const Cut& cut : cuts) {
      entries += cut.end;
    }
    HIPATTN_RETURN_IF_ERROR(tables.Reserve(entries));
    for (size_t i = 0; i < cuts.size(); ++i) {
      const Cut& cut = cuts[i];
      device::PrefillJob& job = jobs[i];
      job = slices[cut.job];
      uint32_t* table = tables.Begin(cut.end);
      tables.Set(table, job.slots, cut.begin, cut.end);
      job.slots = table;
      if (cut.end - cut.begin < CeilDiv(KeysOf(job), block_tokens)) {
        const uint64_t floats =
            device::PrefillStateFloats(job.num_rows, params.group, engine.options.head_dim);
        HIPATTN_ASSIGN_OR_RETURN(job.state, states.Of(cut.begin == 0, floats));
        job.key_begin = cut.begin * block_tokens;
        job.key_end = std::min(cut.end * block_tokens, KeysOf(job));
      }
    }
    return LaunchWave(engine, engine.device->ops().dense_prefill, params, jobs, cuts.size());
  });
}

}  // namespace hipattn::engine
