// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "prompt.h"

#include "utf8.h"

namespace hipattn_run {
namespace {

// The start of the document that has at most this many tokens.
Result<std::string> CutDocument(const std::string& document,
                                uint64_t max_tokens,
                                Tokenizer& tokenizer) {
  Result<std::vector<int32_t>> tokens = tokenizer.Encode(document);
  if (!tokens.ok()) {
    return tokens.status();
  }
  if (tokens.value().size() <= max_tokens) {
    return document;
  }
  tokens.value().resize(max_tokens);
  std::string text = tokenizer.Decode(tokens.value());
  text.resize(CompleteUtf8Prefix(text));
  return text;
}

Result<std::string> ReadDocument(const Options& options, Tokenizer& tokenizer) {
  Result<std::string> document = ReadTextFile(options.prompt_file);
  if (!document.ok()) {
    return document.status();
  }
  const size_t invalid = FindInvalidUtf8(document.value());
  if (invalid != std::string::npos) {
    return Status::Error("'", options.prompt_file, "' is not UTF-8 at byte ", invalid);
  }
  if (options.max_prompt_tokens != 0) {
    document = CutDocument(document.value(), options.max_prompt_tokens, tokenizer);
    if (!document.ok()) {
      return document.status();
    }
  }
  if (options.insert_fact.empty()) {
    return document;
  }
  return InsertFact(document.value(), options.insert_fact, options.insert_at);
}

}  // namespace

std::string InsertFact(const std::string& document, const std::string& fact, double at) {
  const auto begin = static_cast<size_t>(at * static_cast<double>(document.size()));
  const size_t line_break = document.find('\n', begin);
  const size_t position = line_break == std::string::npos ? document.size() : line_break + 1;
  const bool at_line_start = position == 0 || document[position - 1] == '\n';
  return Concat(document.substr(0, position),
                at_line_start ? "" : "\n",
                fact,
                "\n",
                document.substr(position));
}

Result<std::vector<int32_t>> MakePrompt(const Options& options,
                                        const ChatTemplate& chat_template,
                                        size_t trained_tokens,
                                        Tokenizer& tokenizer) {
  std::string message = options.prompt;
  const auto append = [&message](const std::string& part) {
    message += message.empty() || part.empty() ? "" : "\n\n";
    message += part;
  };
  if (!options.prompt_file.empty()) {
    Result<std::string> document = ReadDocument(options, tokenizer);
    if (!document.ok()) {
      return document.status();
    }
    append(document.value());
  }
  Result<std::vector<int32_t>> question = tokenizer.Encode(options.question);
  if (!question.ok()) {
    return Status::Error("--question: ", question.status().message());
  }
  if (question.value().size() >= trained_tokens) {
    return Status::Error("--question has ",
                         question.value().size(),
                         " tokens, the model's context ",
                         trained_tokens);
  }
  append(options.question);
  Result<std::vector<int32_t>> tokens =
      tokenizer.Encode(options.raw ? message : chat_template.Apply(message));
  if (!tokens.ok()) {
    return Status::Error("the prompt: ", tokens.status().message());
  }
  std::vector<int32_t>& list = tokens.value();
  if (tokenizer.add_bos() && tokenizer.bos() && (list.empty() || list[0] != *tokenizer.bos())) {
    list.insert(list.begin(), *tokenizer.bos());
  }
  if (list.empty()) {
    return Status::Error("the prompt has no tokens");
  }
  return tokens;
}

}  // namespace hipattn_run
