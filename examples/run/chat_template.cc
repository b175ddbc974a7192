// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "chat_template.h"

#include "result.h"

namespace hipattn_run {
namespace {

// The words between the start of a system turn and its end, if the template spells them out:
// anything with quotes or braces in it is program text.
std::string FindSystemMessage(std::string_view jinja,
                              std::string_view begin,
                              std::string_view end) {
  for (size_t at = jinja.find(begin); at != std::string_view::npos;
       at = jinja.find(begin, at + begin.size())) {
    std::string_view rest = jinja.substr(at + begin.size());
    // Line breaks inside Jinja strings may be written as \n.
    if (rest.starts_with("\\n")) {
      rest.remove_prefix(2);
    } else if (rest.starts_with("\n")) {
      rest.remove_prefix(1);
    }
    const std::string_view message = rest.substr(0, rest.find(end));
    if (message.size() < rest.size() && !message.empty() &&
        message.find_first_of("'\"{}\\") == std::string_view::npos) {
      return std::string(message);
    }
  }
  return {};
}

}  // namespace

ChatTemplate ChatTemplate::FromFile(const GgufFile& file) {
  Result<std::string_view> jinja = file.GetString("tokenizer.chat_template");
  return jinja.ok() ? FromText(jinja.value()) : ChatTemplate();
}

ChatTemplate ChatTemplate::FromText(std::string_view jinja) {
  ChatTemplate result;
  if (jinja.find("<|im_start|>") != std::string_view::npos) {
    result.family_ = Family::kChatMl;
    result.system_message_ = FindSystemMessage(jinja, "<|im_start|>system", "<|im_end|>");
  } else if (jinja.find("<|start_header_id|>") != std::string_view::npos) {
    result.family_ = Family::kLlama3;
  }
  return result;
}

std::string ChatTemplate::Apply(std::string_view user_message) const {
  switch (family_) {
    case Family::kChatMl: {
      std::string text;
      if (!system_message_.empty()) {
        text = Concat("<|im_start|>system\n", system_message_, "<|im_end|>\n");
      }
      return Concat(
          text, "<|im_start|>user\n", user_message, "<|im_end|>\n<|im_start|>assistant\n");
    }
    case Family::kLlama3:
      return Concat("<|start_header_id|>user<|end_header_id|>\n\n",
                    user_message,
                    "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n");
    case Family::kNone:
      break;
  }
  return std::string(user_message);
}

}  // namespace hipattn_run
