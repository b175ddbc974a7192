// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The command line of hipattn-run.
#ifndef HIPATTN_EXAMPLES_RUN_OPTIONS_H_
#define HIPATTN_EXAMPLES_RUN_OPTIONS_H_

#include "hipattn/hipattn.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace hipattn_run {

struct Options {
  std::string model;

  // The user message: prompt, document and question, those that are given, in this order.
  std::string prompt;
  std::string prompt_file;
  std::string question;
  bool raw = false;
  uint64_t max_prompt_tokens = 0;
  std::string insert_fact;
  double insert_at = 0.5;

  uint32_t max_new_tokens = 128;
  bool ignore_end = false;
  double temperature = 0;
  uint64_t seed = 0;

  uint32_t attention = HIPATTN_DECODE_AUTO;
  uint32_t budget_tokens = 0;
  uint32_t rerank_tokens = 0;
  uint32_t audit_interval = 0;
  std::string head_profile;
  int64_t sink_tokens = 0;
  uint32_t window_tokens = 0;
  uint32_t scorer = HIPATTN_SCORER_DEFAULT;
  uint32_t search = HIPATTN_SEARCH_DEFAULT;
  uint32_t refresh_interval = 0;
  float min_recall = 0;
  bool verify_recall = false;
  uint32_t kv_dtype = HIPATTN_DTYPE_DEFAULT;
  bool compare = false;

  uint32_t prefill = HIPATTN_PREFILL_DENSE;
  std::vector<uint32_t> prefill_sizes;
  uint32_t prefill_last_q = 0;
  float prefill_threshold = 0;
  float prefill_skip = 0;
  uint32_t prefill_delta = 0;
  std::string patterns;
  bool compare_prefill = false;

  std::string save_text;
  std::string load_text;

  uint32_t threads = 0;
  uint32_t ctx_chunk = 4096;
  float rope_base = 0;  // 0: the model's
  uint64_t depth = 0;
  uint64_t device_kv_bytes = 0;
  uint64_t host_kv_bytes = 0;
  uint64_t disk_kv_bytes = 0;
  std::string disk_path;

  std::string json;
  std::string trace;
  bool quiet = false;
  bool dump_tokens = false;
};

// Fills `options`. A value is the exit code of a program that is done: 0 after --help, 2 after a
// wrong command line, which is then explained on stderr.
std::optional<int> ParseOptions(int argc, char** argv, Options* options);

// The name that --prefill has for the mode.
std::string PrefillName(uint32_t mode);

// What the options say about attention, with the given modes. What they say about prefill belongs
// to their own mode: another one gets its defaults.
hipattn_attention_options_t MakeAttentionOptions(const Options& options,
                                                 uint32_t decode_mode,
                                                 uint32_t prefill_mode);

}  // namespace hipattn_run

#endif  // HIPATTN_EXAMPLES_RUN_OPTIONS_H_
