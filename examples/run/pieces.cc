// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "pieces.h"

#include "utf8.h"

#include <algorithm>
#include <charconv>

namespace hipattn_run {

std::string TextOfPiece(std::string_view piece) {
  constexpr std::string_view kSpace = "\xe2\x96\x81";
  std::string text;
  for (size_t position = 0; position < piece.size();) {
    if (piece.substr(position).starts_with(kSpace)) {
      text += ' ';
      position += kSpace.size();
    } else {
      text += piece[position++];
    }
  }
  return text;
}

std::optional<uint8_t> ByteOfPiece(std::string_view piece) {
  constexpr std::string_view kPrefix = "<0x";
  if (piece.size() != 6 || !piece.starts_with(kPrefix) || piece.back() != '>') {
    return std::nullopt;
  }
  uint8_t byte = 0;
  const char* end = piece.data() + 5;
  const auto [parsed, error] = std::from_chars(piece.data() + kPrefix.size(), end, byte, 16);
  return error == std::errc() && parsed == end ? std::optional(byte) : std::nullopt;
}

void AddMergesOf(std::string_view text,
                 int32_t token,
                 float score,
                 const std::function<std::optional<int32_t>(std::string_view)>& find,
                 MergeTable* merges) {
  for (size_t cut = Utf8CharLength(text); cut != 0 && cut < text.size();) {
    const std::optional<int32_t> left = find(text.substr(0, cut));
    const std::optional<int32_t> right = find(text.substr(cut));
    if (left && right) {
      merges->Add(*left, *right, {-double{score}, token});
    }
    cut += std::max<size_t>(1, Utf8CharLength(text.substr(cut)));
  }
}

}  // namespace hipattn_run
