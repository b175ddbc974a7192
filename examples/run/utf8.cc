// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "utf8.h"

namespace hipattn_run {
namespace {

// Bytes of a character by its first byte; 0 for a byte that starts none.
size_t LengthByFirstByte(unsigned char first) {
  if (first < 0x80) {
    return 1;
  }
  if (first >= 0xc2 && first < 0xe0) {
    return 2;
  }
  if (first >= 0xe0 && first < 0xf0) {
    return 3;
  }
  return first >= 0xf0 && first < 0xf5 ? 4 : 0;
}

// Whether `second` may follow `first` (excludes overlong forms, surrogates and too large values).
bool IsSecondByte(unsigned char first, unsigned char second) {
  switch (first) {
    case 0xe0:
      return second >= 0xa0 && second < 0xc0;
    case 0xed:
      return second >= 0x80 && second < 0xa0;
    case 0xf0:
      return second >= 0x90 && second < 0xc0;
    case 0xf4:
      return second >= 0x80 && second < 0x90;
    default:
      return second >= 0x80 && second < 0xc0;
  }
}

// How many of the first `length` bytes fit together so far.
size_t MatchingBytes(std::string_view text, size_t length) {
  size_t matching = 1;
  while (matching < length && matching < text.size()) {
    const auto byte = static_cast<unsigned char>(text[matching]);
    const bool fits = matching == 1 ? IsSecondByte(static_cast<unsigned char>(text[0]), byte)
                                    : (byte & 0xc0) == 0x80;
    if (!fits) {
      break;
    }
    ++matching;
  }
  return matching;
}

}  // namespace

size_t Utf8CharLength(std::string_view text) {
  if (text.empty()) {
    return 0;
  }
  const size_t length = LengthByFirstByte(static_cast<unsigned char>(text[0]));
  return length != 0 && MatchingBytes(text, length) == length ? length : 0;
}

size_t FindInvalidUtf8(std::string_view text) {
  size_t position = 0;
  while (position < text.size()) {
    const size_t length = Utf8CharLength(text.substr(position));
    if (length == 0) {
      return position;
    }
    position += length;
  }
  return std::string_view::npos;
}

size_t CompleteUtf8Prefix(std::string_view text) {
  constexpr size_t kLongestStart = 3;
  for (size_t back = 1; back <= kLongestStart && back <= text.size(); ++back) {
    const std::string_view tail = text.substr(text.size() - back);
    const size_t length = LengthByFirstByte(static_cast<unsigned char>(tail[0]));
    if (length > back && MatchingBytes(tail, length) == back) {
      return text.size() - back;
    }
  }
  return text.size();
}

std::string ReplaceInvalidUtf8(std::string_view text) {
  std::string valid;
  valid.reserve(text.size());
  for (size_t position = 0; position < text.size();) {
    const size_t length = Utf8CharLength(text.substr(position));
    if (length == 0) {
      valid += "\xef\xbf\xbd";
      ++position;
    } else {
      valid += text.substr(position, length);
      position += length;
    }
  }
  return valid;
}

void AppendUtf8(uint32_t code_point, std::string* text) {
  const auto append = [text](uint32_t byte) { *text += static_cast<char>(byte); };
  if (code_point < 0x80) {
    append(code_point);
  } else if (code_point < 0x800) {
    append(0xc0 | (code_point >> 6));
    append(0x80 | (code_point & 63));
  } else if (code_point < 0x10000) {
    append(0xe0 | (code_point >> 12));
    append(0x80 | ((code_point >> 6) & 63));
    append(0x80 | (code_point & 63));
  } else {
    append(0xf0 | (code_point >> 18));
    append(0x80 | ((code_point >> 12) & 63));
    append(0x80 | ((code_point >> 6) & 63));
    append(0x80 | (code_point & 63));
  }
}

}  // namespace hipattn_run
