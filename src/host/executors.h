// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The executor of the CPU device: oneTBB (executor_tbb.cc) or, with HIPATTN_TBB=OFF, std::thread
// (executor_std.cc). One of the two is linked.
#ifndef HIPATTN_HOST_EXECUTORS_H_
#define HIPATTN_HOST_EXECUTORS_H_

#include "device/executor.h"

#include <memory>

namespace hipattn::host {

// num_threads >= 1, the caller's thread counted.
std::unique_ptr<device::Executor> CreateExecutor(unsigned num_threads);

}  // namespace hipattn::host

#endif  // HIPATTN_HOST_EXECUTORS_H_
