// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Executor: the one way this library runs work on several threads. Production uses oneTBB,
// sanitizer builds std::thread (races inside an uninstrumented TBB frame are invisible to TSan).
#ifndef HIPATTN_DEVICE_EXECUTOR_H_
#define HIPATTN_DEVICE_EXECUTOR_H_

#include <cstddef>
#include <type_traits>

namespace hipattn::device {

class Executor {
 public:
  using TaskFn = void (*)(void* arg, size_t index);

  Executor() = default;
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;
  virtual ~Executor() = default;

  // Threads that can run tasks at the same time, the caller's included; at least 1.
  virtual unsigned concurrency() const = 0;

  // Runs fn(arg, i) once for every i in [0, count), in any order, and returns when all have run.
  // The caller's thread takes part, so the call proceeds when every other thread is busy elsewhere.
  // No thread spins while it waits for another. Thread-safe; a nested call is allowed. fn must not
  // throw.
  virtual void Run(size_t count, TaskFn fn, void* arg) = 0;
};

// Runs body(i) for every i in [0, count). A single task runs in place.
template <typename Body>
void ParallelFor(Executor& executor, size_t count, Body&& body) {
  if (count == 1) {
    body(size_t{0});
    return;
  }
  using Plain = std::remove_reference_t<Body>;
  executor.Run(
      count,
      [](void* arg, size_t index) { (*static_cast<Plain*>(arg))(index); },
      const_cast<void*>(static_cast<const void*>(&body)));
}

}  // namespace hipattn::device

#endif  // HIPATTN_DEVICE_EXECUTOR_H_
