// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// UTF-8 as Unicode defines it: no overlong forms, no surrogates, nothing above U+10FFFF.
#ifndef HIPATTN_EXAMPLES_RUN_UTF8_H_
#define HIPATTN_EXAMPLES_RUN_UTF8_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace hipattn_run {

// Bytes of the well-formed character at the start of `text`; 0 if there is none.
size_t Utf8CharLength(std::string_view text);

// Position of the first byte that is not part of well-formed UTF-8; npos if all is.
size_t FindInvalidUtf8(std::string_view text);

// The longest prefix of `text` that does not end inside a character. Bytes that can never become
// UTF-8 are kept: only a character that more bytes could complete is left off.
size_t CompleteUtf8Prefix(std::string_view text);

// Well-formed text: every invalid byte becomes U+FFFD.
std::string ReplaceInvalidUtf8(std::string_view text);

// Appends the UTF-8 form of a code point.
void AppendUtf8(uint32_t code_point, std::string* text);

}  // namespace hipattn_run

#endif  // HIPATTN_EXAMPLES_RUN_UTF8_H_
