// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "host/executors.h"

#include <oneapi/tbb/blocked_range.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>

#include <stdexcept>
#include <system_error>

namespace hipattn::host {
namespace {

// A caller that is inside an arena of at most our threads keeps its work there: its threads are the
// ones that are awake, and a thread that still looks for work in one arena is late in another. Any
// other caller gets an arena of the executor's own, so that the embedding program's use of TBB and
// ours do not limit each other. No global_control is touched.
class TbbExecutor : public device::Executor {
 public:
  explicit TbbExecutor(unsigned num_threads)
      : num_threads_(num_threads), arena_(static_cast<int>(num_threads), 1) {}

  unsigned concurrency() const override { return num_threads_; }

  void Run(size_t count, TaskFn fn, void* arg) override {
    if (num_threads_ == 1 || count <= 1) {
      for (size_t i = 0; i < count; ++i) {
        fn(arg, i);
      }
      return;
    }
    try {
      if (tbb::this_task_arena::current_thread_index() >= 0 &&
          tbb::this_task_arena::max_concurrency() <= static_cast<int>(num_threads_)) {
        RunHere(count, fn, arg);
      } else {
        arena_.execute([&] { RunHere(count, fn, arg); });
      }
    } catch (const std::runtime_error& error) {
      // Tasks do not throw, so it is TBB, which could not start a thread: said as std::thread does.
      throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again),
                              error.what());
    }
  }

 private:
  static void RunHere(size_t count, TaskFn fn, void* arg) {
    tbb::parallel_for(
        tbb::blocked_range<size_t>(0, count, 1),
        [&](const tbb::blocked_range<size_t>& range) {
          for (size_t i = range.begin(); i != range.end(); ++i) {
            fn(arg, i);
          }
        },
        tbb::simple_partitioner());
  }

  unsigned num_threads_;
  tbb::task_arena arena_;
};

}  // namespace

std::unique_ptr<device::Executor> CreateExecutor(unsigned num_threads) {
  return std::make_unique<TbbExecutor>(num_threads);
}

}  // namespace hipattn::host
