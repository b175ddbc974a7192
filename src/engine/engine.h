// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Engine and Sequence: where policy (core) meets memory (offload) and compute (device). The C API
// is a thin shell over this header.
//
// An Engine belongs to one model geometry and one device; it lives until its last Sequence goes. A
// Sequence is one running text: per layer and kv head a table of blocks and a block tree. Attend
// appends the new tokens' keys and values and attends the new queries.
//
// Threads: Attend, and every call on a Sequence, is one at a time per engine unless the call says
// otherwise.
#ifndef HIPATTN_ENGINE_ENGINE_H_
#define HIPATTN_ENGINE_ENGINE_H_

#include "base/result.h"
#include "base/status.h"
#include "core/pattern/pattern_table.h"
#include "engine/options.h"

#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hipattn::device {
class Device;
}  // namespace hipattn::device

namespace hipattn::engine {

class Sequence;
struct EngineState;
struct SequenceState;

enum class Phase : uint32_t { kByLength = 0, kDecode = 1, kPrefill = 2 };

// Shapes, alignment and meaning as in hipattn_attend_args_t.
struct AttendArgs {
  uint32_t layer = 0;
  std::span<Sequence* const> sequences;
  std::span<const uint32_t> num_new_tokens;
  const void* q = nullptr;
  const void* k = nullptr;
  const void* v = nullptr;
  void* out = nullptr;
  float* lse = nullptr;
  void* stream = nullptr;
  const int32_t* external_blocks = nullptr;
  uint32_t num_external = 0;
  Phase phase = Phase::kByLength;
};

struct Recall {
  uint32_t mode = 0;  // 0 = dense, 1 = tree (any search), 2 = scanned sketches
  // NaN = not known.
  float estimate = std::numeric_limits<float>::quiet_NaN();
  float truth = std::numeric_limits<float>::quiet_NaN();
  float audited_loss = std::numeric_limits<float>::quiet_NaN();
};

struct Stats {  // fields as in hipattn_stats_t
  uint32_t scanned_heads = 0;
  uint64_t device_bytes = 0, device_bytes_peak = 0, device_index_bytes = 0, host_bytes = 0,
           disk_bytes = 0;
  uint64_t blocks_attended = 0, blocks_hit = 0, blocks_fetched = 0, blocks_prefetched = 0,
           blocks_prefetched_used = 0, blocks_evicted = 0;
  uint64_t bytes_host_to_device = 0, bytes_device_to_host = 0, bytes_disk_read = 0,
           bytes_disk_written = 0;
  uint64_t search_keys_read = 0, search_bytes_read = 0;
  uint64_t prefill_tiles = 0, prefill_dense_tiles = 0;
  uint64_t search_ns = 0, fetch_wait_ns = 0, attend_ns = 0;
  double recall_estimate = 0.0;  // NaN = no step
  double prefill_recall = 0.0;   // NaN = none was verified
};

struct MergeArgs {  // as in hipattn_merge_states
  uint64_t num_rows = 0;
  uint32_t head_dim = 0;
  const float* o_a = nullptr;
  const float* lse_a = nullptr;
  const float* o_b = nullptr;
  const float* lse_b = nullptr;
  float* o = nullptr;
  float* lse = nullptr;
  void* stream = nullptr;
};

class Engine : public std::enable_shared_from_this<Engine> {
 public:
  // `options` is resolved (ResolveEngineOptions); device, threads and budgets come back as chosen
  // in options(). instruction_set as in CpuDeviceOptions, for tests.
  static Result<std::shared_ptr<Engine>> Create(const EngineOptions& options,
                                                std::string_view instruction_set = {});
  // On a device that is there already: an emulated, watched or faulty one of the tests.
  static Result<std::shared_ptr<Engine>> CreateOn(std::unique_ptr<device::Device> device,
                                                  const EngineOptions& options);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const EngineOptions& options() const;

  // Checks everything about args that needs the sequences' state (aliasing, distinctness, engine,
  // layer, external blocks, room) before it changes anything; pointers themselves are the caller's
  // business. kCancelled after Cancel.
  Status Attend(const AttendArgs& args);
  Status MergeStates(const MergeArgs& args);
  // Sequences created afterwards start from the file's losses and modes; errors of ReadProfile.
  Status LoadProfile(const std::string& json_path);
  // The file's patterns take the place of those before; errors of ReadPatterns, nothing changed.
  Status LoadPatterns(const std::string& json_path);
  const core::PatternTable& patterns() const;  // no layers when none were loaded
  void Cancel();                               // thread-safe
  Status Synchronize();
  Stats GetStats(bool reset);  // thread-safe

 private:
  friend class Sequence;
  explicit Engine(std::unique_ptr<EngineState> state);
  std::unique_ptr<EngineState> state_;
};

class Sequence {
 public:
  // `options` is resolved against the engine's.
  static Result<std::unique_ptr<Sequence>> Create(std::shared_ptr<Engine> engine,
                                                  const AttentionOptions& options);
  ~Sequence();
  Sequence(const Sequence&) = delete;
  Sequence& operator=(const Sequence&) = delete;

  Engine& engine() const;
  const AttentionOptions& options() const;

  Status SetOptions(const AttentionOptions& options);
  Status Reserve(uint64_t num_tokens);
  Result<std::unique_ptr<Sequence>> Fork(uint64_t num_tokens) const;
  Status Truncate(uint64_t num_tokens);
  uint64_t length() const;  // tokens that every layer has

  // Ascending block numbers; empty before the first decode step of the layer. Errors: layer,
  // kv_head out of range.
  Result<std::vector<int32_t>> Selection(uint32_t layer, uint32_t kv_head) const;
  Result<Recall> GetRecall(uint32_t layer, uint32_t q_head) const;

  // The sequence as a snapshot file, and a sequence from one; errors of SaveSnapshot and
  // LoadSnapshot.
  Status Save(const std::string& path, std::span<const std::byte> fingerprint);
  static Result<std::unique_ptr<Sequence>> Load(std::shared_ptr<Engine> engine,
                                                const std::string& path,
                                                std::span<const std::byte> fingerprint);

  // For Engine::LoadProfile; errors of WriteProfile.
  Status SaveProfile(const std::string& json_path) const;

 private:
  friend class Engine;
  friend SequenceState* SequenceStateOf(const Sequence& sequence);
  Sequence(std::shared_ptr<Engine> engine, const AttentionOptions& options);
  std::shared_ptr<Engine> engine_;  // outlives state_
  std::unique_ptr<SequenceState> state_;
};

}  // namespace hipattn::engine

#endif  // HIPATTN_ENGINE_ENGINE_H_
