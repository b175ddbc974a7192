// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "engine/options.h"

#include "base/int_math.h"
#include "base/status.h"
#include "device/params.h"
#include "engine/prefill_options.h"

#include <algorithm>
#include <cmath>

namespace hipattn::engine {
namespace {

static_assert(kMaxHeadDim == device::kMaxHeadDim);

constexpr uint32_t kMaxThreads = 1024;
constexpr uint32_t kMaxLayers = 65536;
constexpr uint32_t kMaxHeads = 4096;
// Heads of all layers: a sequence has a tree and a block table for each, some
// kilobytes before its first token.
constexpr uint64_t kMaxLayerHeads = uint64_t{1} << 17;

constexpr uint32_t kDefaultBlockTokens = 16;
constexpr uint32_t kDefaultBudgetTokens = 2048;
// With sketches, which find as much in a quarter of it (docs/search.md).
constexpr uint32_t kDefaultSketchedBudgetTokens = 512;
constexpr uint32_t kDefaultRerankTokens = 2048;
// At most one of so many heads is scanned: real models lose mass in one of 18 (docs/search.md).
constexpr uint32_t kHeadsPerScanned = 10;
constexpr uint32_t kDefaultSinkTokens = 128;
constexpr uint32_t kDefaultWindowTokens = 1024;

// Up to here AUTO is dense: sinks, window and budget of the defaults cover 3200 tokens, and below a
// text of about this length search, scattered reads and bookkeeping cost what they save.
constexpr uint32_t kDefaultDenseUpToTokens = 4096;

// SPEC section 7, preset 3K: leaf of the last stage and steps between full runs of the first.
constexpr uint32_t kStagedLeafTokens = 8;
constexpr uint32_t kStagedFirstChunkTokens = 256;
constexpr uint32_t kStagedInterval = 16;
// HiP as published: leaves of 2 tokens.
constexpr uint32_t kBeamLeafTokens = 2;

constexpr uint32_t kRopeModes = 3;
constexpr uint32_t kLastDType = 6;  // INT4

Status CheckFinite(const char* name, float value) {
  if (!std::isfinite(value) || value < 0.0F) {
    return InvalidArgument(name, " is ", value, ", must be finite and not negative");
  }
  return Status::Ok();
}

Status CheckAtMost(const char* name, uint64_t value, uint64_t limit) {
  if (value > limit) {
    return InvalidArgument(name, " is ", value, ", at most ", limit, " is known or possible");
  }
  return Status::Ok();
}

Status CheckDevice(const EngineOptions& given) {
  const auto device = static_cast<uint32_t>(given.device);
  HIPATTN_RETURN_IF_ERROR(CheckAtMost("device", device, static_cast<uint32_t>(DeviceKind::kCuda)));
  if (given.device == DeviceKind::kCuda) {
    return Unsupported("device is 2 (HIPATTN_DEVICE_CUDA): not in this release");
  }
  if (given.device_index != 0) {
    return InvalidArgument(
        "device_index is ", given.device_index, ", the CPU device has number 0 only");
  }
  return CheckAtMost("num_threads", given.num_threads, kMaxThreads);
}

Status CheckGeometry(const EngineOptions& given) {
  const struct {
    const char* name;
    uint32_t value, limit;
  } counts[] = {{"num_layers", given.num_layers, kMaxLayers},
                {"num_q_heads", given.num_q_heads, kMaxHeads},
                {"num_kv_heads", given.num_kv_heads, kMaxHeads},
                {"head_dim", given.head_dim, UINT32_MAX}};
  for (const auto& count : counts) {
    if (count.value == 0) {
      return InvalidArgument(count.name, " is 0, is required");
    }
    HIPATTN_RETURN_IF_ERROR(CheckAtMost(count.name, count.value, count.limit));
  }
  if (given.num_q_heads % given.num_kv_heads != 0) {
    return InvalidArgument("num_q_heads is ",
                           given.num_q_heads,
                           ", must be a multiple of num_kv_heads, which is ",
                           given.num_kv_heads);
  }
  if (uint64_t{given.num_layers} * given.num_kv_heads > kMaxLayerHeads) {
    return InvalidArgument("num_layers ",
                           given.num_layers,
                           " times num_kv_heads ",
                           given.num_kv_heads,
                           " is more than ",
                           kMaxLayerHeads);
  }
  if (given.head_dim % 8 != 0 || given.head_dim > kMaxHeadDim) {
    return Unsupported(
        "head_dim is ", given.head_dim, ", this build has multiples of 8 up to ", kMaxHeadDim);
  }
  return Status::Ok();
}

// Which of the model's q heads the engine holds.
Status ResolveShare(EngineOptions& options) {
  if (options.model_q_heads == 0) {
    options.model_q_heads = options.num_q_heads;
  }
  HIPATTN_RETURN_IF_ERROR(CheckAtMost("model_q_heads", options.model_q_heads, kMaxHeads));
  if (uint64_t{options.first_q_head} + options.num_q_heads > options.model_q_heads) {
    return InvalidArgument("first_q_head is ",
                           options.first_q_head,
                           ": with num_q_heads ",
                           options.num_q_heads,
                           " it passes model_q_heads, which is ",
                           options.model_q_heads);
  }
  return Status::Ok();
}

Status ResolveStorage(EngineOptions& options) {
  if (options.block_tokens == 0) {
    options.block_tokens = kDefaultBlockTokens;
  }
  if (options.block_tokens != 16 && options.block_tokens != 32 && options.block_tokens != 64) {
    return InvalidArgument("block_tokens is ", options.block_tokens, ", must be 16, 32 or 64");
  }
  const auto last_io = static_cast<uint32_t>(DType::kBf16);
  HIPATTN_RETURN_IF_ERROR(CheckAtMost("io_dtype", options.io_dtype, kLastDType));
  HIPATTN_RETURN_IF_ERROR(CheckAtMost("kv_dtype", options.kv_dtype, kLastDType));
  if (options.io_dtype > last_io) {
    return InvalidArgument("io_dtype is ", options.io_dtype, ", which is for KV storage only");
  }
  if (options.kv_dtype > last_io) {
    return Unsupported(
        "kv_dtype is ", options.kv_dtype, ": not in this release, F32, F16 and BF16 are");
  }
  if (options.io_dtype == 0) {
    options.io_dtype = static_cast<uint32_t>(DType::kF32);
  }
  if (options.kv_dtype == 0) {
    options.kv_dtype =
        options.io() == DType::kF32 ? static_cast<uint32_t>(DType::kBf16) : options.io_dtype;
  }
  return Status::Ok();
}

Status ResolveRope(EngineOptions& options) {
  if (options.rope_mode >= kRopeModes) {
    return InvalidArgument("rope_mode is ", options.rope_mode, ", must be 0, 1 or 2");
  }
  HIPATTN_RETURN_IF_ERROR(CheckFinite("rope_theta", options.rope_theta));
  if (options.rope_dim % 2 != 0 || options.rope_dim > options.head_dim) {
    return InvalidArgument("rope_dim is ",
                           options.rope_dim,
                           ", must be even and at most head_dim, which is ",
                           options.head_dim);
  }
  HIPATTN_RETURN_IF_ERROR(CheckAtMost("trained_tokens", options.trained_tokens, kMaxTokens));
  if (options.rope_mode == 0) {
    options.trained_tokens = 0;
    options.rope_inv_freq.clear();
    return Status::Ok();
  }
  if (options.rope_dim == 0) {
    options.rope_dim = options.head_dim;
  }
  if (options.rope_inv_freq.empty()) {
    if (options.rope_theta <= 0.0F) {
      return InvalidArgument(
          "rope_theta is 0, rope_mode ", options.rope_mode, " needs it or rope_inv_freq");
    }
    return Status::Ok();
  }
  for (size_t i = 0; i < options.rope_inv_freq.size(); ++i) {
    if (!std::isfinite(options.rope_inv_freq[i])) {
      return InvalidArgument(
          "rope_inv_freq[", i, "] is ", options.rope_inv_freq[i], ", must be finite");
    }
  }
  return Status::Ok();
}

Status CheckTiers(const EngineOptions& given) {
  if (given.disk_path.empty() != (given.disk_kv_bytes == 0)) {
    return InvalidArgument("disk_kv_bytes is ",
                           given.disk_kv_bytes,
                           " and disk_path \"",
                           given.disk_path,
                           "\": a disk tier needs both");
  }
  if (!given.pool_endpoints.empty()) {
    return Unsupported("pool_endpoints is \"",
                       given.pool_endpoints,
                       "\": attention workers are not in this release");
  }
  return Status::Ok();
}

Status CheckEnums(const AttentionOptions& given) {
  HIPATTN_RETURN_IF_ERROR(
      CheckAtMost("decode_mode", given.decode_mode, static_cast<uint32_t>(DecodeMode::kSparse)));
  HIPATTN_RETURN_IF_ERROR(
      CheckAtMost("search", given.search, static_cast<uint32_t>(Search::kBeam)));
  HIPATTN_RETURN_IF_ERROR(
      CheckAtMost("scorer", given.scorer, static_cast<uint32_t>(Scorer::kLast)));
  HIPATTN_RETURN_IF_ERROR(CheckAtMost(
      "prefill_mode", given.prefill_mode, static_cast<uint32_t>(PrefillMode::kFlashV2)));
  HIPATTN_RETURN_IF_ERROR(CheckAtMost("verify_recall", given.verify_recall, 1));
  return Status::Ok();
}

bool IsBlockSearch(Search search) {
  return search == Search::kTree || search == Search::kFlat;
}

Status ResolveSearch(AttentionOptions& options) {
  if (options.search == 0) {
    options.search = static_cast<uint32_t>(Search::kTree);
  }
  const Search search = options.search_kind();
  if (options.scorer == 0) {
    options.scorer = static_cast<uint32_t>(IsBlockSearch(search) ? Scorer::kCuboidMean
                                                                 : Scorer::kRepresentative);
  }
  const Scorer scorer = options.scorer_kind();
  const bool is_probe =
      scorer == Scorer::kRepresentative || scorer == Scorer::kFirst || scorer == Scorer::kLast;
  if (search == Search::kBeam && !is_probe) {
    return Unsupported(
        "scorer is ", options.scorer, ": search BEAM has REPRESENTATIVE, FIRST and LAST");
  }
  if (search == Search::kStaged && scorer != Scorer::kRepresentative) {
    return Unsupported("scorer is ", options.scorer, ": search STAGED has REPRESENTATIVE only");
  }
  if (search == Search::kStaged && options.refresh_interval != 0 &&
      options.refresh_interval != kStagedInterval) {
    return InvalidArgument("refresh_interval is ",
                           options.refresh_interval,
                           ", search STAGED has its preset only, which is 0");
  }
  if (options.refresh_interval == 0) {
    options.refresh_interval = search == Search::kStaged ? kStagedInterval : 1;
  }
  HIPATTN_RETURN_IF_ERROR(CheckAtMost("refresh_interval", options.refresh_interval, kMaxTokens));
  if (!(options.min_recall >= 0.0F && options.min_recall <= 1.0F)) {
    return InvalidArgument("min_recall is ", options.min_recall, ", must be from 0 to 1");
  }
  if (options.min_recall > 0.0F && (!IsBlockSearch(search) || scorer != Scorer::kCuboidMean)) {
    return Unsupported("min_recall is ",
                       options.min_recall,
                       ": only scorer CUBOID_MEAN with search TREE or FLAT estimates the recall");
  }
  return Status::Ok();
}

// Where there are no sketches, rerank_tokens becomes kNone; the default budget follows from it.
Status ResolveSketches(AttentionOptions& options) {
  const Search search = options.search_kind();
  if (!IsBlockSearch(search) || options.scorer_kind() == Scorer::kExact) {
    if (options.rerank_tokens != 0 && options.rerank_tokens != kNone) {
      return Unsupported("rerank_tokens is ",
                         options.rerank_tokens,
                         ": search TREE and FLAT have sketches, with any scorer but EXACT");
    }
    options.rerank_tokens = kNone;
  }
  if (options.budget_tokens == 0) {
    options.budget_tokens =
        options.rerank_tokens == kNone ? kDefaultBudgetTokens : kDefaultSketchedBudgetTokens;
  }
  return Status::Ok();
}

// After budget_tokens.
Status ResolveRerank(const EngineOptions& engine, AttentionOptions& options) {
  if (options.rerank_tokens == kNone) {
    return Status::Ok();
  }
  if (options.rerank_tokens == 0) {
    options.rerank_tokens = std::max(kDefaultRerankTokens, options.budget_tokens);
  }
  HIPATTN_RETURN_IF_ERROR(CheckAtMost("rerank_tokens", options.rerank_tokens, kMaxTokens));
  if (options.rerank_tokens < options.budget_tokens) {
    return InvalidArgument("rerank_tokens is ",
                           options.rerank_tokens,
                           ", must be at least budget_tokens, which is ",
                           options.budget_tokens);
  }
  if (options.rerank_tokens % engine.block_tokens != 0) {
    return InvalidArgument("rerank_tokens is ",
                           options.rerank_tokens,
                           ", must be a multiple of ",
                           engine.block_tokens);
  }
  return Status::Ok();
}

// After rerank_tokens. An interval of 0 stays: it follows the length.
Status ResolveAudit(const EngineOptions& engine, AttentionOptions& options) {
  const uint32_t heads = engine.num_layers * engine.num_kv_heads;
  if (options.rerank_tokens == kNone) {
    constexpr const char* kWhy = ": audits compare the tree with sketches, and there are none";
    if (options.audit_interval != 0 && options.audit_interval != kNone) {
      return Unsupported("audit_interval is ", options.audit_interval, kWhy);
    }
    if (options.max_scanned_heads != 0) {
      return Unsupported("max_scanned_heads is ", options.max_scanned_heads, kWhy);
    }
    options.audit_interval = kNone;
    return Status::Ok();
  }
  if (options.audit_interval != kNone) {
    HIPATTN_RETURN_IF_ERROR(CheckAtMost("audit_interval", options.audit_interval, kMaxTokens));
  }
  HIPATTN_RETURN_IF_ERROR(CheckAtMost("max_scanned_heads", options.max_scanned_heads, heads));
  if (options.max_scanned_heads == 0) {
    options.max_scanned_heads = CeilDiv(heads, kHeadsPerScanned);
  }
  return Status::Ok();
}

Status ResolveTokenCounts(const EngineOptions& engine, AttentionOptions& options) {
  if (options.sink_tokens == kNone) {
    options.sink_tokens = 0;
  } else if (options.sink_tokens == 0) {
    options.sink_tokens = kDefaultSinkTokens;
  }
  if (options.window_tokens == 0) {
    options.window_tokens = kDefaultWindowTokens;
  }
  if (options.dense_up_to_tokens == 0) {
    options.dense_up_to_tokens = kDefaultDenseUpToTokens;
  }
  HIPATTN_RETURN_IF_ERROR(CheckAtMost("budget_tokens", options.budget_tokens, kMaxTokens));
  HIPATTN_RETURN_IF_ERROR(CheckAtMost("sink_tokens", options.sink_tokens, kMaxTokens));
  HIPATTN_RETURN_IF_ERROR(CheckAtMost("window_tokens", options.window_tokens, kMaxTokens));
  const Search search = options.search_kind();
  const uint32_t unit = search == Search::kStaged ? kStagedLeafTokens
                        : search == Search::kBeam ? kBeamLeafTokens
                                                  : engine.block_tokens;
  if (options.budget_tokens % unit != 0) {
    return InvalidArgument(
        "budget_tokens is ", options.budget_tokens, ", must be a multiple of ", unit);
  }
  const bool hip = options.prefill() == PrefillMode::kHip;
  const uint32_t least = engine.block_tokens + (hip ? kPrefillBlockRows - 1 : 0);
  if (options.window_tokens < least) {
    return InvalidArgument("window_tokens is ",
                           options.window_tokens,
                           ", must be at least ",
                           least,
                           hip ? " with HIP prefill" : " (block_tokens)");
  }
  return Status::Ok();
}

// SPEC D25: what positions beyond the trained length ask of the lengths.
Status CheckExtension(const EngineOptions& engine, const AttentionOptions& options) {
  const Search search = options.search_kind();
  if (engine.trained_tokens == 0 || IsBlockSearch(search)) {
    return Status::Ok();
  }
  const uint64_t rows = options.prefill() == PrefillMode::kHip ? kPrefillBlockRows : 1;
  const uint64_t attended = uint64_t{options.sink_tokens} + options.budget_tokens +
                            options.window_tokens +
                            std::max<uint64_t>(rows, options.refresh_interval);
  const uint64_t chunk = search == Search::kStaged ? kStagedFirstChunkTokens : 0;
  const uint64_t scanned = options.window_tokens > chunk ? options.window_tokens - chunk : 0;
  if (attended > engine.trained_tokens || scanned + 2 > engine.trained_tokens) {
    return InvalidArgument("sink_tokens ",
                           options.sink_tokens,
                           ", budget_tokens ",
                           options.budget_tokens,
                           " and window_tokens ",
                           options.window_tokens,
                           " need ",
                           std::max(attended, scanned + 2),
                           " positions, trained_tokens is ",
                           engine.trained_tokens);
  }
  return Status::Ok();
}

// What prefill cannot do where keys are stored un-rotated; AUTO is dense there.
Status CheckUnrotated(const EngineOptions& engine, const AttentionOptions& options) {
  if (engine.rope_mode == 0 || engine.trained_tokens == 0 || IsBlockSearch(options.search_kind())) {
    return Status::Ok();
  }
  constexpr const char* kWhy = ", which keeps keys un-rotated for positions beyond trained_tokens";
  if (PrefillsMasked(options.prefill())) {
    return Unsupported(
        "prefill_mode is ", options.prefill_mode, " with search ", options.search, kWhy);
  }
  if (options.prefill_delta_interval != 0 && options.prefill() == PrefillMode::kHip) {
    return Unsupported("prefill_delta_interval is ",
                       options.prefill_delta_interval,
                       " with search ",
                       options.search,
                       kWhy);
  }
  return Status::Ok();
}

}  // namespace

Result<EngineOptions> ResolveEngineOptions(const EngineOptions& given) {
  HIPATTN_RETURN_IF_ERROR(CheckDevice(given));
  HIPATTN_RETURN_IF_ERROR(CheckGeometry(given));
  HIPATTN_RETURN_IF_ERROR(CheckTiers(given));
  EngineOptions options = given;
  options.device = DeviceKind::kCpu;
  HIPATTN_RETURN_IF_ERROR(ResolveShare(options));
  HIPATTN_RETURN_IF_ERROR(ResolveStorage(options));
  HIPATTN_RETURN_IF_ERROR(CheckFinite("softmax_scale", options.softmax_scale));
  HIPATTN_RETURN_IF_ERROR(CheckFinite("logit_softcap", options.logit_softcap));
  if (options.softmax_scale == 0.0F) {
    options.softmax_scale = static_cast<float>(1.0 / std::sqrt(double{1} * options.head_dim));
  }
  HIPATTN_RETURN_IF_ERROR(ResolveRope(options));
  return options;
}

Result<AttentionOptions> ResolveAttentionOptions(const EngineOptions& engine,
                                                 const AttentionOptions& given) {
  HIPATTN_RETURN_IF_ERROR(CheckEnums(given));
  AttentionOptions options = given;
  HIPATTN_RETURN_IF_ERROR(ResolvePrefill(&options));
  HIPATTN_RETURN_IF_ERROR(ResolveSearch(options));
  HIPATTN_RETURN_IF_ERROR(ResolveSketches(options));
  HIPATTN_RETURN_IF_ERROR(ResolveTokenCounts(engine, options));
  HIPATTN_RETURN_IF_ERROR(ResolveRerank(engine, options));
  HIPATTN_RETURN_IF_ERROR(ResolveAudit(engine, options));
  HIPATTN_RETURN_IF_ERROR(CheckExtension(engine, options));
  HIPATTN_RETURN_IF_ERROR(CheckUnrotated(engine, options));
  return options;
}

}  // namespace hipattn::engine
