// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Structs that cross the C boundary, by the rules of struct_size: a caller's struct may be shorter
// (an older header) or longer (a newer one) than ours.
#ifndef HIPATTN_API_STRUCT_IO_H_
#define HIPATTN_API_STRUCT_IO_H_

#include "base/status.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>

namespace hipattn::api {

inline constexpr uint32_t kMinStructBytes = 8;
inline constexpr uint32_t kMaxStructBytes = 4096;

// `name` is the parameter's name in messages, `from` the caller's struct, of which nothing but
// struct_size is looked at.
inline Status CheckStructSize(const char* name, const void* from) {
  if (from == nullptr) {
    return InvalidArgument(name, " is NULL");
  }
  uint32_t bytes = 0;
  std::memcpy(&bytes, from, sizeof(bytes));
  if (bytes < kMinStructBytes || bytes > kMaxStructBytes || bytes % 4 != 0) {
    return InvalidArgument(name,
                           "->struct_size is ",
                           bytes,
                           ", must be a multiple of 4 from ",
                           kMinStructBytes,
                           " to ",
                           kMaxStructBytes);
  }
  return Status::Ok();
}

// Neighbouring fields of 8 bytes: from the offset of the first to the end of the last.
struct WideFields {
  size_t begin, end;
};

// Copies what both sides know of `from` into *to, zeros the rest. Fields are 4 or 8 bytes long and
// struct_size is a multiple of 4, so it can cut one in two, one of the `wide` ones: that one is 0.
template <typename Struct>
Status ReadStruct(const char* name,
                  const Struct* from,
                  std::initializer_list<WideFields> wide,
                  Struct* to) {
  HIPATTN_RETURN_IF_ERROR(CheckStructSize(name, from));
  const size_t given = from->struct_size;
  const auto* bytes = reinterpret_cast<const unsigned char*>(from);
  for (size_t i = sizeof(Struct); i < given; ++i) {
    if (bytes[i] != 0) {
      return InvalidArgument(name,
                             " has a value at byte ",
                             i,
                             ", beyond the ",
                             sizeof(Struct),
                             " bytes this version knows");
    }
  }
  size_t known = given < sizeof(Struct) ? given : sizeof(Struct);
  for (const WideFields& fields : wide) {
    if (known % 8 != 0 && known >= fields.begin && known < fields.end) {
      known -= 4;
    }
  }
  std::memset(to, 0, sizeof(Struct));
  std::memcpy(to, from, known);
  return Status::Ok();
}

// Writes min(struct_size, known) bytes of `from` to the caller's *to and zeros the rest of it; the
// caller's struct_size stays. REQUIRES: CheckStructSize(to).
template <typename Struct>
void WriteStruct(Struct from, Struct* to) {
  const uint32_t given = to->struct_size;
  const size_t known = given < sizeof(Struct) ? given : sizeof(Struct);
  from.struct_size = given;
  std::memset(to, 0, given);
  std::memcpy(to, &from, known);
}

}  // namespace hipattn::api

#endif  // HIPATTN_API_STRUCT_IO_H_
