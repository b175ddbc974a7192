// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// CatchBadAlloc: where std may throw for want of memory and unwinding is not allowed (tasks of an
// executor) or what was begun must be taken back by hand.
#ifndef HIPATTN_BASE_BAD_ALLOC_H_
#define HIPATTN_BASE_BAD_ALLOC_H_

#include "base/status.h"

#include <new>
#include <stdexcept>

namespace hipattn {

// Runs fn, which returns Status; std::bad_alloc and std::length_error become kOutOfMemory.
template <typename Fn>
Status CatchBadAlloc(Fn&& fn) {
  constexpr const char* kMessage =
      "no memory left";  // short: a std::string of it allocates nothing
  try {
    return fn();
  } catch (const std::bad_alloc&) {
    return {StatusCode::kOutOfMemory, kMessage};
  } catch (const std::length_error&) {
    return {StatusCode::kOutOfMemory, kMessage};
  }
}

}  // namespace hipattn

#endif  // HIPATTN_BASE_BAD_ALLOC_H_
