// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "attention.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <system_error>

namespace hipattn_run {

Status CheckHipattn(hipattn_status_t code, const char* action) {
  if (code == HIPATTN_OK) {
    return {};
  }
  return Status::Error(
      "cannot ", action, ": ", hipattn_status_name(code), ": ", hipattn_last_error_message());
}

hipattn_engine_options_t MakeEngineOptions(const LlamaModel& model) {
  const LlamaConfig& config = model.config;
  hipattn_engine_options_t options = {};
  options.struct_size = sizeof(options);
  options.device = HIPATTN_DEVICE_CPU;
  options.num_layers = static_cast<uint32_t>(config.num_layers);
  options.num_q_heads = static_cast<uint32_t>(config.num_q_heads);
  options.num_kv_heads = static_cast<uint32_t>(config.num_kv_heads);
  options.head_dim = static_cast<uint32_t>(config.head_dim);
  options.io_dtype = HIPATTN_F32;
  // GGUF files of the Llama architecture hold q and k reordered for neighbouring pairs.
  constexpr uint32_t kInterleaved = 2;
  options.rope_mode = kInterleaved;
  options.rope_theta = config.rope_theta;
  options.rope_dim = static_cast<uint32_t>(config.rope_dim);
  options.rope_inv_freq = model.rope_inv_freq.data();
  return options;
}

Result<Engine> CreateEngine(const hipattn_engine_options_t& options) {
  hipattn_engine_t* engine = nullptr;
  const Status status =
      CheckHipattn(hipattn_engine_create(&options, &engine), "create the attention engine");
  if (!status.ok()) {
    return status;
  }
  return Engine(engine);
}

Result<Sequence> CreateSequence(const Engine& engine, const hipattn_attention_options_t& options) {
  hipattn_sequence_t* sequence = nullptr;
  const Status status = CheckHipattn(hipattn_sequence_create(engine.get(), &options, &sequence),
                                     "create the sequence");
  if (!status.ok()) {
    return status;
  }
  return Sequence(sequence);
}

Result<Sequence> ForkSequence(const Sequence& parent, const hipattn_attention_options_t& options) {
  hipattn_sequence_t* child = nullptr;
  Status status = CheckHipattn(
      hipattn_sequence_fork(parent.get(), hipattn_sequence_length(parent.get()), &child),
      "fork the sequence");
  if (!status.ok()) {
    return status;
  }
  Sequence owner(child);
  status = CheckHipattn(hipattn_sequence_set_options(child, &options), "set attention options");
  if (!status.ok()) {
    return status;
  }
  return owner;
}

Result<hipattn_stats_t> ReadStats(const Engine& engine, bool reset) {
  hipattn_stats_t stats = {};
  stats.struct_size = sizeof(stats);
  const Status status =
      CheckHipattn(hipattn_engine_stats(engine.get(), &stats, reset ? 1 : 0), "read statistics");
  if (!status.ok()) {
    return status;
  }
  return stats;
}

Result<double> ReadAttendedShare(const Engine& engine, const Sequence& sequence) {
  hipattn_engine_options_t options = {};
  options.struct_size = sizeof(options);
  Status status =
      CheckHipattn(hipattn_engine_get_options(engine.get(), &options), "read engine options");
  const uint64_t length = hipattn_sequence_length(sequence.get());
  uint64_t attended = 0;
  for (uint32_t layer = 0; status.ok() && layer < options.num_layers; ++layer) {
    for (uint32_t head = 0; status.ok() && head < options.num_kv_heads; ++head) {
      uint32_t blocks = 0;
      status =
          CheckHipattn(hipattn_sequence_selection(sequence.get(), layer, head, nullptr, 0, &blocks),
                       "read the selection");
      attended += std::min<uint64_t>(uint64_t{blocks} * options.block_tokens, length);
    }
  }
  if (!status.ok()) {
    return status;
  }
  const uint64_t all = length * options.num_layers * options.num_kv_heads;
  return all == 0 ? 0.0 : static_cast<double>(attended) / static_cast<double>(all);
}

Result<std::vector<AuditedHead>> ReadAuditedHeads(const Engine& engine, const Sequence& sequence) {
  hipattn_engine_options_t options = {};
  options.struct_size = sizeof(options);
  RUN_RETURN_IF_ERROR(
      CheckHipattn(hipattn_engine_get_options(engine.get(), &options), "read engine options"));
  const uint32_t group = options.num_q_heads / options.num_kv_heads;
  std::vector<AuditedHead> heads;
  for (uint32_t layer = 0; layer < options.num_layers; ++layer) {
    for (uint32_t head = 0; head < options.num_kv_heads; ++head) {
      hipattn_recall_t recall = HIPATTN_RECALL_INIT;
      RUN_RETURN_IF_ERROR(CheckHipattn(
          hipattn_sequence_recall(sequence.get(), layer, head * group, &recall), "read a loss"));
      if (!std::isnan(recall.audited_loss)) {
        constexpr uint32_t kScanned = 2;
        heads.push_back({layer, head, double{recall.audited_loss}, recall.mode == kScanned});
      }
    }
  }
  std::stable_sort(heads.begin(), heads.end(), [](const AuditedHead& a, const AuditedHead& b) {
    return a.loss > b.loss;
  });
  return heads;
}

Status LoadHeadProfile(const Engine& engine, const std::string& path) {
  std::error_code ignored;  // what cannot be looked at, the library explains
  if (!std::filesystem::exists(path, ignored) && !ignored) {
    return {};
  }
  return CheckHipattn(hipattn_engine_load_profile(engine.get(), path.c_str()),
                      "load the head profile");
}

Status LoadPatterns(const Engine& engine, const std::string& path) {
  return CheckHipattn(hipattn_engine_load_patterns(engine.get(), path.c_str()),
                      "load the patterns");
}

Status SaveHeadProfile(const Sequence& sequence, const std::string& path) {
  return CheckHipattn(hipattn_sequence_save_profile(sequence.get(), path.c_str()),
                      "save the head profile");
}

}  // namespace hipattn_run
