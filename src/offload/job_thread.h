// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// JobThread: a thread that runs jobs one after the other, for what waits for a disk most of the
// time.
#ifndef HIPATTN_OFFLOAD_JOB_THREAD_H_
#define HIPATTN_OFFLOAD_JOB_THREAD_H_

#include "base/result.h"

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

namespace hipattn::offload {

// One thread at a time calls it.
class JobThread {
 public:
  using Job = std::function<Status()>;

  JobThread() = default;
  // Runs every job first.
  ~JobThread();
  JobThread(const JobThread&) = delete;
  JobThread& operator=(const JobThread&) = delete;

  // The job's number, from 1 on. The thread starts with the first. kOutOfMemory: there is none to
  // be had.
  Result<uint64_t> Push(Job job);
  uint64_t num_pushed() const { return num_pushed_; }
  bool Done(uint64_t number);
  // Until the job is done. Its error is returned once.
  Status Wait(uint64_t number);

 private:
  void Run();

  std::mutex mutex_;
  std::condition_variable came_, done_;
  std::deque<Job> queue_;    // the first is running, or next
  uint64_t num_pushed_ = 0;  // written by the caller's thread alone
  uint64_t num_done_ = 0;
  std::map<uint64_t, Status> errors_;  // by job
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace hipattn::offload

#endif  // HIPATTN_OFFLOAD_JOB_THREAD_H_
