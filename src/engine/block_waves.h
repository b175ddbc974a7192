// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// How block_ops*.cc run jobs whose blocks lie in tiers: cuts, waves of cuts, tables of slots.
//
// While a wave computes, the next one's blocks travel. Where one wave does not do, each takes a
// quarter of the room, so that the first one, which nothing hides, is short; where the room holds
// one cut at a time, a wave is fetched when the one before it is done. Where one wave is all there
// is, jobs that miss nothing are computed while the others' blocks travel. Cuts are made before
// anything is known of hits, and those of one job are computed in their order, so none of this is
// seen in a result.
#ifndef HIPATTN_ENGINE_BLOCK_WAVES_H_
#define HIPATTN_ENGINE_BLOCK_WAVES_H_

#include "engine/call.h"
#include "engine/state.h"
#include "offload/block_lease.h"

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

namespace hipattn::engine {

// Blocks of a cut, so that the least budget holds one: a split of a decode list.
inline constexpr uint32_t kCutBlocks = device::kPieceBlocks * device::kSplitPieces;
// And what the ops of a prefill by masks read at once: a part of a row tile, whose panels may all
// lie in blocks of their own, or a segment of keys.
inline constexpr uint32_t kMaskCutBlocks = 256;
static_assert(kMaskCutBlocks >= device::kMaskPartPanels &&
              kMaskCutBlocks * device::kPanelTokens >= device::kLinesSegment);

// The units [begin, end) of a job: blocks, ranges, tokens or tiles, as the op counts them.
struct Cut {
  uint32_t job;
  uint32_t begin, end;
  bool whole = false;  // all of the job
};

using Use = offload::BlockLease::Use;
using Pace = offload::BlockMover::Pace;

// Pins blocks. False when they do not all fit; what was pinned is for the caller to rewind.
inline Result<bool> PinAll(std::span<const uint32_t> blocks, Use use, offload::BlockLease* lease) {
  return lease->AddAll(
      blocks.size(), [&](size_t i) { return blocks[i]; }, use);
}

class Waves {
 public:
  explicit Waves(EngineState& engine)
      : trace_(engine.trace.get()), waves_{Wave(engine.cache.get()), Wave(engine.cache.get())} {
    constexpr size_t kUsualCuts = 16;
    cuts_.reserve(kUsualCuts);
    marks_.reserve(kUsualCuts);
  }

  // Cuts a job of `units` units into steps; one without units is a cut, too.
  void Add(uint32_t job, uint32_t units, uint32_t step) {
    uint32_t begin = 0;
    do {
      const uint32_t end = units - begin > step ? begin + step : units;
      cuts_.push_back({job, begin, end, end - begin == units});
      begin = end;
    } while (begin < units);
  }

  // Calls pin(cut, lease) for cuts while they fit, then launch(cuts) with neighbouring cuts of a
  // job as one, until all are done.
  template <typename Pin, typename Launch>
  Status Run(const Pin& pin, const Launch& launch) {
    Status status = RunAll(pin, launch);
    if (!status.ok()) {
      waves_[1 - now_].lease.Clear();
      waves_[now_].lease.Clear();
    }
    return status;
  }

 private:
  struct Wave {
    explicit Wave(offload::BlockCache* cache) : lease(cache) {}
    bool empty() const { return early.empty() && late.empty(); }

    offload::BlockLease lease;
    std::vector<Cut> early;  // need nothing of what is fetched
    std::vector<Cut> late;
  };

  template <typename Pin, typename Launch>
  Status RunAll(const Pin& pin, const Launch& launch) {
    HIPATTN_RETURN_IF_ERROR(Fill(pin, /*alone=*/true, &waves_[now_]));
    while (!waves_[now_].empty()) {
      Wave& wave = waves_[now_];
      Wave& other = waves_[1 - now_];
      if (next_ < cuts_.size()) {
        HIPATTN_RETURN_IF_ERROR(Fill(pin, /*alone=*/false, &other));
      }
      if (!wave.early.empty()) {
        HIPATTN_RETURN_IF_ERROR(launch(std::span<const Cut>(wave.early)));
      }
      HIPATTN_RETURN_IF_ERROR(wave.lease.Await());
      if (!wave.late.empty()) {
        HIPATTN_RETURN_IF_ERROR(launch(std::span<const Cut>(wave.late)));
      }
      wave.early.clear();
      wave.late.clear();
      wave.lease.Clear();
      if (other.empty() && next_ < cuts_.size()) {
        HIPATTN_RETURN_IF_ERROR(Fill(pin, /*alone=*/true, &other));
      }
      now_ = 1 - now_;
    }
    return next_ == cuts_.size()
               ? Status::Ok()
               : Internal("a step needs more blocks at once than the device has room for");
  }

  // Takes the cuts that fit, and begins to fetch what they miss.
  template <typename Pin>
  Status Fill(const Pin& pin, bool alone, Wave* wave) {
    offload::TraceSpan span(trace_, "pin");
    offload::BlockLease& lease = wave->lease;
    const size_t first = next_;
    marks_.clear();
    for (; next_ < cuts_.size() && (alone || marks_.empty() || lease.size() < share_); ++next_) {
      marks_.push_back(lease.size());
      HIPATTN_ASSIGN_OR_RETURN(const bool fits, pin(cuts_[next_], &lease));
      if (!fits) {
        lease.Rewind(marks_.back());
        break;
      }
    }
    marks_.resize(next_ - first);
    if (alone && next_ < cuts_.size()) {
      share_ = lease.size() / kWaves;
      for (; marks_.size() > 1 && marks_.back() >= share_; marks_.pop_back(), --next_) {
        lease.Rewind(marks_.back());
      }
    }
    marks_.push_back(lease.size());
    span.Set("blocks", lease.size());
    span.Set("missing", lease.num_placed());
    const auto is_early = [&](size_t i) {
      return alone && cuts_[i].whole && !lease.Misses(marks_[i - first], marks_[i - first + 1]);
    };
    bool beside = !alone;
    for (size_t i = first; i < next_ && !beside && lease.num_placed() > 0; ++i) {
      beside = is_early(i);
    }
    HIPATTN_RETURN_IF_ERROR(lease.Begin(beside ? Pace::kBeside : Pace::kAtOnce));
    for (size_t i = first; i < next_; ++i) {
      Append(cuts_[i], lease.travels() && is_early(i) ? &wave->early : &wave->late);
    }
    return Status::Ok();
  }

  static void Append(const Cut& cut, std::vector<Cut>* cuts) {
    if (!cuts->empty() && cuts->back().job == cut.job) {
      cuts->back().end = cut.end;
    } else {
      cuts->push_back(cut);
    }
  }

  static constexpr size_t kWaves = 4;  // that would fill the room

  offload::Trace* const trace_;
  Wave waves_[2];
  uint32_t now_ = 0;  // that is computed next; what the other one was given comes behind it
  std::vector<Cut> cuts_;
  size_t next_ = 0;            // of cuts_, that no wave has yet
  size_t share_ = SIZE_MAX;    // blocks of a wave
  std::vector<size_t> marks_;  // of the lease, where each cut of the wave begins
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
