// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "offload/file_queue.h"

#include <system_error>
#include <utility>

namespace hipattn::offload {

Result<std::unique_ptr<FileQueue>> FileQueue::Create(FileCalls* calls, int file, std::string path) {
  std::unique_ptr<FileQueue> queue(new FileQueue(calls, file, std::move(path)));
  queue->threads_.reserve(kThreads);
  try {
    for (uint32_t i = 0; i < kThreads; ++i) {
      queue->threads_.emplace_back([raw = queue.get()] { raw->Run(); });
    }
  } catch (const std::system_error& error) {
    return OutOfMemory("no thread to read and write files: ", error.what());
  }
  return queue;
}

FileQueue::~FileQueue() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  submitted_.notify_all();
  for (std::thread& thread : threads_) {
    thread.join();
  }
}

void FileQueue::Submit(uint32_t slot, const FileTransfer& transfer) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    slots_[slot] = {SlotState::kWaiting, num_submitted_++, transfer};
  }
  submitted_.notify_one();
}

FileQueue::Slot* FileQueue::NextWaiting() {
  Slot* next = nullptr;
  for (Slot& slot : slots_) {
    if (slot.state == SlotState::kWaiting && (next == nullptr || slot.number < next->number)) {
      next = &slot;
    }
  }
  return next;
}

void FileQueue::Run() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    Slot* slot = nullptr;
    submitted_.wait(lock, [&] { return (slot = NextWaiting()) != nullptr || stopping_; });
    if (slot == nullptr) {
      return;
    }
    slot->state = SlotState::kRunning;
    lock.unlock();
    RunTransfer(calls_, file_, &slot->transfer);  // whose end is read when the state says kDone
    lock.lock();
    slot->state = SlotState::kDone;
    done_.notify_all();
  }
}

Status FileQueue::Wait(uint32_t number) {
  std::unique_lock<std::mutex> lock(mutex_);
  Slot& slot = slots_[number];
  done_.wait(lock,
             [&] { return slot.state == SlotState::kDone || slot.state == SlotState::kFree; });
  const Slot finished = std::exchange(slot, Slot{});
  lock.unlock();
  const FileTransfer& transfer = finished.transfer;
  if (transfer.error != 0) {
    return FileError(path_, transfer.writes ? "written" : "read", transfer.error);
  }
  if (transfer.ended_early) {
    return {StatusCode::kCorrupt,
            StrCat("path \"",
                   path_,
                   "\" ends before byte ",
                   transfer.offset,
                   " and ",
                   transfer.bytes,
                   " more")};
  }
  return Status::Ok();
}

}  // namespace hipattn::offload
