// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Wraps one user message the way the model was trained to see it. The template in a GGUF file is a
// Jinja program; the families below are recognised by their markers instead of running it.
#ifndef HIPATTN_EXAMPLES_RUN_CHAT_TEMPLATE_H_
#define HIPATTN_EXAMPLES_RUN_CHAT_TEMPLATE_H_

#include "gguf.h"

#include <string>
#include <string_view>

namespace hipattn_run {

class ChatTemplate {
 public:
  enum class Family { kNone, kChatMl, kLlama3 };

  // From `tokenizer.chat_template`; kNone if it is missing or not recognised. A default system
  // message written out in the template is used.
  static ChatTemplate FromFile(const GgufFile& file);
  static ChatTemplate FromText(std::string_view jinja);

  Family family() const { return family_; }
  const std::string& system_message() const { return system_message_; }

  // The text from the first token to where the answer begins.
  std::string Apply(std::string_view user_message) const;

 private:
  Family family_ = Family::kNone;
  std::string system_message_;
};

}  // namespace hipattn_run

#endif  // HIPATTN_EXAMPLES_RUN_CHAT_TEMPLATE_H_
