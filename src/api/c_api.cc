// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The functions of hipattn.h. Each checks its arguments, calls the engine under the guard, and
// writes its outputs last.
#include "hipattn/hipattn.h"

#include "api/attend_check.h"
#include "api/c_options.h"
#include "api/guard.h"
#include "api/handles.h"
#include "api/last_error.h"
#include "api/struct_io.h"
#include "base/status.h"
#include "engine/engine.h"
#include "engine/options.h"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <mutex>
#include <utility>

using hipattn::InvalidArgument;
using hipattn::Result;
using hipattn::Status;
using hipattn::api::CheckStructSize;
using hipattn::api::Guard;
using hipattn::api::SharedEngine;

namespace {

constexpr const char* kStatusNames[] = {"HIPATTN_OK",
                                        "HIPATTN_INVALID_ARGUMENT",
                                        "HIPATTN_OUT_OF_BUDGET",
                                        "HIPATTN_OUT_OF_MEMORY",
                                        "HIPATTN_UNSUPPORTED",
                                        "HIPATTN_DEVICE_ERROR",
                                        "HIPATTN_IO_ERROR",
                                        "HIPATTN_CORRUPT",
                                        "HIPATTN_MISMATCH",
                                        "HIPATTN_UNAVAILABLE",
                                        "HIPATTN_DEADLINE",
                                        "HIPATTN_CANCELLED",
                                        "HIPATTN_INTERNAL"};

Status CheckGiven(const char* name, const void* pointer) {
  return pointer == nullptr ? InvalidArgument(name, " is NULL") : Status::Ok();
}

Status CheckBytes(const char* name, const void* data, size_t size) {
  return data == nullptr && size > 0 ? InvalidArgument(name, " is NULL, size is ", size)
                                     : Status::Ok();
}

std::unique_lock<std::mutex> Lock(const hipattn_sequence_t& sequence) {
  return std::unique_lock(sequence.shared->mutex);
}

hipattn_stats_t ToC(const hipattn::engine::Stats& stats) {
  hipattn_stats_t c = HIPATTN_STATS_INIT;
  c.scanned_heads = stats.scanned_heads;
  c.device_bytes = stats.device_bytes;
  c.device_bytes_peak = stats.device_bytes_peak;
  c.device_index_bytes = stats.device_index_bytes;
  c.host_bytes = stats.host_bytes;
  c.disk_bytes = stats.disk_bytes;
  c.blocks_attended = stats.blocks_attended;
  c.blocks_hit = stats.blocks_hit;
  c.blocks_fetched = stats.blocks_fetched;
  c.blocks_prefetched = stats.blocks_prefetched;
  c.blocks_prefetched_used = stats.blocks_prefetched_used;
  c.blocks_evicted = stats.blocks_evicted;
  c.bytes_host_to_device = stats.bytes_host_to_device;
  c.bytes_device_to_host = stats.bytes_device_to_host;
  c.bytes_disk_read = stats.bytes_disk_read;
  c.bytes_disk_written = stats.bytes_disk_written;
  c.search_keys_read = stats.search_keys_read;
  c.search_bytes_read = stats.search_bytes_read;
  c.prefill_tiles = stats.prefill_tiles;
  c.prefill_dense_tiles = stats.prefill_dense_tiles;
  c.search_ns = stats.search_ns;
  c.fetch_wait_ns = stats.fetch_wait_ns;
  c.attend_ns = stats.attend_ns;
  c.recall_estimate = stats.recall_estimate;
  c.prefill_recall = stats.prefill_recall;
  return c;
}

}  // namespace

const char* hipattn_status_name(hipattn_status_t status) noexcept {
  if (status < 0 || status > HIPATTN_INTERNAL) {
    return "HIPATTN_UNKNOWN_STATUS";
  }
  return kStatusNames[status];
}

const char* hipattn_last_error_message() noexcept {
  return hipattn::api::LastError();
}

uint32_t hipattn_version() noexcept {
  return HIPATTN_VERSION;
}

hipattn_status_t hipattn_memory_need(const hipattn_engine_options_t* options,
                                     const hipattn_attention_options_t* attention,
                                     uint64_t num_tokens,
                                     uint32_t num_sequences,
                                     hipattn_memory_need_t* need) noexcept {
  return Guard([&]() -> Status {
    HIPATTN_RETURN_IF_ERROR(CheckStructSize("need", need));
    HIPATTN_ASSIGN_OR_RETURN(const auto given, hipattn::api::ReadEngineOptions(options));
    HIPATTN_ASSIGN_OR_RETURN(const auto engine, hipattn::engine::ResolveEngineOptions(given));
    HIPATTN_ASSIGN_OR_RETURN(const auto given_attention,
                             hipattn::api::ReadAttentionOptions("attention", attention));
    HIPATTN_ASSIGN_OR_RETURN(const auto resolved,
                             hipattn::engine::ResolveAttentionOptions(engine, given_attention));
    HIPATTN_ASSIGN_OR_RETURN(
        const auto bytes,
        hipattn::engine::ComputeMemoryNeed(engine, resolved, num_tokens, num_sequences));
    hipattn_memory_need_t c = HIPATTN_MEMORY_NEED_INIT;
    c.device_bytes_min = bytes.device_bytes_min;
    c.device_bytes_full = bytes.device_bytes_full;
    c.device_index_bytes = bytes.device_index_bytes;
    c.host_bytes = bytes.host_bytes;
    c.disk_bytes = bytes.disk_bytes;
    c.kv_bytes_total = bytes.kv_bytes_total;
    hipattn::api::WriteStruct(c, need);
    return Status::Ok();
  });
}

hipattn_status_t hipattn_engine_create(const hipattn_engine_options_t* options,
                                       hipattn_engine_t** engine) noexcept {
  return Guard([&]() -> Status {
    HIPATTN_RETURN_IF_ERROR(CheckGiven("engine", engine));
    HIPATTN_ASSIGN_OR_RETURN(const auto given, hipattn::api::ReadEngineOptions(options));
    HIPATTN_ASSIGN_OR_RETURN(const auto resolved, hipattn::engine::ResolveEngineOptions(given));
    auto handle = std::make_unique<hipattn_engine_t>();
    handle->shared = std::make_shared<SharedEngine>();
    HIPATTN_ASSIGN_OR_RETURN(handle->shared->engine, hipattn::engine::Engine::Create(resolved));
    *engine = handle.release();
    return Status::Ok();
  });
}

void hipattn_engine_destroy(hipattn_engine_t* engine) noexcept {
  delete engine;
}

hipattn_status_t hipattn_engine_get_options(const hipattn_engine_t* engine,
                                            hipattn_engine_options_t* resolved) noexcept {
  return Guard([&]() -> Status {
    HIPATTN_RETURN_IF_ERROR(CheckGiven("engine", engine));
    HIPATTN_RETURN_IF_ERROR(CheckStructSize("resolved", resolved));
    hipattn::api::WriteEngineOptions(engine->shared->engine->options(), resolved);
    return Status::Ok();
  });
}

void hipattn_engine_cancel(hipattn_engine_t* engine) noexcept {
  if (engine != nullptr) {
    (void)Guard([&]() -> Status {
      engine->shared->engine->Cancel();
      return Status::Ok();
    });
  }
}

hipattn_status_t hipattn_engine_load_patterns(hipattn_engine_t* engine,
                                              const char* json_path) noexcept {
  return Guard([&]() -> Status {
    HIPATTN_RETURN_IF_ERROR(CheckGiven("engine", engine));
    HIPATTN_RETURN_IF_ERROR(CheckGiven("json_path", json_path));
    const std::unique_lock lock(engine->shared->mutex);
    return engine->shared->engine->LoadPatterns(json_path);
  });
}

hipattn_status_t hipattn_engine_load_profile(hipattn_engine_t* engine,
                                             const char* json_path) noexcept {
  return Guard([&]() -> Status {
    HIPATTN_RETURN_IF_ERROR(CheckGiven("engine", engine));
    HIPATTN_RETURN_IF_ERROR(CheckGiven("json_path", json_path));
    const std::unique_lock lock(engine->shared->mutex);
    return engine->shared->engine->LoadProfile(json_path);
  });
}

hipattn_status_t hipattn_sequence_create(hipattn_engine_t* engine,
                                         const hipattn_attention_options_t* options,
                                         hipattn_sequence_t** sequence) noexcept {
  return Guard([&]() -> Status {
    HIPATTN_RETURN_IF_ERROR(CheckGiven("engine", engine));
    HIPATTN_RETURN_IF_ERROR(CheckGiven("sequence", sequence));
    HIPATTN_ASSIGN_OR_RETURN(const auto given,
                             hipattn::api::ReadAttentionOptions("options", options));
    SharedEngine& shared = *engine->shared;
    HIPATTN_ASSIGN_OR_RETURN(
        const auto resolved,
        hipattn::engine::ResolveAttentionOptions(shared.engine->options(), given));
    auto handle = std::make_unique<hipattn_sequence_t>();
    handle->shared = engine->shared;
    const std::unique_lock lock(shared.mutex);
    HIPATTN_ASSIGN_OR_RETURN(handle->sequence,
                             hipattn::engine::Sequence::Create(shared.engine, resolved));
    *sequence = handle.release();
    return Status::Ok();
  });
}

hipattn_status_t hipattn_sequence_set_options(hipattn_sequence_t* sequence,
                                              const hipattn_attention_options_t* options) noexcept {
  return Guard([&]() -> Status {
    HIPATTN_RETURN_IF_ERROR(CheckGiven("sequence", sequence));
    HIPATTN_ASSIGN_OR_RETURN(const auto given,
                             hipattn::api::ReadAttentionOptions("options", options));
    HIPATTN_ASSIGN_OR_RETURN(
        const auto resolved,
        hipattn::engine::ResolveAttentionOptions(sequence->shared->engine->options(), given));
    const auto lock = Lock(*sequence);
    return sequence->sequence->SetOptions(resolved);
  });
}

hipattn_status_t hipattn_sequence_reserve(hipattn_sequence_t* sequence,
                                          uint64_t num_tokens) noexcept {
  return Guard([&]() -> Status {
    HIPATTN_RETURN_IF_ERROR(CheckGiven("sequence", sequence));
    if (num_tokens > hipattn::engine::kMaxTokens) {
      return InvalidArgument(
          "num_tokens is ", num_tokens, ", at most ", hipattn::engine::kMaxTokens);
    }
    const auto lock = Lock(*sequence);
    return sequence->sequence->Reserve(num_tokens);
  });
}

hipattn_status_t hipattn_sequence_fork(const hipattn_sequence_t* parent,
                                       uint64_t num_tokens,
                                       hipattn_sequence_t** child) noexcept {
  return Guard([&]() -> Status {
    HIPATTN_RETURN_IF_ERROR(CheckGiven("parent", parent));
    HIPATTN_RETURN_IF_ERROR(CheckGiven("child", child));
    auto handle = std::make_unique<hipattn_sequence_t>();
    handle->shared = parent->shared;
    const auto lock = Lock(*parent);
    HIPATTN_ASSIGN_OR_RETURN(handle->sequence, parent->sequence->Fork(num_tokens));
    *child = handle.release();
    return Status::Ok();
  });
}

hipattn_status_t hipattn_sequence_truncate(hipattn_sequence_t* sequence,
                                           uint64_t num_tokens) noexcept {
  return Guard([&]() -> Status {
    HIPATTN_RETURN_IF_ERROR(CheckGiven("sequence", sequence));
    const auto lock = Lock(*sequence);
    return sequence->sequence->Truncate(num_tokens);
  });
}

uint64_t hipattn_sequence_length(const hipattn_sequence_t* sequence) noexcept {
  uint64_t length = 0;
  if (sequence != nullptr) {
    (void)Guard([&]() -> Status {
      const auto lock = Lock(*sequence);
      length = sequence->sequence->length();
      return Status::Ok();
    });
  }
  return length;
}

void hipattn_sequence_destroy(hipattn_sequence_t* sequence) noexcept {
  if (sequence == nullptr) {
    return;
  }
  const std::unique_ptr<hipattn_sequence_t> owned(sequence);
  (void)Guard([&]() -> Status {
    const auto lock = Lock(*owned);
    owned->sequence.reset();
    return Status::Ok();
  });
}

hipattn_status_t hipattn_sequence_save(hipattn_sequence_t* sequence,
                                       const char* path,
                                       const void* fingerprint,
                                       size_t size) noexcept {
  return Guard([&]() -> Status {
    HIPATTN_RETURN_IF_ERROR(CheckGiven("sequence", sequence));
    HIPATTN_RETURN_IF_ERROR(CheckGiven("path", path));
    HIPATTN_RETURN_IF_ERROR(CheckBytes("fingerprint", fingerprint, size));
    const auto lock = Lock(*sequence);
    return sequence->sequence->Save(path, {static_cast<const std::byte*>(fingerprint), size});
  });
}

hipattn_status_t hipattn_sequence_load(hipattn_engine_t* engine,
                                       const char* path,
                                       const void* fingerprint,
                                       size_t size,
                                       hipattn_sequence_t** sequence) noexcept {
  return Guard([&]() -> Status {
    HIPATTN_RETURN_IF_ERROR(CheckGiven("engine", engine));
    HIPATTN_RETURN_IF_ERROR(CheckGiven("path", path));
    HIPATTN_RETURN_IF_ERROR(CheckBytes("fingerprint", fingerprint, size));
    HIPATTN_RETURN_IF_ERROR(CheckGiven("sequence", sequence));
    auto handle = std::make_unique<hipattn_sequence_t>();
    handle->shared = engine->shared;
    SharedEngine& shared = *engine->shared;
    const std::unique_lock lock(shared.mutex);
    HIPATTN_ASSIGN_OR_RETURN(
        handle->sequence,
        hipattn::engine::Sequence::Load(
            shared.engine, path, {static_cast<const std::byte*>(fingerprint), size}));
    *sequence = handle.release();
    return Status::Ok();
  });
}

hipattn_status_t hipattn_sequence_save_profile(const hipattn_sequence_t* sequence,
                                               const char* json_path) noexcept {
  return Guard([&]() -> Status {
    HIPATTN_RETURN_IF_ERROR(CheckGiven("sequence", sequence));
    HIPATTN_RETURN_IF_ERROR(CheckGiven("json_path", json_path));
    const auto lock = Lock(*sequence);
    return sequence->sequence->SaveProfile(json_path);
  });
}

hipattn_status_t hipattn_attend(hipattn_engine_t* engine,
                                const hipattn_attend_args_t* args) noexcept {
  return Guard([&]() -> Status {
    HIPATTN_RETURN_IF_ERROR(CheckGiven("engine", engine));
    std::vector<hipattn::engine::Sequence*> sequences;
    hipattn::engine::AttendArgs checked;
    HIPATTN_RETURN_IF_ERROR(hipattn::api::CheckAttend(*engine, args, &sequences, &checked));
    const std::unique_lock lock(engine->shared->mutex);
    return engine->shared->engine->Attend(checked);
  });
}

hipattn_status_t hipattn_engine_synchronize(hipattn_engine_t* engine) noexcept {
  return Guard([&]() -> Status {
    HIPATTN_RETURN_IF_ERROR(CheckGiven("engine", engine));
    const std::unique_lock lock(engine->shared->mutex);
    return engine->shared->engine->Synchronize();
  });
}

hipattn_status_t hipattn_sequence_selection(const hipattn_sequence_t* sequence,
                                            uint32_t layer,
                                            uint32_t kv_head,
                                            int32_t* blocks,
                                            uint32_t capacity,
                                            uint32_t* count) noexcept {
  return Guard([&]() -> Status {
    HIPATTN_RETURN_IF_ERROR(CheckGiven("sequence", sequence));
    HIPATTN_RETURN_IF_ERROR(CheckGiven("count", count));
    if (blocks == nullptr && capacity > 0) {
      return InvalidArgument("blocks is NULL, capacity is ", capacity);
    }
    const auto lock = Lock(*sequence);
    HIPATTN_ASSIGN_OR_RETURN(const auto selection, sequence->sequence->Selection(layer, kv_head));
    std::copy_n(selection.begin(), std::min<size_t>(selection.size(), capacity), blocks);
    *count = static_cast<uint32_t>(selection.size());
    return Status::Ok();
  });
}

hipattn_status_t hipattn_sequence_recall(const hipattn_sequence_t* sequence,
                                         uint32_t layer,
                                         uint32_t q_head,
                                         hipattn_recall_t* recall) noexcept {
  return Guard([&]() -> Status {
    HIPATTN_RETURN_IF_ERROR(CheckGiven("sequence", sequence));
    HIPATTN_RETURN_IF_ERROR(CheckStructSize("recall", recall));
    const auto lock = Lock(*sequence);
    HIPATTN_ASSIGN_OR_RETURN(const auto value, sequence->sequence->GetRecall(layer, q_head));
    hipattn_recall_t c = HIPATTN_RECALL_INIT;
    c.mode = value.mode;
    c.estimate = value.estimate;
    c.truth = value.truth;
    c.audited_loss = value.audited_loss;
    hipattn::api::WriteStruct(c, recall);
    return Status::Ok();
  });
}

hipattn_status_t hipattn_engine_stats(hipattn_engine_t* engine,
                                      hipattn_stats_t* stats,
                                      int32_t reset) noexcept {
  return Guard([&]() -> Status {
    HIPATTN_RETURN_IF_ERROR(CheckGiven("engine", engine));
    HIPATTN_RETURN_IF_ERROR(CheckStructSize("stats", stats));
    hipattn::api::WriteStruct(ToC(engine->shared->engine->GetStats(reset != 0)), stats);
    return Status::Ok();
  });
}

// NOLINTNEXTLINE(readability-function-size): a stateless call has its arrays as parameters.
hipattn_status_t hipattn_merge_states(hipattn_engine_t* engine,
                                      uint64_t num_rows,
                                      uint32_t head_dim,
                                      const float* o_a,
                                      const float* lse_a,
                                      const float* o_b,
                                      const float* lse_b,
                                      float* o,
                                      float* lse,
                                      void* stream) noexcept {
  return Guard([&]() -> Status {
    HIPATTN_RETURN_IF_ERROR(CheckGiven("engine", engine));
    const hipattn::engine::MergeArgs args = {
        num_rows, head_dim, o_a, lse_a, o_b, lse_b, o, lse, stream};
    HIPATTN_RETURN_IF_ERROR(hipattn::api::CheckMerge(args));
    const std::unique_lock lock(engine->shared->mutex);
    return engine->shared->engine->MergeStates(args);
  });
}
