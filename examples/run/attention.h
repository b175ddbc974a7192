// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Owners for the handles of the hipattn C API, and its error codes as Status.
#ifndef HIPATTN_EXAMPLES_RUN_ATTENTION_H_
#define HIPATTN_EXAMPLES_RUN_ATTENTION_H_

#include "hipattn/hipattn.h"

#include "llama_model.h"
#include "result.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace hipattn_run {

struct EngineDeleter {
  void operator()(hipattn_engine_t* engine) const { hipattn_engine_destroy(engine); }
};
struct SequenceDeleter {
  void operator()(hipattn_sequence_t* sequence) const { hipattn_sequence_destroy(sequence); }
};
using Engine = std::unique_ptr<hipattn_engine_t, EngineDeleter>;
using Sequence = std::unique_ptr<hipattn_sequence_t, SequenceDeleter>;

// What a call returned; `action` says what was tried.
Status CheckHipattn(hipattn_status_t code, const char* action);

// Engine options for this model on the CPU: q, k and v go in as f32, unrotated.
hipattn_engine_options_t MakeEngineOptions(const LlamaModel& model);

Result<Engine> CreateEngine(const hipattn_engine_options_t& options);
Result<Sequence> CreateSequence(const Engine& engine, const hipattn_attention_options_t& options);
// A copy of the whole text that answers with other options.
Result<Sequence> ForkSequence(const Sequence& parent, const hipattn_attention_options_t& options);

// What audits know of a kv head.
struct AuditedHead {
  uint32_t layer = 0;
  uint32_t kv_head = 0;
  double loss = 0;
  bool scanned = false;
};

// The heads of which something is known, those that lose most first.
Result<std::vector<AuditedHead>> ReadAuditedHeads(const Engine& engine, const Sequence& sequence);

// Loads the file if there is one.
Status LoadHeadProfile(const Engine& engine, const std::string& path);
Status SaveHeadProfile(const Sequence& sequence, const std::string& path);

Status LoadPatterns(const Engine& engine, const std::string& path);

Result<hipattn_stats_t> ReadStats(const Engine& engine, bool reset);

// Mean over layers and kv heads of the share of the text that the last decode step attended.
Result<double> ReadAttendedShare(const Engine& engine, const Sequence& sequence);

}  // namespace hipattn_run

#endif  // HIPATTN_EXAMPLES_RUN_ATTENTION_H_
