// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// From run-time parameters to kernel templates and tasks. Compiled once per instruction set.
#ifndef HIPATTN_HOST_KERNELS_DISPATCH_H_
#define HIPATTN_HOST_KERNELS_DISPATCH_H_

#include "base/dtype.h"
#include "device/executor.h"
#include "device/ops.h"
#include "host/vec/vec.h"

#include <cstddef>
#include <cstdint>

namespace hipattn::host::HIPATTN_ISA {

// Calls fn with the tag of an element type: fn(F32{}), fn(F16{}) or fn(Bf16{}).
template <typename Fn>
static inline void WithTag(DType dtype, Fn&& fn) {
  switch (dtype) {
    case DType::kF32:
      fn(F32{});
      return;
    case DType::kF16:
      fn(F16{});
      return;
    case DType::kBf16:
      fn(Bf16{});
      return;
  }
}

// Runs body(i) for every i in [0, count), on the caller's thread alone when all of it takes less
// than waking another one. `elements` is what it touches in all, roughly.
template <typename Body>
static inline void RunTasks(const device::OpContext& context,
                            size_t count,
                            uint64_t elements,
                            Body&& body) {
  constexpr uint64_t kWorthAThread =
      32768;  // some 10 us of scalar work, a few times what a wake-up takes
  if (elements < kWorthAThread) {
    for (size_t i = 0; i < count; ++i) {
      body(i);
    }
    return;
  }
  device::ParallelFor(*context.executor, count, body);
}

// Cuts [0, count) into runs, a few for each thread, which evens out threads that start late, and
// calls run(first, last) for each of them.
template <typename Run>
static inline void ParallelRuns(const device::OpContext& context, uint64_t count, const Run& run) {
  constexpr uint64_t kTasksPerThread = 4;
  if (count == 0) {
    return;
  }
  const uint64_t threads = context.executor->concurrency();
  const uint64_t wanted = threads == 1 ? 1 : threads * kTasksPerThread;
  const uint64_t num_tasks = count < wanted ? count : wanted;
  device::ParallelFor(*context.executor, num_tasks, [&](size_t task) {
    run(count * task / num_tasks, count * (task + 1) / num_tasks);
  });
}

// dst[0, count) = src[0, count), widened or rounded. `count` is a multiple of 8.
template <typename To, typename From>
static inline void ConvertRow(
    To to, typename To::Elem* dst, From from, const typename From::Elem* src, int count) {
  int i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    Store(to, dst + i, Load(from, src + i));
  }
  if (i < count) {
    StoreFirst(to, dst + i, LoadFirst(from, src + i, count - i), count - i);
  }
}

}  // namespace hipattn::host::HIPATTN_ISA

#endif  // HIPATTN_HOST_KERNELS_DISPATCH_H_
