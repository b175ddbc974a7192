// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "host/executors.h"

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace hipattn::host {
namespace {

// Every Run is a job in a list; idle workers and the caller draw indices from it. Waiting is by
// condition variable only.
class StdExecutor : public device::Executor {
 public:
  explicit StdExecutor(unsigned num_threads) {
    try {
      for (unsigned i = 1; i < num_threads; ++i) {
        workers_.emplace_back([this] { Work(); });
      }
    } catch (...) {  // the system has no further thread for us
      Stop();
      throw;
    }
  }

  ~StdExecutor() override { Stop(); }

  StdExecutor(const StdExecutor&) = delete;
  StdExecutor& operator=(const StdExecutor&) = delete;

  unsigned concurrency() const override { return static_cast<unsigned>(workers_.size()) + 1; }

  void Run(size_t count, TaskFn fn, void* arg) override {
    if (count <= 1 || workers_.empty()) {
      for (size_t i = 0; i < count; ++i) {
        fn(arg, i);
      }
      return;
    }
    auto job = std::make_shared<Job>(Job{fn, arg, count});
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      jobs_.push_back(job);
    }
    changed_.notify_all();
    Draw(*job);
    std::unique_lock<std::mutex> lock(mutex_);
    finished_.wait(lock, [&] { return job->done == job->count; });
  }

 private:
  struct Job {
    TaskFn fn;
    void* arg;
    size_t count;
    size_t next = 0;  // both under mutex_
    size_t done = 0;
  };

  void Stop() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    for (std::thread& worker : workers_) {
      worker.join();
    }
  }

  void Draw(Job& job) {
    std::unique_lock<std::mutex> lock(mutex_);
    while (job.next < job.count) {
      const size_t index = job.next++;
      lock.unlock();
      job.fn(job.arg, index);
      lock.lock();
      if (++job.done == job.count) {
        finished_.notify_all();
      }
    }
    std::erase_if(jobs_, [](const std::shared_ptr<Job>& j) { return j->next == j->count; });
  }

  void Work() {
    std::unique_lock<std::mutex> lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return stop_ || !jobs_.empty(); });
      if (stop_) {
        return;
      }
      const std::shared_ptr<Job> job = jobs_.back();  // the innermost of nested jobs first
      lock.unlock();
      Draw(*job);
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;   // a job came, or stop_
  std::condition_variable finished_;  // the last index of some job has run
  std::deque<std::shared_ptr<Job>> jobs_;
  bool stop_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace

std::unique_ptr<device::Executor> CreateExecutor(unsigned num_threads) {
  return std::make_unique<StdExecutor>(num_threads);
}

}  // namespace hipattn::host
