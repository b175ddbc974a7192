// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "engine/patterns.h"

#include "engine/json_file.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

namespace hipattn::engine {
namespace {

using core::PatternType;
using nlohmann::json;

constexpr uint32_t kHeadLimit = 1 << 16;
constexpr uint32_t kSizeLimit = 1 << 24;
constexpr size_t kEntryItems = 4;
// nlohmann's number for a literal that no double can hold.
constexpr int kNumberOverflow = 406;

// One element of an entry.
struct Item {
  enum class Kind { kInteger, kReal, kString, kOther };
  Kind kind;
  double value;      // of numbers
  std::string text;  // as it stands in the file, or what it is
};

std::optional<PatternType> TypeOf(const Item& item) {
  for (const PatternType type :
       {PatternType::kAShape, PatternType::kVerticalSlash, PatternType::kBlockSparse}) {
    if (item.kind == Item::Kind::kString && item.text == core::PatternTypeName(type)) {
      return type;
    }
  }
  return std::nullopt;
}

const char* SizeName(PatternType type, size_t i) {
  constexpr const char* kNames[3][2] = {
      {"n_init", "n_local"}, {"k_v", "k_s"}, {"the first size", "the second size"}};
  return kNames[static_cast<size_t>(type)][i];
}

// A text of the file as it may stand in a message.
std::string Shown(const std::string& text) {
  constexpr size_t kMost = 40;
  return text.size() > kMost ? text.substr(0, kMost) + "..." : text;
}

// The number of a head in its one canonical form.
std::optional<uint32_t> HeadOf(const std::string& key) {
  if (key.empty() || key.size() > 5 || (key[0] == '0' && key.size() > 1)) {
    return std::nullopt;
  }
  uint32_t head = 0;
  for (const char digit : key) {
    if (digit < '0' || digit > '9') {
      return std::nullopt;
    }
    head = head * 10 + static_cast<uint32_t>(digit - '0');
  }
  return head < kHeadLimit ? std::optional(head) : std::nullopt;
}

// Takes the text's parts in their order, because a document in memory would have lost which keys
// stood twice and how numbers were written. After the first fault only the syntax counts.
class PatternReader : public nlohmann::json_sax<json> {
 public:
  explicit PatternReader(const PatternLimits& limits) : limits_(limits) {}

  PatternFault fault() const { return fault_; }
  const std::string& message() const { return message_; }
  core::PatternTable TakeTable() { return std::move(table_); }

  bool null() override { return Take({Item::Kind::kOther, 0.0, "null"}); }
  bool boolean(bool value) override {
    return Take({Item::Kind::kOther, 0.0, value ? "true" : "false"});
  }
  bool number_integer(int64_t value) override {
    return Take({Item::Kind::kInteger, static_cast<double>(value), std::to_string(value)});
  }
  bool number_unsigned(uint64_t value) override {
    return Take({Item::Kind::kInteger, static_cast<double>(value), std::to_string(value)});
  }
  bool number_float(double value, const std::string& literal) override {
    const bool whole = literal.find_first_of(".eE") == std::string::npos;  // beyond 64 bits
    return Take({whole ? Item::Kind::kInteger : Item::Kind::kReal, value, literal});
  }
  bool string(std::string& value) override { return Take({Item::Kind::kString, 0.0, value}); }
  bool binary(binary_t& /*value*/) override { return Take({Item::Kind::kOther, 0.0, "binary"}); }

  bool start_array(size_t /*size*/) override { return Open('['); }
  bool start_object(size_t /*size*/) override { return Open('{'); }
  bool key(std::string& key) override;
  bool end_array() override;
  bool end_object() override {
    --depth_;
    return true;
  }
  bool parse_error(size_t position,
                   const std::string& token,
                   const json::exception& error) override;

 private:
  // How many arrays and objects are open around what stands in the array, a layer, an entry.
  static constexpr int kInArray = 1;
  static constexpr int kInLayer = 2;
  static constexpr int kInEntry = 3;

  bool Fail(PatternFault fault, const std::string& what) {
    if (fault_ == PatternFault::kNoFault) {
      fault_ = fault;
      message_ = StrCat(PatternFaultName(fault), ": ", what);
    }
    return true;
  }
  std::string Where() const { return StrCat("layer ", table_.layers.size() - 1, ", head ", head_); }

  bool Take(const Item& item);
  bool Open(char bracket);
  void CheckEntry();

  PatternLimits limits_;
  PatternFault fault_ = PatternFault::kNoFault;
  std::string message_;
  core::PatternTable table_;
  int depth_ = 0;
  uint32_t head_ = 0;        // of the entry
  std::vector<Item> items_;  // of the entry, one too many at most
};

bool PatternReader::Take(const Item& item) {
  if (fault_ != PatternFault::kNoFault) {
    return true;
  }
  switch (depth_) {
    case 0:
      return Fail(PatternFault::kNotArray,
                  StrCat("the file is ", Shown(item.text), ", must be an array"));
    case kInArray:
      return Fail(
          PatternFault::kLayerNotObject,
          StrCat("layer ", table_.layers.size(), " is ", Shown(item.text), ", must be an object"));
    case kInLayer:
      return Fail(PatternFault::kEntryShape,
                  StrCat(Where(), ": the entry is ", Shown(item.text), ", must be an array of 4"));
    case kInEntry:
      if (items_.size() <= kEntryItems) {
        items_.push_back(item);
      }
      break;
    default:
      break;  // inside an element that is refused as a whole
  }
  return true;
}

bool PatternReader::Open(char bracket) {
  const bool fits = depth_ == 0 || depth_ == kInLayer ? bracket == '[' : bracket == '{';
  if (fault_ == PatternFault::kNoFault && depth_ < kInEntry && fits) {
    if (depth_ == kInArray) {
      table_.layers.emplace_back();
      if (limits_.num_layers && table_.layers.size() > *limits_.num_layers) {
        Fail(PatternFault::kTooManyLayers,
             StrCat("the file has more layers than the model, which has ", *limits_.num_layers));
      }
    }
    items_.clear();
  } else {
    Take({Item::Kind::kOther, 0.0, bracket == '[' ? "an array" : "an object"});
  }
  ++depth_;
  return true;
}

bool PatternReader::key(std::string& key) {
  if (fault_ != PatternFault::kNoFault || depth_ != kInLayer) {
    return true;
  }
  const size_t layer = table_.layers.size() - 1;
  const std::optional<uint32_t> head = HeadOf(key);
  if (!head) {
    return Fail(PatternFault::kBadHeadKey,
                StrCat("layer ",
                       layer,
                       ", head \"",
                       Shown(key),
                       "\": must be a decimal number from 0 to ",
                       kHeadLimit - 1));
  }
  head_ = *head;
  if (limits_.num_heads && head_ >= *limits_.num_heads) {
    return Fail(PatternFault::kHeadOutOfRange,
                StrCat(Where(), ": the model has ", *limits_.num_heads, " q heads"));
  }
  if (table_.layers[layer].contains(head_)) {
    return Fail(PatternFault::kDuplicateHead, StrCat(Where(), " stands there twice"));
  }
  return true;
}

bool PatternReader::end_array() {
  if (fault_ == PatternFault::kNoFault && depth_ == kInEntry) {
    CheckEntry();
  }
  --depth_;
  return true;
}

void PatternReader::CheckEntry() {
  if (items_.size() != kEntryItems) {
    const std::string number = items_.size() > kEntryItems ? "more" : StrCat(items_.size());
    Fail(PatternFault::kEntryShape, StrCat(Where(), ": the entry has ", number, " items, not 4"));
    return;
  }
  const std::optional<PatternType> type = TypeOf(items_[0]);
  if (!type) {
    Fail(PatternFault::kBadType,
         StrCat(Where(), ": type is ", Shown(items_[0].text), ", not a pattern"));
    return;
  }
  std::array<uint32_t, 2> sizes{};
  for (const PatternFault fault : {PatternFault::kBadBudget, PatternFault::kBudgetTooLarge}) {
    for (size_t i = 0; i < sizes.size(); ++i) {
      const Item& item = items_[1 + i];
      const bool good = fault == PatternFault::kBadBudget
                            ? item.kind == Item::Kind::kInteger && item.value >= 0
                            : item.value <= kSizeLimit;
      if (!good) {
        Fail(fault,
             StrCat(Where(),
                    ": ",
                    SizeName(*type, i),
                    " is ",
                    Shown(item.text),
                    ", must be a whole number from 0 to ",
                    kSizeLimit));
        return;
      }
    }
  }
  for (size_t i = 0; i < sizes.size(); ++i) {
    sizes[i] = static_cast<uint32_t>(items_[1 + i].value);
  }
  const Item& score = items_[3];
  const bool is_integer = score.kind == Item::Kind::kInteger;
  if (!is_integer && score.kind != Item::Kind::kReal) {
    Fail(PatternFault::kBadScore,
         StrCat(Where(), ": score is ", Shown(score.text), ", must be a finite number"));
    return;
  }
  table_.layers.back()[head_] = {{*type, sizes[0], sizes[1]}, {score.value, is_integer}};
}

bool PatternReader::parse_error(size_t position,
                                const std::string& token,
                                const json::exception& error) {
  if (error.id == kNumberOverflow) {
    // The parser stops, but the text may be JSON: the number is refused where it stands.
    Take({Item::Kind::kOther, 0.0, token});
    if (fault_ == PatternFault::kNoFault) {
      const Item rest = {Item::Kind::kOther, 0.0, "behind a number that is too large"};
      items_.resize(std::max(items_.size(), kEntryItems), rest);
      CheckEntry();
    }
    return false;
  }
  fault_ = PatternFault::kNoFault;
  Fail(PatternFault::kSyntax, StrCat("the file is no JSON at byte ", position));
  return false;
}

std::string ScoreText(const core::PatternScore& score) {
  if (!score.is_integer) {
    return json(score.value).dump();
  }
  std::string digits = std::to_string(score.value);  // with six places behind the point
  digits.resize(digits.find('.'));
  return digits;
}

}  // namespace

const char* PatternFaultName(PatternFault fault) {
  constexpr const char* kNames[] = {"",
                                    "syntax",
                                    "not_array",
                                    "too_many_layers",
                                    "layer_not_object",
                                    "bad_head_key",
                                    "head_out_of_range",
                                    "duplicate_head",
                                    "entry_shape",
                                    "bad_type",
                                    "bad_budget",
                                    "budget_too_large",
                                    "bad_score"};
  return kNames[static_cast<size_t>(fault)];
}

Result<core::PatternTable> ParsePatterns(std::string_view text,
                                         const PatternLimits& limits,
                                         PatternFault* fault) {
  PatternReader reader(limits);
  // The parser would skip the one and end at the other.
  const bool marked = text.starts_with("\xef\xbb\xbf");
  const size_t zero = text.find('\0');
  if (marked || zero != text.npos) {
    if (fault != nullptr) {
      *fault = PatternFault::kSyntax;
    }
    return Status(StatusCode::kCorrupt,
                  StrCat("syntax: the file is no JSON at byte ", marked ? 0 : zero));
  }
  json::sax_parse(text, &reader);
  if (fault != nullptr) {
    *fault = reader.fault();
  }
  switch (reader.fault()) {
    case PatternFault::kNoFault:
      return reader.TakeTable();
    case PatternFault::kTooManyLayers:
    case PatternFault::kHeadOutOfRange:
      return Status(StatusCode::kMismatch, reader.message());
    default:
      return Status(StatusCode::kCorrupt, reader.message());
  }
}

std::string PatternText(const core::PatternTable& patterns) {
  std::string text = "[";
  for (size_t layer = 0; layer < patterns.layers.size(); ++layer) {
    text += layer == 0 ? "\n{" : ",\n{";
    bool first = true;
    for (const auto& [head, entry] : patterns.layers[layer]) {
      text += StrCat(first ? "\"" : ", \"",
                     head,
                     "\": [\"",
                     core::PatternTypeName(entry.sizes.type),
                     "\", ",
                     entry.sizes.a,
                     ", ",
                     entry.sizes.b,
                     ", ",
                     ScoreText(entry.score),
                     "]");
      first = false;
    }
    text += "}";
  }
  return text + "\n]\n";
}

Result<core::PatternTable> ReadPatterns(const std::string& path, const PatternLimits& limits) {
  HIPATTN_ASSIGN_OR_RETURN(const std::string text, ReadJsonFile(path));
  return ParsePatterns(text, limits);
}

Status WritePatterns(const std::string& path, const core::PatternTable& patterns) {
  return WriteJsonFile(path, PatternText(patterns));
}

}  // namespace hipattn::engine
