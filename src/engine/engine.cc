// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "engine/engine.h"

#include "device/registry.h"
#include "engine/attend.h"
#include "engine/patterns.h"
#include "engine/profile.h"
#include "engine/state.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace hipattn::engine {
namespace {

// Left to the rest of the process when device_kv_bytes is not given: a tenth, at least 512 MiB.
uint64_t DefaultBudget(uint64_t available) {
  const uint64_t reserve = std::max(available / 10, uint64_t{512} << 20);
  return available > reserve ? available - reserve : available / 2;
}

Status SetRope(EngineState& state) {
  const EngineOptions& options = state.options;
  state.rope.mode = options.rope_mode;
  if (options.rope_mode == 0) {
    return Status::Ok();
  }
  const uint32_t pairs = options.rope_dim / 2;
  HIPATTN_ASSIGN_OR_RETURN(
      state.inv_freq,
      state.device->Allocate(device::MemoryKind::kHostVisible, pairs * sizeof(double)));
  for (uint32_t i = 0; i < pairs; ++i) {
    const double exponent = -2.0 * i / options.rope_dim;
    state.inv_freq.as<double>()[i] =
        options.rope_inv_freq.empty() ? std::pow(static_cast<double>(options.rope_theta), exponent)
                                      : static_cast<double>(options.rope_inv_freq[i]);
  }
  state.rope.dim = options.rope_dim;
  state.rope.inv_freq = state.inv_freq.as<double>();
  return Status::Ok();
}

// Of pinned memory, which may have a limit, what an index on the host can need: beside a disk what
// homes leave, else at most an eighth (docs/offload.md). Homes can do without.
uint64_t PinnedByIndex(const EngineOptions& o) {
  return o.indexes_on_host() ? std::max(o.host_kv_bytes - HomeBytes(o), o.host_kv_bytes / 8) : 0;
}

// The cache and what is behind it.
Status MakeTiers(EngineState& state) {
  const EngineOptions& o = state.options;
  if (!o.has_tiers()) {
    return Status::Ok();
  }
  if (o.indexes_on_host() && !state.device->capabilities().mapped_memory) {
    return Unsupported("host_kv_bytes is ",
                       o.host_kv_bytes,
                       "; the host tier holds a part of the index, and the device ",
                       state.device->name(),
                       " cannot write to host memory");
  }
  const offload::SlotGeometry geometry = {o.block_tokens, o.head_dim, o.kv()};
  if (o.disk_kv_bytes != 0) {
    HIPATTN_ASSIGN_OR_RETURN(state.disk,
                             offload::DiskStore::Create(&offload::SystemFileCalls(),
                                                        &state.disk_budget,
                                                        o.disk_path,
                                                        offload::BlockBytes(geometry)));
    state.logger.Info(StrCat("disk tier in \"", o.disk_path, "\": ", state.disk->transport()));
  }
  state.cache = std::make_unique<offload::BlockCache>(state.device.get(),
                                                      offload::BlockCache::Tiers{&state.budget,
                                                                                 &state.home_budget,
                                                                                 state.disk.get(),
                                                                                 &state.logger,
                                                                                 PinnedByIndex(o),
                                                                                 state.trace.get()},
                                                      geometry);
  state.copies.SetCache(state.cache.get());
  state.lender.Set(&state.budget, state.cache.get(), &state.copies);
  return Status::Ok();
}

// What the host's threads search with: the CPU device's own ops, or beside another device the best
// that this CPU has.
const device::OpTable& HostOps(const device::Device& device) {
  for (const device::OpTable* table : device::CpuOpTables()) {
    if (table == &device.ops()) {
      return *table;
    }
  }
  return *device::CpuOpTables().back();
}

}  // namespace

Engine::Engine(std::unique_ptr<EngineState> state) : state_(std::move(state)) {}
Engine::~Engine() = default;

Result<std::shared_ptr<Engine>> Engine::Create(const EngineOptions& options,
                                               std::string_view instruction_set) {
  if (options.device == DeviceKind::kCuda) {
    return Unsupported("device is HIPATTN_DEVICE_CUDA; this build has the CPU device only");
  }
  HIPATTN_ASSIGN_OR_RETURN(std::unique_ptr<device::Device> device,
                           device::CreateCpuDevice({options.num_threads, instruction_set}));
  return CreateOn(std::move(device), options);
}

Result<std::shared_ptr<Engine>> Engine::CreateOn(std::unique_ptr<device::Device> device,
                                                 const EngineOptions& options) {
  EngineOptions chosen = options;
  chosen.device = DeviceKind::kCpu;
  chosen.num_threads = device->executor().concurrency();
  if (chosen.device_kv_bytes == 0) {
    chosen.device_kv_bytes = DefaultBudget(device->host_memory().available_bytes());
  }
  auto state = std::make_unique<EngineState>(chosen, std::move(device));
  state->host_ops = &HostOps(*state->device);
  if (!chosen.trace_path.empty()) {
    HIPATTN_ASSIGN_OR_RETURN(
        state->trace,
        offload::Trace::Open(
            &offload::SystemFileCalls(), state->device.get(), chosen.trace_path, &state->logger));
  }
  HIPATTN_RETURN_IF_ERROR(SetRope(*state));
  HIPATTN_RETURN_IF_ERROR(MakeTiers(*state));
  state->logger.Info(StrCat("engine on ",
                            state->device->name(),
                            ", ",
                            chosen.num_threads,
                            " threads, device_kv_bytes ",
                            chosen.device_kv_bytes));
  if (state->device->host_memory().placement() == device::Placement::kFirstTouch) {
    state->logger.Info(
        "the system does not let memory be placed on a NUMA node: it lies where it is touched "
        "first");
  }
  return std::shared_ptr<Engine>(new Engine(std::move(state)));
}

const EngineOptions& Engine::options() const {
  return state_->options;
}

Status Engine::Attend(const AttendArgs& args) {
  return RunAttend(*state_, args);
}

Status Engine::MergeStates(const MergeArgs& args) {
  const device::MergeParams params = {
      args.num_rows, args.head_dim, args.o_a, args.lse_a, args.o_b, args.lse_b, args.o, args.lse};
  HIPATTN_ASSIGN_OR_RETURN(const device::Ticket ticket,
                           state_->device->Launch(0, state_->device->ops().merge_states, params));
  return state_->device->Sync(ticket);
}

Status Engine::LoadProfile(const std::string& json_path) {
  HIPATTN_ASSIGN_OR_RETURN(state_->profile, ReadProfile(json_path, state_->options));
  return Status::Ok();
}

Status Engine::LoadPatterns(const std::string& json_path) {
  const EngineOptions& o = state_->options;
  HIPATTN_ASSIGN_OR_RETURN(state_->patterns,
                           ReadPatterns(json_path, {o.num_layers, o.model_q_heads}));
  return Status::Ok();
}

const core::PatternTable& Engine::patterns() const {
  return state_->patterns;
}

void Engine::Cancel() {
  if (state_->running.load(std::memory_order_acquire)) {
    state_->cancelled.store(true, std::memory_order_release);
  }
}

Status Engine::Synchronize() {
  const offload::TraceSpan span(state_->trace.get(), "synchronize");
  Status home = state_->cache == nullptr ? Status::Ok() : state_->cache->FinishWriteBacks();
  Status synced = state_->device->Sync(state_->device->Everything());
  return synced.ok() ? home : synced;
}

Stats Engine::GetStats(bool reset) {
  EngineState& state = *state_;
  const std::lock_guard<std::mutex> lock(state.stats_mutex);
  Stats stats = state.stats;
  stats.scanned_heads = static_cast<uint32_t>(state.scanned_heads.load(std::memory_order_relaxed));
  stats.device_bytes = state.budget.used();
  stats.device_bytes_peak = state.budget.peak();
  stats.device_index_bytes = state.memory.bytes();
  if (state.cache != nullptr) {
    const offload::CacheCounts counts = state.cache->counts();
    stats.host_bytes = state.host_budget.used();
    stats.blocks_hit = counts.hits;
    stats.blocks_fetched = counts.fetched;
    stats.blocks_evicted = counts.evicted;
    stats.bytes_host_to_device = counts.bytes_host_to_device;
    stats.bytes_device_to_host = counts.bytes_device_to_host;
    stats.fetch_wait_ns = counts.fetch_wait_ns;
  }
  if (state.disk != nullptr) {
    stats.disk_bytes = state.disk_budget.used();
    stats.bytes_disk_read = state.disk->bytes_read();
    stats.bytes_disk_written = state.disk->bytes_written();
  }
  stats.recall_estimate = state.recall_count == 0
                              ? std::numeric_limits<double>::quiet_NaN()
                              : state.recall_sum / static_cast<double>(state.recall_count);
  stats.prefill_recall =
      state.prefill_recall_count == 0
          ? std::numeric_limits<double>::quiet_NaN()
          : state.prefill_recall_sum / static_cast<double>(state.prefill_recall_count);
  if (reset) {
    state.stats = {};
    state.recall_sum = 0.0;
    state.recall_count = 0;
    state.prefill_recall_sum = 0.0;
    state.prefill_recall_count = 0;
    state.budget.ResetPeak();
    if (state.cache != nullptr) {
      state.cache->ResetCounts();
    }
    if (state.disk != nullptr) {
      state.disk->ResetCounts();
    }
  }
  return stats;
}

}  // namespace hipattn::engine
