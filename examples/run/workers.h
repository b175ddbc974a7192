// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The threads of this program: a fixed number of them shares a loop by taking the next index when
// done with one, so that a thread the system has put aside delays one index only. Idle threads
// sleep. One call at a time; the calling thread takes part.
//
// What runs Inside shares its threads with the library: hipattn works in the arena it is called
// from. In arenas of their own each would wait for threads that still look for work in the other.
#ifndef HIPATTN_EXAMPLES_RUN_WORKERS_H_
#define HIPATTN_EXAMPLES_RUN_WORKERS_H_

#include <oneapi/tbb/blocked_range.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>

#include <cstddef>

namespace hipattn_run {

class Workers {
 public:
  explicit Workers(size_t num_threads)
      : num_threads_(num_threads), arena_(static_cast<int>(num_threads), 1) {}

  size_t num_threads() const { return num_threads_; }

  // fn(), in this arena.
  template <typename Fn>
  auto Inside(const Fn& fn) {
    return arena_.execute(fn);
  }

  // body(i) for every i in [0, count).
  template <typename Body>
  void ForEach(size_t count, const Body& body) {
    if (num_threads_ == 1 || count <= 1) {
      for (size_t i = 0; i < count; ++i) {
        body(i);
      }
      return;
    }
    arena_.execute([&] {
      tbb::parallel_for(
          tbb::blocked_range<size_t>(0, count, 1),
          [&](const tbb::blocked_range<size_t>& range) {
            for (size_t i = range.begin(); i != range.end(); ++i) {
              body(i);
            }
          },
          tbb::simple_partitioner());
    });
  }

 private:
  size_t num_threads_;
  tbb::task_arena arena_;
};

}  // namespace hipattn_run

#endif  // HIPATTN_EXAMPLES_RUN_WORKERS_H_
