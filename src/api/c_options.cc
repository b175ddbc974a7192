// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "api/c_options.h"

#include "api/struct_io.h"

#include <algorithm>

namespace hipattn::api {
namespace {

Status CheckNoString(const char* name, const char* value) {
  if (value != nullptr) {
    return Unsupported(name, " is \"", value, "\": not in this release, must be NULL");
  }
  return Status::Ok();
}

// The caller's array has rope_dim / 2 elements, which is only known to be true, and is only needed,
// when the fields that say so are sound; ResolveEngineOptions refuses the others.
std::vector<float> CopyInvFreq(const hipattn_engine_options_t& c) {
  const bool rotates = c.rope_mode == 1 || c.rope_mode == 2;
  if (c.rope_inv_freq == nullptr || !rotates || c.rope_dim > c.head_dim ||
      c.head_dim > engine::kMaxHeadDim) {
    return {};
  }
  const uint32_t dim = c.rope_dim == 0 ? c.head_dim : c.rope_dim;
  return {c.rope_inv_freq, c.rope_inv_freq + dim / 2};
}

}  // namespace

Result<engine::EngineOptions> ReadEngineOptions(const hipattn_engine_options_t* given) {
  hipattn_engine_options_t c = HIPATTN_ENGINE_OPTIONS_INIT;
  HIPATTN_RETURN_IF_ERROR(ReadStruct("options",
                                     given,
                                     {{offsetof(hipattn_engine_options_t, rope_inv_freq),
                                       offsetof(hipattn_engine_options_t, first_q_head)},
                                      {offsetof(hipattn_engine_options_t, trace_path), sizeof(c)}},
                                     &c));
  if (c.reserved != 0) {
    return InvalidArgument("reserved is ", c.reserved, ", must be 0");
  }
  HIPATTN_RETURN_IF_ERROR(CheckNoString("pool_endpoints", c.pool_endpoints));
  if (c.pool_key != nullptr) {  // a secret: its value is not repeated
    return Unsupported("pool_key is given: not in this release, must be NULL");
  }
  if (c.trace_path != nullptr && *c.trace_path == '\0') {
    return InvalidArgument("trace_path is \"\", must name a file or be NULL");
  }
  engine::EngineOptions options;
  options.device = static_cast<engine::DeviceKind>(c.device);
  options.device_index = c.device_index;
  options.num_threads = c.num_threads;
  options.num_layers = c.num_layers;
  options.num_q_heads = c.num_q_heads;
  options.num_kv_heads = c.num_kv_heads;
  options.head_dim = c.head_dim;
  options.block_tokens = c.block_tokens;
  options.io_dtype = c.io_dtype;
  options.kv_dtype = c.kv_dtype;
  options.softmax_scale = c.softmax_scale;
  options.logit_softcap = c.logit_softcap;
  options.rope_mode = c.rope_mode;
  options.rope_theta = c.rope_theta;
  options.rope_dim = c.rope_dim;
  options.trained_tokens = c.trained_tokens;
  options.rope_inv_freq = CopyInvFreq(c);
  options.device_kv_bytes = c.device_kv_bytes;
  options.host_kv_bytes = c.host_kv_bytes;
  options.disk_kv_bytes = c.disk_kv_bytes;
  options.disk_path = c.disk_path == nullptr ? "" : c.disk_path;
  options.log = {c.log, c.log_user_data};
  options.first_q_head = c.first_q_head;
  options.model_q_heads = c.model_q_heads;
  options.trace_path = c.trace_path == nullptr ? "" : c.trace_path;
  return options;
}

Result<engine::AttentionOptions> ReadAttentionOptions(const char* name,
                                                      const hipattn_attention_options_t* given) {
  engine::AttentionOptions options;
  if (given == nullptr) {
    return options;
  }
  hipattn_attention_options_t c = HIPATTN_ATTENTION_OPTIONS_INIT;
  HIPATTN_RETURN_IF_ERROR(ReadStruct(name, given, {}, &c));
  options.decode_mode = c.decode_mode;
  options.search = c.search;
  options.scorer = c.scorer;
  options.prefill_mode = c.prefill_mode;
  options.budget_tokens = c.budget_tokens;
  options.sink_tokens = c.sink_tokens;
  options.window_tokens = c.window_tokens;
  options.refresh_interval = c.refresh_interval;
  options.min_recall = c.min_recall;
  options.dense_up_to_tokens = c.dense_up_to_tokens;
  options.rerank_tokens = c.rerank_tokens;
  options.audit_interval = c.audit_interval;
  options.max_scanned_heads = c.max_scanned_heads;
  options.verify_recall = c.verify_recall;
  std::copy_n(c.prefill_sizes, 2, options.prefill_sizes);
  options.prefill_last_q = c.prefill_last_q;
  options.prefill_delta_interval = c.prefill_delta_interval;
  options.prefill_threshold = c.prefill_threshold;
  options.prefill_skip_threshold = c.prefill_skip_threshold;
  return options;
}

void WriteEngineOptions(const engine::EngineOptions& options, hipattn_engine_options_t* to) {
  hipattn_engine_options_t c = HIPATTN_ENGINE_OPTIONS_INIT;
  c.device = static_cast<uint32_t>(options.device);
  c.device_index = options.device_index;
  c.num_threads = options.num_threads;
  c.num_layers = options.num_layers;
  c.num_q_heads = options.num_q_heads;
  c.num_kv_heads = options.num_kv_heads;
  c.head_dim = options.head_dim;
  c.block_tokens = options.block_tokens;
  c.io_dtype = options.io_dtype;
  c.kv_dtype = options.kv_dtype;
  c.softmax_scale = options.softmax_scale;
  c.logit_softcap = options.logit_softcap;
  c.rope_mode = options.rope_mode;
  c.rope_theta = options.rope_theta;
  c.rope_dim = options.rope_dim;
  c.trained_tokens = options.trained_tokens;
  c.rope_inv_freq = options.rope_inv_freq.empty() ? nullptr : options.rope_inv_freq.data();
  c.device_kv_bytes = options.device_kv_bytes;
  c.host_kv_bytes = options.host_kv_bytes;
  c.disk_kv_bytes = options.disk_kv_bytes;
  c.disk_path = options.disk_path.empty() ? nullptr : options.disk_path.c_str();
  c.log = options.log.fn;
  c.log_user_data = options.log.user_data;
  c.first_q_head = options.first_q_head;
  c.model_q_heads = options.model_q_heads;
  c.trace_path = options.trace_path.empty() ? nullptr : options.trace_path.c_str();
  WriteStruct(c, to);
}

}  // namespace hipattn::api
