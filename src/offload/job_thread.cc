// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "offload/job_thread.h"

#include "base/bad_alloc.h"

#include <system_error>
#include <utility>

namespace hipattn::offload {

JobThread::~JobThread() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  came_.notify_one();
  if (thread_.joinable()) {
    thread_.join();
  }
}

Result<uint64_t> JobThread::Push(Job job) {
  if (!thread_.joinable()) {
    try {
      thread_ = std::thread([this] { Run(); });
    } catch (const std::system_error& error) {
      return OutOfMemory("no thread to move blocks with: ", error.what());
    }
  }
  uint64_t number = 0;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    queue_.push_back(std::move(job));
    number = ++num_pushed_;
  }
  came_.notify_one();
  return number;
}

bool JobThread::Done(uint64_t number) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return num_done_ >= number;
}

Status JobThread::Wait(uint64_t number) {
  std::unique_lock<std::mutex> lock(mutex_);
  done_.wait(lock, [&] { return num_done_ >= number; });
  const auto error = errors_.find(number);
  if (error == errors_.end()) {
    return Status::Ok();
  }
  Status status = std::move(error->second);
  errors_.erase(error);
  return status;
}

void JobThread::Run() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    came_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) {
      return;
    }
    const Job& job = queue_.front();  // stays where it is while others come behind it
    lock.unlock();
    Status status = CatchBadAlloc(job);
    lock.lock();
    queue_.pop_front();
    ++num_done_;
    if (!status.ok()) {
      errors_.emplace(num_done_, std::move(status));
    }
    done_.notify_all();
  }
}

}  // namespace hipattn::offload
