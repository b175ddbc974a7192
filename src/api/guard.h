// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Guard: the C boundary. Nothing of ours throws, but std and TBB may.
#ifndef HIPATTN_API_GUARD_H_
#define HIPATTN_API_GUARD_H_

#include "hipattn/hipattn.h"

#include "api/last_error.h"
#include "base/status.h"

#include <exception>
#include <new>
#include <stdexcept>
#include <system_error>

namespace hipattn::api {

// Runs body, which returns Status, and turns its status or its exception into a C status and the
// thread's last error message. A body must not change anything before its last step that can fail.
template <typename Body>
hipattn_status_t Guard(const Body& body) noexcept {
  try {
    const Status status = body();
    if (!status.ok()) {
      SetLastError(status.message());
    }
    return static_cast<hipattn_status_t>(status.code());
  } catch (const std::bad_alloc&) {
    SetLastError("the system refused memory");
    return HIPATTN_OUT_OF_MEMORY;
  } catch (const std::length_error& error) {  // a container asked for more than it can ever hold
    SetLastError(error.what());
    return HIPATTN_OUT_OF_MEMORY;
  } catch (const std::system_error& error) {  // std::thread: no memory for a stack, or a limit
    SetLastError(error.what());
    return error.code() == std::errc::resource_unavailable_try_again ? HIPATTN_OUT_OF_MEMORY
                                                                     : HIPATTN_INTERNAL;
  } catch (const std::exception& error) {
    SetLastError(error.what());
    return HIPATTN_INTERNAL;
  } catch (...) {
    SetLastError("an unknown exception reached the C boundary");
    return HIPATTN_INTERNAL;
  }
}

}  // namespace hipattn::api

#endif  // HIPATTN_API_GUARD_H_
