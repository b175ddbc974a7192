// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What is compared: ways to choose the tokens that a decode step attends, or that the text's rows
// attend while it is read, written as
//
//   [LABEL=]KIND[:FIELD=VALUE[/VALUE...],...]      tree:budget=256/512,rerank=none
//
// A field with several values makes as many settings. Fields are those of
// hipattn_attention_options_t, block of the engine, and chunk, how the text is cut.
#ifndef HIPATTN_BENCH_RECALL_SETTING_H_
#define HIPATTN_BENCH_RECALL_SETTING_H_

#include "hipattn/hipattn.h"

#include "result.h"

#include <cstdint>
#include <string>
#include <vector>

namespace recall_bench {

using hipattn_run::Result;
using hipattn_run::Status;

struct Setting {
  std::string name;     // unique in a run: the spec, or the label and what differs under it
  std::string spec;     // KIND:FIELD=VALUE,... in the order of the table of fields
  std::string series;   // the same without the budget: one curve of a picture
  bool oracle = false;  // the bench chooses, by the exact mass of the blocks
  uint32_t block_tokens = 0;
  uint32_t chunk_tokens = 0;  // of reading the text by masks
  hipattn_attention_options_t attention = HIPATTN_ATTENTION_OPTIONS_INIT;

  // Whether it has the text read otherwise than densely.
  bool reads_text() const { return attention.prefill_mode != HIPATTN_PREFILL_DENSE; }
  // 0 where it is the library's default.
  uint32_t budget_tokens() const { return attention.budget_tokens; }
};

// What fields are that a setting leaves out.
struct SettingDefaults {
  uint32_t sink_tokens = 64;
  uint32_t window_tokens = 256;
};

// The settings that one string stands for.
Result<std::vector<Setting>> ParseSetting(const std::string& text, const SettingDefaults& defaults);

// All of them; a name that occurs twice is an error.
Result<std::vector<Setting>> ParseSettings(const std::vector<std::string>& texts,
                                           const SettingDefaults& defaults);

// Whether the library audits heads under this setting.
bool AuditsHeads(const Setting& setting);

// Whether one sequence can serve both: what is fixed once it has tokens is the same, so is what
// audits compare, and how the text was read.
bool ShareIndex(const Setting& a, const Setting& b);

// Kinds, fields and their values, for --help.
std::string SettingHelp();

}  // namespace recall_bench

#endif  // HIPATTN_BENCH_RECALL_SETTING_H_
