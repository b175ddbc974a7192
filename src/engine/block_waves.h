// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// How block_ops*.cc run jobs whose blocks lie in tiers: cuts, waves of cuts, tables of slots.
#ifndef HIPATTN_ENGINE_BLOCK_WAVES_H_
#define HIPATTN_ENGINE_BLOCK_WAVES_H_

#include "engine/call.h"
#include "engine/state.h"
#include "offload/block_cache.h"

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

namespace hipattn::engine {

// Blocks of a cut, so that the least budget holds one: a split of a decode list.
inline constexpr uint32_t kCutBlocks = device::kPieceBlocks * device::kSplitPieces;

// The units [begin, end) of a job: blocks, ranges, tokens or tiles, as the op counts them.
struct Cut {
  uint32_t job;
  uint32_t begin, end;
};

using Use = offload::BlockLease::Use;

// Pins blocks. False when they do not all fit; what was pinned is for the caller to rewind.
inline Result<bool> PinAll(std::span<const uint32_t> blocks, Use use, offload::BlockLease* lease) {
  for (const uint32_t block : blocks) {
    HIPATTN_ASSIGN_OR_RETURN(const bool fits, lease->Add(block, use));
    if (!fits) {
      return false;
    }
  }
  return true;
}

class Waves {
 public:
  explicit Waves(EngineState& engine) : lease_(engine.cache.get()) {}

  // Cuts a job of `units` units into steps; one without units is a cut, too.
  void Add(uint32_t job, uint32_t units, uint32_t step) {
    uint32_t begin = 0;
    do {
      const uint32_t end = units - begin > step ? begin + step : units;
      cuts_.push_back({job, begin, end});
      begin = end;
    } while (begin < units);
  }

  // Calls pin(cut, lease) for cuts while they fit, then launch(cuts) with neighbouring cuts of a
  // job as one, until all are done.
  template <typename Pin, typename Launch>
  Status Run(const Pin& pin, const Launch& launch) {
    for (size_t next = 0; next < cuts_.size();) {
      wave_.clear();
      for (; next < cuts_.size(); ++next) {
        const size_t mark = lease_.size();
        HIPATTN_ASSIGN_OR_RETURN(const bool fits, pin(cuts_[next], &lease_));
        if (!fits) {
          lease_.Rewind(mark);
          break;
        }
        if (!wave_.empty() && wave_.back().job == cuts_[next].job) {
          wave_.back().end = cuts_[next].end;
        } else {
          wave_.push_back(cuts_[next]);
        }
      }
      if (wave_.empty()) {
        return Internal("a step needs more blocks at once than the device has room for");
      }
      HIPATTN_RETURN_IF_ERROR(lease_.Load());
      HIPATTN_RETURN_IF_ERROR(launch(std::span<const Cut>(wave_)));
      lease_.Clear();
    }
    return Status::Ok();
  }

 private:
  offload::BlockLease lease_;
  std::vector<Cut> cuts_, wave_;
};

// Tables of a launch, from block 0 of a job on, of which only the entries that are set are read.
class SlotTables {
 public:
  explicit SlotTables(EngineState& engine)
      : cache_(*engine.cache), device_(*engine.device), slots_(engine.scratch.block_slots) {}

  // Room for `entries` in all. Before the first Begin.
  Status Reserve(uint64_t entries) { return slots_.Grow(device_, entries); }

  // The next table, of `entries`.
  uint32_t* Begin(uint64_t entries) {
    uint32_t* table = slots_.data() + used_;
    used_ += entries;
    return table;
  }

  void Set(uint32_t* table, const uint32_t* ids, uint64_t begin, uint64_t end) const {
    for (uint64_t i = begin; i < end; ++i) {
      table[i] = cache_.slot(ids[i]);
    }
  }

 private:
  offload::BlockCache& cache_;
  device::Device& device_;
  Scratch<uint32_t>& slots_;
  uint64_t used_ = 0;
};

// The states of jobs that are cut: at most one goes from a wave into the next, and another begins
// behind it.
class PartStates {
 public:
  explicit PartStates(EngineState& engine) : engine_(engine) {}

  // Of the job of a cut; `begins` with its first.
  Result<float*> Of(bool begins, uint64_t floats) {
    if (begins) {
      which_ = 1 - which_;
      HIPATTN_RETURN_IF_ERROR(engine_.scratch.part_states[which_].Grow(*engine_.device, floats));
    }
    return engine_.scratch.part_states[which_].data();
  }

 private:
  EngineState& engine_;
  uint32_t which_ = 0;
};

// Memory for the jobs of a launch.
template <typename Job>
Result<Job*> LaunchJobs(EngineState& engine, size_t count) {
  HIPATTN_RETURN_IF_ERROR(
      engine.scratch.launch_jobs.Grow(*engine.device, std::max<size_t>(count, 1) * sizeof(Job)));
  return reinterpret_cast<Job*>(engine.scratch.launch_jobs.data());
}

// Launches `count` jobs of a wave with the other parameters of the whole op.
template <typename Params, typename Job>
Status LaunchWave(EngineState& engine,
                  device::Op<Params> op,
                  const Params& whole,
                  const Job* jobs,
                  size_t count) {
  Params wave = whole;
  wave.pool = engine.cache->view();
  wave.jobs = jobs;
  wave.num_jobs = static_cast<uint32_t>(count);
  return LaunchAndSync(engine, op, wave);
}

}  // namespace hipattn::engine

#endif  // HIPATTN_ENGINE_BLOCK_WAVES_H_
