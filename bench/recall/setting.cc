// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "setting.h"

#include "option_names.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>
#include <span>
#include <string_view>
#include <tuple>

namespace recall_bench {
namespace {

using Options = hipattn_attention_options_t;

using hipattn_run::OptionName;

constexpr OptionName kSwitch[] = {{"off", 0}, {"on", 1}};

struct Kind {
  const char* name;
  const char* help;
  uint32_t search;
};
constexpr const char* kOracle = "oracle";
constexpr Kind kKinds[] = {
    {"default", "the library's default search", HIPATTN_SEARCH_DEFAULT},
    {"tree", "beam over the block tree", HIPATTN_SEARCH_TREE},
    {"flat", "every block scored", HIPATTN_SEARCH_FLAT},
    {"staged", "three-stage chunk pruning", HIPATTN_SEARCH_STAGED},
    {"beam", "HiP as published", HIPATTN_SEARCH_BEAM},
    {kOracle, "the blocks with the most mass, chosen by the bench", HIPATTN_SEARCH_DEFAULT},
};

// One of `number`, `real` and `own` says where the value goes; none: to prefill_sizes.
struct Field {
  const char* name;
  const char* help;
  uint32_t Options::*number;
  float Options::*real;
  uint32_t Setting::*own;
  bool may_be_none;
  std::span<const OptionName> names;  // empty: a number
};
constexpr const char* kSizes = "sizes";
constexpr Field kFields[] = {
    {"scorer", "", &Options::scorer, nullptr, nullptr, false, hipattn_run::kScorerNames},
    {"budget", "selected tokens", &Options::budget_tokens, nullptr, nullptr, false, {}},
    {"block", "tokens of a block", nullptr, nullptr, &Setting::block_tokens, false, {}},
    {"sinks", "first tokens", &Options::sink_tokens, nullptr, nullptr, true, {}},
    {"window", "last tokens", &Options::window_tokens, nullptr, nullptr, false, {}},
    {"refresh", "steps", &Options::refresh_interval, nullptr, nullptr, false, {}},
    {"rerank", "tokens", &Options::rerank_tokens, nullptr, nullptr, true, {}},
    {"audit", "steps", &Options::audit_interval, nullptr, nullptr, true, {}},
    {"scanned_heads", "at most", &Options::max_scanned_heads, nullptr, nullptr, false, {}},
    {"min_recall", "0 to 1", nullptr, &Options::min_recall, nullptr, false, {}},
    {"decode", "", &Options::decode_mode, nullptr, nullptr, false, hipattn_run::kDecodeModeNames},
    {"dense_up_to", "tokens", &Options::dense_up_to_tokens, nullptr, nullptr, false, {}},
    {"verify", "", &Options::verify_recall, nullptr, nullptr, false, kSwitch},
    {"prefill",
     "",
     &Options::prefill_mode,
     nullptr,
     nullptr,
     false,
     hipattn_run::kPrefillModeNames},
    {kSizes, "number>x<number", nullptr, nullptr, nullptr, false, {}},
    {"last_q", "rows", &Options::prefill_last_q, nullptr, nullptr, false, {}},
    {"threshold", "0 to 1", nullptr, &Options::prefill_threshold, nullptr, false, {}},
    {"skip", "0 to 1", nullptr, &Options::prefill_skip_threshold, nullptr, false, {}},
    {"delta", "rows", &Options::prefill_delta_interval, nullptr, nullptr, false, {}},
    {"chunk", "tokens of a chunk", nullptr, nullptr, &Setting::chunk_tokens, false, {}},
};
constexpr uint32_t kDefaultBlockTokens = 16;
constexpr uint32_t kDefaultChunkTokens = 8192;

std::vector<std::string> Split(const std::string& text, char separator) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == separator) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

// Null if no entry of the table has this name.
template <typename Table>
auto Find(const Table& table, const std::string& name) {
  const auto found = std::find_if(
      std::begin(table), std::end(table), [&](const auto& entry) { return entry.name == name; });
  return found == std::end(table) ? nullptr : &*found;
}

template <typename Table>
std::string ListOf(const Table& table, const char* separator) {
  std::string list;
  for (const auto& entry : table) {
    list += list.empty() ? "" : separator;
    list += entry.name;
  }
  return list;
}

template <typename Number>
bool ReadNumber(const std::string& text, Number* number) {
  const char* const end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, *number);
  return result.ec == std::errc() && result.ptr == end;
}

bool ReadSizes(const std::string& text, uint32_t (*sizes)[2]) {
  const size_t times = text.find('x');
  return times != std::string::npos && ReadNumber(text.substr(0, times), &(*sizes)[0]) &&
         ReadNumber(text.substr(times + 1), &(*sizes)[1]);
}

Status SetField(const Field& field, const std::string& value, Setting* setting) {
  const auto wrong = [&](const std::string& expected) {
    return Status::Error("field ", field.name, " is '", value, "', not ", expected);
  };
  if (field.real != nullptr) {
    float real = 0;
    if (!ReadNumber(value, &real) || !(real >= 0 && real <= 1)) {
      return wrong("a number from 0 to 1");
    }
    setting->attention.*field.real = real;
    return {};
  }
  if (field.name == std::string_view(kSizes)) {
    return ReadSizes(value, &setting->attention.prefill_sizes) ? Status()
                                                               : wrong("two numbers, as 500x100");
  }
  uint32_t number = 0;
  if (!field.names.empty()) {
    const OptionName* const name = Find(field.names, value);
    if (name == nullptr) {
      return wrong("one of " + ListOf(field.names, ", "));
    }
    number = name->value;
  } else if (field.may_be_none && value == "none") {
    number = HIPATTN_NONE;
  } else if (!ReadNumber(value, &number) || number == 0 || number == HIPATTN_NONE) {
    return wrong(field.may_be_none ? "a positive number or 'none'" : "a positive number");
  }
  (field.own != nullptr ? setting->*field.own : setting->attention.*field.number) = number;
  return {};
}

// What the tree keeps for the sketches: rerank_tokens or what the library takes for 0.
uint32_t KeptTokens(const Options& options) {
  constexpr uint32_t kDefaultTokens = 2048;
  return options.rerank_tokens == 0 ? std::max(kDefaultTokens, options.budget_tokens)
                                    : options.rerank_tokens;
}

// What follows the label.
struct Parts {
  const Kind* kind = nullptr;
  std::vector<std::vector<std::string>> values{std::size(kFields)};  // by field; empty: not given
};

Status ReadParts(const std::string& text, Parts* parts) {
  const size_t colon = text.find(':');
  const std::string kind = text.substr(0, colon);
  parts->kind = Find(kKinds, kind);
  if (parts->kind == nullptr) {
    return Status::Error("'", kind, "' is none of the kinds ", ListOf(kKinds, ", "));
  }
  if (colon == std::string::npos) {
    return {};
  }
  for (const std::string& part : Split(text.substr(colon + 1), ',')) {
    const size_t equals = part.find('=');
    const std::string name = part.substr(0, equals);
    const Field* const field = Find(kFields, name);
    if (field == nullptr) {
      return Status::Error("'", name, "' is none of the fields ", ListOf(kFields, ", "));
    }
    if (equals == std::string::npos) {
      return Status::Error("field ", name, " has no value");
    }
    auto& values = parts->values[static_cast<size_t>(field - kFields)];
    if (!values.empty()) {
      return Status::Error("field ", name, " is given twice");
    }
    values = Split(part.substr(equals + 1), '/');
  }
  return {};
}

Status CheckOracle(const Parts& parts, const Setting& setting) {
  if (!setting.oracle) {
    return {};
  }
  for (const char* field : {"scorer",
                            "rerank",
                            "audit",
                            "scanned_heads",
                            "min_recall",
                            "refresh",
                            "decode",
                            "dense_up_to",
                            "prefill"}) {
    const size_t index = static_cast<size_t>(Find(kFields, field) - kFields);
    if (!parts.values[index].empty()) {
      return Status::Error("kind oracle searches nothing, so it has no field ", field);
    }
  }
  if (setting.budget_tokens() == 0 || setting.budget_tokens() % setting.block_tokens != 0) {
    return Status::Error("kind oracle needs field budget, a multiple of ",
                         setting.block_tokens,
                         ", it is ",
                         setting.budget_tokens());
  }
  return {};
}

// Fields that say how the text is read, without a mode that takes them.
Status CheckPrefill(const Parts& parts, const Setting& setting) {
  for (const char* field : {kSizes, "last_q", "threshold", "skip", "delta", "chunk"}) {
    const size_t index = static_cast<size_t>(Find(kFields, field) - kFields);
    if (!parts.values[index].empty() && !setting.reads_text()) {
      return Status::Error("field ", field, " needs field prefill, not dense");
    }
  }
  return {};
}

// The setting of one choice among the values of each field; `digits` counts through the choices.
Result<Setting> MakeSetting(const Parts& parts,
                            const std::vector<size_t>& digits,
                            const std::string& label,
                            const SettingDefaults& defaults) {
  Setting setting;
  setting.oracle = parts.kind->name == std::string_view(kOracle);
  setting.block_tokens = kDefaultBlockTokens;
  setting.chunk_tokens = kDefaultChunkTokens;
  setting.attention.search = parts.kind->search;
  setting.attention.decode_mode = HIPATTN_DECODE_SPARSE;
  setting.attention.prefill_mode = HIPATTN_PREFILL_DENSE;
  setting.attention.sink_tokens = defaults.sink_tokens;
  setting.attention.window_tokens = defaults.window_tokens;
  setting.spec = parts.kind->name;
  // With a label the fields that tell its settings apart are enough of a name.
  setting.name = label;
  setting.series = label.empty() ? setting.spec : label;
  const auto add = [](const std::string& part, std::string* spec) {
    *spec += (spec->find(':') == std::string::npos ? ":" : ",") + part;
  };
  for (size_t f = 0; f < std::size(kFields); ++f) {
    if (parts.values[f].empty()) {
      continue;
    }
    const std::string& value = parts.values[f][digits[f]];
    const Status status = SetField(kFields[f], value, &setting);
    if (!status.ok()) {
      return status;
    }
    const std::string part = std::string(kFields[f].name) + "=" + value;
    const bool is_named = label.empty() || parts.values[f].size() > 1;
    add(part, &setting.spec);
    if (is_named) {
      add(part, &setting.name);
    }
    if (is_named && kFields[f].number != &Options::budget_tokens) {
      add(part, &setting.series);
    }
  }
  if (label.empty()) {
    setting.name = setting.spec;
  }
  RUN_RETURN_IF_ERROR(CheckOracle(parts, setting));
  RUN_RETURN_IF_ERROR(CheckPrefill(parts, setting));
  return setting;
}

Result<std::vector<Setting>> Expand(const Parts& parts,
                                    const std::string& label,
                                    const SettingDefaults& defaults) {
  std::vector<Setting> settings;
  std::vector<size_t> digits(std::size(kFields));
  while (true) {
    Result<Setting> setting = MakeSetting(parts, digits, label, defaults);
    if (!setting.ok()) {
      return setting.status();
    }
    settings.push_back(std::move(setting.value()));
    size_t f = 0;
    while (f < digits.size() && ++digits[f] >= parts.values[f].size()) {
      digits[f++] = 0;
    }
    if (f == digits.size()) {
      return settings;
    }
  }
}

}  // namespace

Result<std::vector<Setting>> ParseSetting(const std::string& text,
                                          const SettingDefaults& defaults) {
  const size_t equals = text.find('=');
  const bool has_label = equals < text.find(':');
  const std::string label = has_label ? text.substr(0, equals) : "";
  const auto wrong = [&](const std::string& why) {
    return Status::Error("setting '", text, "': ", why);
  };
  Parts parts;
  const Status status = ReadParts(has_label ? text.substr(equals + 1) : text, &parts);
  if (!status.ok()) {
    return wrong(status.message());
  }
  Result<std::vector<Setting>> settings = Expand(parts, label, defaults);
  if (!settings.ok()) {
    return wrong(settings.status().message());
  }
  if (has_label && (label.empty() || label == "dense")) {
    return wrong(label.empty() ? "the label is empty" : "'dense' is what settings are judged by");
  }
  return settings;
}

Result<std::vector<Setting>> ParseSettings(const std::vector<std::string>& texts,
                                           const SettingDefaults& defaults) {
  std::vector<Setting> all;
  std::set<std::string> names;
  for (const std::string& text : texts) {
    Result<std::vector<Setting>> settings = ParseSetting(text, defaults);
    if (!settings.ok()) {
      return settings.status();
    }
    for (Setting& setting : settings.value()) {
      if (!names.insert(setting.name).second) {
        return Status::Error("setting '", setting.name, "' is given twice");
      }
      all.push_back(std::move(setting));
    }
  }
  return all;
}

bool AuditsHeads(const Setting& setting) {
  const Options& o = setting.attention;
  return !setting.oracle && o.rerank_tokens != HIPATTN_NONE && o.audit_interval != HIPATTN_NONE;
}

bool ShareIndex(const Setting& a, const Setting& b) {
  // Sketches are kept for a rerank. An audit compares them with what the tree keeps for it, and
  // counts what is attended without a search.
  const auto key = [](const Setting& setting) {
    const Options& o = setting.attention;
    const bool audits = AuditsHeads(setting);
    const bool searches_text = o.prefill_mode == HIPATTN_PREFILL_HIP;
    return std::tuple(searches_text ? setting.spec : "",
                      o.prefill_mode,
                      o.prefill_sizes[0],
                      o.prefill_sizes[1],
                      o.prefill_last_q,
                      o.prefill_threshold,
                      o.prefill_skip_threshold,
                      o.prefill_delta_interval,
                      setting.reads_text() ? setting.chunk_tokens : 0,
                      setting.reads_text() ? o.verify_recall : 0,
                      setting.block_tokens,
                      o.search,
                      o.scorer,
                      o.rerank_tokens == HIPATTN_NONE,
                      audits,
                      audits ? KeptTokens(o) : 0,
                      audits ? o.sink_tokens : 0,
                      audits ? o.window_tokens : 0);
  };
  return key(a) == key(b);
}

std::string SettingHelp() {
  std::string help =
      "A setting is [LABEL=]KIND[:FIELD=VALUE[/VALUE...],...], for instance\n"
      "  tree:budget=256/512,rerank=none     two settings\n"
      "Kinds:\n";
  for (const Kind& kind : kKinds) {
    help += std::string("  ") + kind.name + std::string(10 - std::string(kind.name).size(), ' ') +
            kind.help + "\n";
  }
  help +=
      "Fields; what is left out is the library's default, but decode=sparse, block=16,\n"
      "prefill=dense, chunk=8192 and --sinks and --window:\n";
  for (const Field& field : kFields) {
    help += std::string("  ") + field.name + "=" +
            (field.names.empty() ? std::string("<") + field.help + ">" : ListOf(field.names, "|")) +
            (field.may_be_none ? "|none" : "") + "\n";
  }
  return help;
}

}  // namespace recall_bench
