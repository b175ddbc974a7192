// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// One hipattn_attend while it runs: its sequences' parts, and what the files of src/engine that
// serve it share.
#ifndef HIPATTN_ENGINE_CALL_H_
#define HIPATTN_ENGINE_CALL_H_

#include "core/mask/prefill_shape.h"
#include "device/parallel_tasks.h"
#include "engine/op_names.h"
#include "engine/state.h"

#include <chrono>
#include <cstdint>
#include <new>
#include <type_traits>
#include <vector>

namespace hipattn::engine {

// One sequence's rows of a call.
struct Part {
  SequenceState* sequence = nullptr;
  LayerState* layer = nullptr;
  AttentionOptions options;  // the sequence's; a prefill mode AUTO is what it chose for this chunk
  uint32_t index = 0;        // of the sequence in the call
  uint64_t first_pos = 0;    // position of the first new token
  uint32_t num_rows = 0;
  uint64_t first_row = 0;     // row of the call's q, k, v and out
  bool decode = false;        // every row is a decode step
  uint64_t index_blocks = 0;  // of trees and sketches, after the call
};

// Of a prefill part.
inline core::PrefillShape ShapeOf(const Part& part) {
  return {part.num_rows, static_cast<uint32_t>(part.first_pos) + part.num_rows};
}

// What a call adds to the engine's stats when it succeeds.
struct CallStats {
  uint64_t blocks_attended = 0;
  uint64_t search_keys_read = 0;
  uint64_t search_bytes_read = 0;
  uint64_t search_ns = 0;
  uint64_t attend_ns = 0;
  uint64_t prefill_tiles = 0, prefill_dense_tiles = 0;
  double recall_sum = 0.0;
  uint64_t recall_count = 0;
  double prefill_recall_sum = 0.0;
  uint64_t prefill_recall_count = 0;
};

// Whether a decode step at `pos` attends every key, unless the caller names the blocks.
inline bool DecodesDense(const AttentionOptions& options, uint64_t pos) {
  return options.decode() == DecodeMode::kDense ||
         (options.decode() == DecodeMode::kAuto && pos + 1 <= options.dense_up_to_tokens);
}

struct Call {
  EngineState& engine;
  const AttendArgs& args;
  std::vector<Part> parts;
  uint64_t num_rows = 0;
  const float* q = nullptr;       // [num_rows, num_q_heads, head_dim]
  const float* host_q = nullptr;  // some rows of it on the host (BringQueries), or nullptr
  uint64_t host_first_row = 0;    // of those
  CallStats stats = {};
  bool touched = false;  // memory beyond the lengths has been written

  const EngineOptions& options() const { return engine.options; }
  uint64_t q_row_stride() const { return uint64_t{options().num_q_heads} * options().head_dim; }
  const float* Q(uint64_t row, uint32_t kv_head) const {
    return q + row * q_row_stride() + uint64_t{kv_head} * options().group() * options().head_dim;
  }
  const float* HostQ(uint64_t row, uint32_t kv_head) const {
    return host_q == nullptr ? nullptr
                             : host_q + (row - host_first_row) * q_row_stride() +
                                   uint64_t{kv_head} * options().group() * options().head_dim;
  }
  std::byte* Out(uint64_t row, uint32_t kv_head) const {
    const uint64_t element =
        row * q_row_stride() + uint64_t{kv_head} * options().group() * options().head_dim;
    return static_cast<std::byte*>(args.out) + element * DTypeBytes(options().io());
  }
  // NULL when the caller wants none.
  float* Lse(uint64_t row, uint32_t kv_head) const {
    return args.lse == nullptr
               ? nullptr
               : args.lse + row * options().num_q_heads + uint64_t{kv_head} * options().group();
  }
  Status CheckCancelled() const {
    return engine.cancelled.load(std::memory_order_acquire)
               ? Status(StatusCode::kCancelled, "the engine was cancelled")
               : Status::Ok();
  }
};

// Adds the time from its construction to its end to *total_ns.
class Timer {
 public:
  explicit Timer(uint64_t* total_ns) : total_ns_(total_ns), start_(Clock::now()) {}
  ~Timer() {
    *total_ns_ += static_cast<uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start_).count());
  }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  uint64_t* const total_ns_;
  const Clock::time_point start_;
};

// device::ParallelTasks on the engine's executor.
template <typename Body>
Status ParallelTasks(EngineState& engine, size_t count, const Body& body) {
  return device::ParallelTasks(engine.device->executor(), count, body);
}

// The same for searches and estimates. Where they read keys that may lie in another tier, they take
// turns with the room on the device.
template <typename Body>
Status SearchTasks(EngineState& engine, bool reads_keys, size_t count, const Body& body) {
  if (engine.cache == nullptr || !reads_keys) {
    return ParallelTasks(engine, count, body);
  }
  for (size_t i = 0; i < count; ++i) {
    HIPATTN_RETURN_IF_ERROR(body(i));
  }
  return Status::Ok();
}

// Submits an op and waits for it: what the host reads next, the op has written.
template <typename Params>
Status LaunchAndSync(EngineState& engine, device::Op<Params> op, const Params& params) {
  const offload::TraceSpan span(engine.trace.get(), OpName<Params>());
  HIPATTN_ASSIGN_OR_RETURN(const device::Ticket ticket, engine.device->Launch(0, op, params));
  return engine.device->Sync(ticket);
}

// The same for a single job.
template <typename Params, typename Job>
Status LaunchOneAndSync(EngineState& engine,
                        device::Op<Params> op,
                        const Job& job,
                        const Params& params) {
  static_assert(std::is_trivially_copyable_v<Job> && sizeof(Job) <= JobSlots::kSlotBytes);
  HIPATTN_ASSIGN_OR_RETURN(std::byte* const slot, engine.job_slots.Take(*engine.device));
  Params one = params;
  one.jobs = new (slot) Job(job);
  one.num_jobs = 1;
  Status status = LaunchAndSync(engine, op, one);
  engine.job_slots.Give(slot);
  return status;
}

// Copies a few pieces, in order with the ops.
Status CopyPieces(EngineState& engine, std::span<const device::CopyPiece> pieces);

}  // namespace hipattn::engine

#endif  // HIPATTN_ENGINE_CALL_H_
