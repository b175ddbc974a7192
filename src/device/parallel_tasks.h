// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// ParallelTasks: ParallelFor with tasks that can fail.
#ifndef HIPATTN_DEVICE_PARALLEL_TASKS_H_
#define HIPATTN_DEVICE_PARALLEL_TASKS_H_

#include "base/bad_alloc.h"
#include "base/status.h"
#include "device/executor.h"

#include <cstddef>
#include <mutex>
#include <utility>

namespace hipattn::device {

// Runs body(i), which returns Status, for every i in [0, count) in parallel; the first error that
// occurred. Tasks must not throw, so one that finds no memory fails.
template <typename Body>
Status ParallelTasks(Executor& executor, size_t count, const Body& body) {
  std::mutex mutex;
  Status first_error;
  ParallelFor(executor, count, [&](size_t i) {
    Status status = CatchBadAlloc([&] { return body(i); });
    if (!status.ok()) {
      const std::lock_guard<std::mutex> lock(mutex);
      if (first_error.ok()) {
        first_error = std::move(status);
      }
    }
  });
  return first_error;
}

}  // namespace hipattn::device

#endif  // HIPATTN_DEVICE_PARALLEL_TASKS_H_
