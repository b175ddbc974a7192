// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Options of engines and sequences as the engine works with them, and the only place where they are
// checked, where defaults are put in and where AUTO is replaced. A Resolve function takes what a
// caller gave (0 = default) and returns options in which every field holds its final value, or the
// error that names the field and the value.
#ifndef HIPATTN_ENGINE_OPTIONS_H_
#define HIPATTN_ENGINE_OPTIONS_H_

#include "base/dtype.h"
#include "base/log.h"
#include "base/result.h"
#include "base/tree.h"

#include <cstdint>
#include <string>
#include <vector>

namespace hipattn::engine {

// The numbers of all enumerators are those of hipattn.h.
enum class DeviceKind : uint32_t { kAuto = 0, kCpu = 1, kCuda = 2 };
enum class DecodeMode : uint32_t { kAuto = 0, kDense = 1, kSparse = 2 };
enum class Search : uint32_t { kTree = 1, kStaged = 2, kFlat = 3, kBeam = 4 };
enum class PrefillMode : uint32_t {
  kAuto = 0,
  kDense = 1,
  kAShape = 2,
  kVerticalSlash = 3,
  kBlockSparse = 4,
  kHip = 5,
  kPatterns = 6,
  kFlex = 7,
  kXAttention = 8,
  kFlashV2 = 9
};

struct EngineOptions {
  DeviceKind device = DeviceKind::kAuto;
  int32_t device_index = 0;
  uint32_t num_threads = 0;
  uint32_t num_layers = 0, num_q_heads = 0, num_kv_heads = 0, head_dim = 0;
  uint32_t block_tokens = 0;
  uint32_t io_dtype = 0, kv_dtype = 0;  // HIPATTN_F32, ... as given; after Resolve values of DType
  float softmax_scale = 0.0F;
  float logit_softcap = 0.0F;
  uint32_t rope_mode = 0;
  float rope_theta = 0.0F;
  uint32_t rope_dim = 0;
  uint32_t trained_tokens = 0;
  std::vector<float> rope_inv_freq;  // given by the caller; empty = from rope_theta
  uint64_t device_kv_bytes = 0, host_kv_bytes = 0, disk_kv_bytes = 0;
  std::string disk_path, pool_endpoints;
  std::string trace_path;  // empty = no trace
  LogSink log;
  uint32_t first_q_head = 0, model_q_heads = 0;

  DType io() const { return static_cast<DType>(io_dtype); }
  DType kv() const { return static_cast<DType>(kv_dtype); }
  uint32_t group() const { return num_q_heads / num_kv_heads; }
  // Whether blocks have a home behind the device.
  bool has_tiers() const { return host_kv_bytes != 0 || disk_kv_bytes != 0; }
  // Whether the host tier holds the lower part of the index.
  bool indexes_on_host() const { return host_kv_bytes != 0; }
};

// HIPATTN_NONE: "really none" in sink_tokens, rerank_tokens and audit_interval. After Resolve
// sink_tokens is the number, 0 included.
inline constexpr uint32_t kNone = UINT32_MAX;

// Fields as in hipattn.h; 0 = default before Resolve. What this build cannot serve is refused by
// Resolve when it is not 0.
struct AttentionOptions {
  uint32_t decode_mode = 0, search = 0, scorer = 0, prefill_mode = 0;
  uint32_t budget_tokens = 0, sink_tokens = 0, window_tokens = 0, refresh_interval = 0;
  float min_recall = 0.0F;
  uint32_t dense_up_to_tokens = 0, rerank_tokens = 0, audit_interval = 0, max_scanned_heads = 0,
           verify_recall = 0;
  uint32_t prefill_sizes[2] = {0, 0};
  uint32_t prefill_last_q = 0, prefill_delta_interval = 0;
  float prefill_threshold = 0.0F, prefill_skip_threshold = 0.0F;
  bool operator==(const AttentionOptions&) const = default;

  DecodeMode decode() const { return static_cast<DecodeMode>(decode_mode); }
  Search search_kind() const { return static_cast<Search>(search); }
  Scorer scorer_kind() const { return static_cast<Scorer>(scorer); }
  PrefillMode prefill() const { return static_cast<PrefillMode>(prefill_mode); }

  // Tree and flat search score summaries; every other search, and the exact scorer, reads keys.
  bool searches_tree() const {
    return search_kind() == Search::kTree || search_kind() == Search::kFlat;
  }
  // Whether a sequence with these options keeps a block tree.
  bool keeps_summaries() const {
    const bool searches = decode() != DecodeMode::kDense || prefill() == PrefillMode::kHip;
    return searches && searches_tree() && scorer_kind() != Scorer::kExact;
  }
  // Whether it keeps key sketches, which choose among what the tree kept.
  bool keeps_sketches() const { return keeps_summaries() && rerank_tokens != kNone; }
};

// Tokens of a text, and of every option that counts tokens: positions and leaf numbers are int32 in
// places.
inline constexpr uint64_t kMaxTokens = INT32_MAX;

// Largest head_dim of any device.
inline constexpr uint32_t kMaxHeadDim = 256;

// Rows of a HIP prefill's query block.
inline constexpr uint32_t kPrefillBlockRows = 64;

Result<EngineOptions> ResolveEngineOptions(const EngineOptions& given);

// `engine` is resolved.
Result<AttentionOptions> ResolveAttentionOptions(const EngineOptions& engine,
                                                 const AttentionOptions& given);

// Bytes as in hipattn_memory_need_t.
struct MemoryNeed {
  uint64_t device_bytes_min = 0, device_bytes_full = 0, device_index_bytes = 0;
  uint64_t host_bytes = 0, disk_bytes = 0, kv_bytes_total = 0;
};

// What of host_kv_bytes blocks may take: beside a disk a part is kept for the index of the blocks
// that lie there. Resolved options.
uint64_t HomeBytes(const EngineOptions& engine);

// Both resolved. kInvalidArgument when the bytes do not fit 64 bits.
Result<MemoryNeed> ComputeMemoryNeed(const EngineOptions& engine,
                                     const AttentionOptions& attention,
                                     uint64_t num_tokens,
                                     uint32_t num_sequences);

}  // namespace hipattn::engine

#endif  // HIPATTN_ENGINE_OPTIONS_H_
