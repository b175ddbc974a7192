// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "offload/file_pool.h"

#include <algorithm>
#include <system_error>

namespace hipattn::offload {

FilePool::~FilePool() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  came_.notify_all();
  for (std::thread& thread : threads_) {
    thread.join();
  }
}

std::string FilePool::Name() const {
  return StrCat(depth_, " threads, because ", reason_);
}

void FilePool::AddThreads(size_t most) {
  threads_.reserve(most);
  try {
    while (threads_.size() < most) {
      threads_.emplace_back([this] { Work(); });
    }
  } catch (const std::system_error&) {
    return;  // the others do its work
  }
}

void FilePool::Run(std::span<FileTransfer> transfers, const Ended& ended) {
  AddThreads(std::min<size_t>(transfers.size(), depth_) - (transfers.empty() ? 0 : 1));
  std::unique_lock<std::mutex> lock(mutex_);
  batch_ = transfers;
  on_end_ = &ended;
  next_ = 0;
  if (transfers.size() > 1) {
    came_.notify_all();
  }
  RunSome(&lock);
  ended_.wait(lock, [&] { return running_ == 0; });
  batch_ = {};
}

void FilePool::Work() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    came_.wait(lock, [&] { return stopping_ || next_ < batch_.size(); });
    if (stopping_) {
      return;
    }
    RunSome(&lock);
    if (running_ == 0) {
      ended_.notify_one();
    }
  }
}

void FilePool::RunSome(std::unique_lock<std::mutex>* lock) {
  while (next_ < batch_.size()) {
    const size_t transfer = next_++;
    ++running_;
    lock->unlock();
    RunTransfer(calls_, file_, &batch_[transfer]);
    (*on_end_)(transfer);
    lock->lock();
    --running_;
  }
}

}  // namespace hipattn::offload
