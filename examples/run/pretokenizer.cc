// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "pretokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>

namespace hipattn_run {
namespace {

// The expressions of the families, as published with the models.
constexpr const char* kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S))";
constexpr const char* kDigit = R"(\p{N})";
constexpr const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kPunctuation = R"([\p{P}\$\+<=>\^~\|]+)";
constexpr const char* kNumber = R"(\p{N}+)";
constexpr const char* kThreeDigits = R"([0-9][0-9][0-9])";

struct Family {
  std::string_view name;
  std::array<const char*, 4> expressions;
  bool whole_words_first;
};

constexpr Family kFamilies[] = {
    {"gpt-2", {kGpt2}, false},
    {"phi-2", {kGpt2}, false},
    {"mpt", {kGpt2}, false},
    {"olmo", {kGpt2}, false},
    {"smollm", {kDigit, kGpt2}, false},
    {"starcoder", {kDigit, kGpt2}, false},
    {"refact", {kDigit, kGpt2}, false},
    {"command-r", {kDigit, kGpt2}, false},
    {"codeshell", {kDigit, kGpt2}, false},
    {"exaone", {kDigit, kGpt2}, false},
    {"llama-bpe", {kLlama3}, true},
    {"llama3", {kLlama3}, true},
    {"llama-v3", {kLlama3}, true},
    {"smaug-bpe", {kLlama3}, false},
    {"dbrx", {kLlama3}, false},
    {"qwen2", {kQwen2}, false},
    {"default", {kPunctuation, kGpt2, kNumber, kThreeDigits}, false},
};

}  // namespace

struct Pretokenizer::Expression {
  using Code = std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)>;
  using MatchData = std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)>;
  Code code{nullptr, pcre2_code_free};
  MatchData match{nullptr, pcre2_match_data_free};
};

Result<Pretokenizer> Pretokenizer::Create(std::string_view name) {
  const Family* family = std::find_if(std::begin(kFamilies),
                                      std::end(kFamilies),
                                      [name](const Family& f) { return f.name == name; });
  if (family == std::end(kFamilies)) {
    return Status::Error("tokenizer.ggml.pre is '", name, "', a pre-tokenizer this program lacks");
  }
  Pretokenizer result;
  result.whole_words_first_ = family->whole_words_first;
  for (const char* pattern : family->expressions) {
    if (pattern == nullptr) {
      break;
    }
    int error = 0;
    PCRE2_SIZE offset = 0;
    auto expression = std::make_shared<Expression>();
    expression->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern),
                                         PCRE2_ZERO_TERMINATED,
                                         PCRE2_UTF | PCRE2_UCP,
                                         &error,
                                         &offset,
                                         nullptr));
    if (expression->code == nullptr) {
      return Status::Error(
          "PCRE2 refuses the expression of '", name, "' at ", offset, ", error ", error);
    }
    // Without a JIT compiler the matching is slower and the same.
    pcre2_jit_compile(expression->code.get(), PCRE2_JIT_COMPLETE);
    expression->match.reset(pcre2_match_data_create(1, nullptr));
    result.expressions_.push_back(std::move(expression));
  }
  return result;
}

Status Pretokenizer::Split(std::string_view text,
                           const std::function<void(std::string_view)>& visit) const {
  return SplitFrom(0, text, visit);
}

Status Pretokenizer::SplitFrom(size_t level,
                               std::string_view text,
                               const std::function<void(std::string_view)>& visit) const {
  if (text.empty()) {
    return {};
  }
  if (level == expressions_.size()) {
    visit(text);
    return {};
  }
  const Expression& expression = *expressions_[level];
  size_t position = 0;
  while (position < text.size()) {
    const int count = pcre2_match(expression.code.get(),
                                  reinterpret_cast<PCRE2_SPTR>(text.data()),
                                  text.size(),
                                  position,
                                  PCRE2_NO_UTF_CHECK,
                                  expression.match.get(),
                                  nullptr);
    if (count == PCRE2_ERROR_NOMATCH) {
      break;
    }
    if (count < 0) {
      return Status::Error("PCRE2 gives up at byte ", position, ", error ", count);
    }
    const PCRE2_SIZE* range = pcre2_get_ovector_pointer(expression.match.get());
    const size_t begin = range[0];
    const size_t end = range[1];
    RUN_RETURN_IF_ERROR(SplitFrom(level + 1, text.substr(position, begin - position), visit));
    RUN_RETURN_IF_ERROR(SplitFrom(level + 1, text.substr(begin, end - begin), visit));
    position = end;
  }
  return SplitFrom(level + 1, text.substr(position), visit);
}

}  // namespace hipattn_run
